"""Servers for the tests over a network: started once a session, on loopback and free ports, and gone afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "support"))

from reading import PATIENCE, config, on_host  # noqa: E402
from servers import READER, WRITER, Certificates, Nginx, SeaweedFS, Unavailable, encode_key, make_certificates  # noqa: E402

import damacy  # noqa: E402

# Nothing of the machine's own settings or credentials takes part.
for name in list(os.environ):
    if name.startswith("AWS_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent/aws"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    try:
        return make_certificates(tmp_path_factory.mktemp("certificates"))
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def web_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("www")


@pytest.fixture(scope="session")
def nginx(web_root: Path, certificates: Certificates) -> Iterator[Nginx]:
    try:
        server = Nginx(web_root, certificates)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedFS]:
    try:
        server = SeaweedFS()
    except Unavailable as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@dataclass
class Place:
    """Somewhere that arrays can be put, and how damacy gets at them."""

    name: str
    base: str  # what a uri begins with
    options: dict[str, Any]
    put: Callable[[str, Path], None]  # name, folder with the array
    kept: set[str] = field(default_factory=set)

    def uri(self, name: str) -> str:
        encoded = name if self.base.startswith("s3:") else encode_key(name)
        return f"{self.base}/{encoded}"

    def ensure(self, name: str, folder: Path) -> str:
        if name not in self.kept:
            self.put(name, folder)
            self.kept.add(name)
        return self.uri(name)


def s3_options(endpoint: str, keys: Any = None, **more: Any) -> dict[str, Any]:
    access = {"anon": True} if keys is None else {"key": keys.access, "secret": keys.secret}
    return {"endpoint_url": endpoint, "region": "us-east-1"} | access | more


PLACES = ["s3-keys", "s3-reader", "s3-anonymous", "http", "https", "https-h2", "http-noranges"]
# A machine of few cores has one network thread unless told otherwise: of each kind of place one is read by several.
SEVERAL_THREADS = {"network_threads": 3}
THREADED = ("s3-reader", "https", "https-h2")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return make_place(request.param, request)


KEPT: dict[str, set[str]] = {}


def make_place(name: str, request: pytest.FixtureRequest) -> Place:
    if name.startswith("s3"):
        server: SeaweedFS = request.getfixturevalue("seaweed")
        bucket = "public" if name == "s3-anonymous" else "private"
        keys = {"s3-keys": WRITER, "s3-reader": READER, "s3-anonymous": None}[name]

        def put(key: str, folder: Path) -> None:
            server.put_tree(bucket, key, folder)

        more = SEVERAL_THREADS if name in THREADED else {}
        return Place(name, f"s3://{bucket}", s3_options(server.endpoint, keys, **more), put, KEPT.setdefault(bucket, set()))
    web: Nginx = request.getfixturevalue("nginx")
    root: Path = request.getfixturevalue("web_root")

    def link(key: str, folder: Path) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).symlink_to(folder)

    base = {
        "http": f"http://127.0.0.1:{web.http}",
        "https": f"https://localhost:{web.https}",
        "https-h2": f"https://localhost:{web.http2}",
        "http-noranges": f"http://127.0.0.1:{web.http}/noranges",
    }[name]
    certificates: Certificates = request.getfixturevalue("certificates")
    options: dict[str, Any] = {"ca_bundle": str(certificates.ca)} if name.startswith("https") else {}
    options |= SEVERAL_THREADS if name in THREADED else {}
    return Place(name, base, options, link, KEPT.setdefault("web", set()))


@dataclass(frozen=True)
class Remote:
    folder: Path
    data: np.ndarray


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    """uint16 (32, 96, 96) in shards of 16 x 64 x 64 and chunks of 8 x 32 x 32; one shard is absent."""
    folder = tmp_path_factory.mktemp("remote") / "sharded.zarr"
    array = zarr.create_array(folder, shape=(32, 96, 96), chunks=(8, 32, 32), shards=(16, 64, 64), dtype="u2", fill_value=7)
    data = np.random.default_rng(1).integers(0, 4096, array.shape).astype("u2")
    data[16:, 64:, 64:] = 7
    array[...] = data
    assert not (folder / "c" / "1" / "1" / "1").exists()
    return Remote(folder, data)


SHAPE = (4, 16, 16)

# For tests that make requests fail: these are tried again at once. Nothing else shall fail, so what a busy machine leaves lying is waited for.
PATIENT = {"request_timeout": PATIENCE, "stall_timeout": PATIENCE, "backoff_min": 0.02, "backoff_max": 0.2, "retries": 100}
# For answers that stop: these have to be told from those that a busy machine leaves lying, which may be taken for stalls and tried again.
STALLING = PATIENT | {"stall_timeout": 3}


def crops_of(pipeline: damacy.Pipeline, uri: str, data: np.ndarray, begins: np.ndarray, shape: tuple[int, ...], tag: int = 0) -> None:
    """Push crops, and compare all that comes with numpy: nothing lost, nothing reordered, to the bit."""
    pipeline.push(damacy.Sample(uri, [(int(b), int(b) + s) for b, s in zip(begin, shape)], tag + i) for i, begin in enumerate(begins))
    pipeline.flush()
    expect(pipeline, data, begins, shape, tag)


def expect(pipeline: damacy.Pipeline, data: np.ndarray, begins: np.ndarray, shape: tuple[int, ...], tag: int = 0) -> None:
    row = 0
    while row < len(begins):
        batch = pipeline.pop(timeout=PATIENCE)
        assert list(batch.info.tags) == list(range(tag + row, tag + row + len(batch.info.rows)))
        with batch as tensor:
            for values in on_host(tensor):
                box = tuple(slice(b, b + s) for b, s in zip(begins[row], shape))
                np.testing.assert_array_equal(values, data[box], err_msg=f"crop {row} at {begins[row]}")
                row += 1


def random_begins(rng: np.random.Generator, extent: tuple[int, ...], shape: tuple[int, ...], count: int) -> np.ndarray:
    return np.stack([rng.integers(0, e - s + 1, count) for e, s in zip(extent, shape)], axis=1)


def pipeline_for(options: dict[str, Any], **settings: Any) -> damacy.Pipeline:
    settings = {"samples_per_batch": 4, "sample_shape": SHAPE, "dtype": "native"} | settings
    return damacy.Pipeline(config(storage_options=options, **settings))
