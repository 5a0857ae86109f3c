"""Zip files and kerchunk references behind a network: the container itself is an object there, and so is what references name.

Every crop is compared with numpy. What a container leads to must not be chosen by whoever serves it: files of this machine are refused.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from reading import PATIENCE
from remote.conftest import SHAPE, Place, Remote, crops_of, make_place, pipeline_for, random_begins

import damacy


def write_zip(folder: Path, path: Path, method: int) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"in side/{file.relative_to(folder)}")


def write_references(base: str, folder: Path, rng: np.random.Generator) -> np.ndarray:
    """An array of uncompressed chunks that lie in one file, in another order, with something in front of each."""
    data = rng.integers(0, 2**16, (8, 32, 32)).astype("<u2")
    meta = {"zarr_format": 2, "shape": [8, 32, 32], "chunks": [4, 16, 16], "dtype": "<u2", "compressor": None, "fill_value": 0, "order": "C", "filters": None}
    refs: dict[str, object] = {".zgroup": '{"zarr_format": 2}', "t2m/.zarray": json.dumps(meta)}
    body = b""
    for number in rng.permutation(8):
        z, y, x = number // 4, number // 2 % 2, number % 2
        body += rng.bytes(int(rng.integers(0, 50)))
        chunk = np.ascontiguousarray(data[4 * z : 4 * z + 4, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]).tobytes()
        refs[f"t2m/{z}.{y}.{x}"] = ["{{u}}", len(body), len(chunk)]
        body += chunk
    (folder / "file.nc").write_bytes(body)
    (folder / "refs.json").write_text(json.dumps({"version": 1, "templates": {"u": f"{base}/file.nc"}, "refs": refs}))
    local = {"version": 1, "refs": refs | {f"t2m/{z}.{y}.{x}": [str(folder / "file.nc"), 0, 2048] for z in (0, 1) for y in (0, 1) for x in (0, 1)}}
    (folder / "local.json").write_text(json.dumps(local))
    return data


@pytest.fixture(params=["s3-keys", "http", "https-h2", "http-noranges"])
def box(request: pytest.FixtureRequest, sharded: Remote, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str, np.ndarray, Path]:
    place = make_place(request.param, request)
    folder = tmp_path_factory.mktemp("containers")
    write_zip(sharded.folder, folder / "stored.zarr.zip", zipfile.ZIP_STORED)
    write_zip(sharded.folder, folder / "deflated.zarr.zip", zipfile.ZIP_DEFLATED)
    name = f"containers-{request.param}"
    uri = place.uri(name)
    data = write_references(uri, folder, np.random.default_rng(7))
    shutil.copy(folder / "refs.json", folder / "broken.zip")
    place.ensure(name, folder)
    return place, uri, data, folder


@pytest.mark.parametrize("name", ["stored", "deflated"])
def test_zip(box: tuple[Place, str, np.ndarray, Path], sharded: Remote, seed: int, name: str) -> None:
    place, uri, _, _ = box
    begins = random_begins(np.random.default_rng(seed), sharded.data.shape, SHAPE, 24)
    inside = "in side" if uri.startswith("s3:") else "in%20side"
    with pipeline_for(place.options) as pipeline:
        crops_of(pipeline, f"{uri}/{name}.zarr.zip/{inside}", sharded.data, begins, SHAPE)
    node = damacy.open(f"{uri}/{name}.zarr.zip/{inside}", storage_options=place.options)
    assert node.shape == sharded.data.shape


def test_references(box: tuple[Place, str, np.ndarray, Path], seed: int) -> None:
    place, uri, data, folder = box
    begins = random_begins(np.random.default_rng(seed), data.shape, SHAPE, 24)
    for where in (f"{uri}/refs.json", str(folder / "refs.json")):  # behind the network, and here
        with pipeline_for(place.options) as pipeline:
            crops_of(pipeline, f"{where}/t2m", data, begins, SHAPE)
    assert {child.name for child in damacy.open(f"{uri}/refs.json", storage_options=place.options).children} == {"t2m"}


def test_what_is_refused(box: tuple[Place, str, np.ndarray, Path]) -> None:
    place, uri, _, _ = box
    sample = [(0, 4), (0, 16), (0, 16)]
    cases = {
        f"{uri}/local.json/t2m": (damacy.Unsupported, "file of this machine"),
        f"{uri}/broken.zip/t2m": (damacy.DecodeError, "zip"),
        f"{uri}/absent.zip/t2m": (damacy.NotFound, "absent.zip"),
    }
    for where, (kind, says) in cases.items():
        with pipeline_for(place.options, samples_per_batch=1) as pipeline:
            pipeline.push([damacy.Sample(where, sample)])
            with pytest.raises(kind, match=says):
                pipeline.pop(timeout=PATIENCE)
