"""Many objects, little memory, credentials that end, and the cache on disk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from remote.conftest import SHAPE, Remote, crops_of, make_place, pipeline_for, random_begins
from fault_proxy import FaultProxy, MetadataEndpoint
from reading import PATIENCE
from servers import READER, Nginx, SeaweedFS

import damacy

COUNT = 1000


@pytest.fixture(scope="module")
def thousand(web_root: Path) -> tuple[str, np.ndarray]:
    """A thousand shards, each an object of its own."""
    array = zarr.create_array(web_root / "thousand.zarr", shape=(COUNT, 32, 32), chunks=(1, 16, 16), shards=(1, 32, 32), dtype="u2", compressors=None)
    data = np.random.default_rng(8).integers(0, 2**16, array.shape, dtype="u2")
    array[...] = data
    assert sum(1 for path in (web_root / "thousand.zarr" / "c").rglob("*") if path.is_file()) == COUNT
    return "thousand.zarr", data


def test_a_thousand_shards(nginx: Nginx, thousand: tuple[str, np.ndarray], seed: int) -> None:
    name, data = thousand
    rng = np.random.default_rng(seed)
    begins = np.stack([rng.permutation(COUNT), rng.integers(0, 9, COUNT), rng.integers(0, 9, COUNT)], axis=1)
    with pipeline_for({}, sample_shape=(1, 24, 24), samples_per_batch=16) as pipeline:
        for epoch in range(2):
            crops_of(pipeline, f"http://127.0.0.1:{nginx.http}/{name}", data, begins, (1, 24, 24), tag=epoch * COUNT)


def test_a_thousand_shards_in_s3(seaweed: SeaweedFS, web_root: Path, thousand: tuple[str, np.ndarray], request: pytest.FixtureRequest) -> None:
    name, data = thousand
    place = make_place("s3-reader", request)
    uri = place.ensure(name, web_root / name)
    begins = np.stack([np.arange(COUNT)[::-1], np.zeros(COUNT, int), np.zeros(COUNT, int)], axis=1)
    with pipeline_for(place.options, sample_shape=(1, 32, 32), samples_per_batch=16) as pipeline:
        crops_of(pipeline, uri, data, begins, (1, 32, 32))


LIMITED = """
import json, resource, sys
import numpy as np
import damacy

def status(what):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024

uri, limit, data_limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# However many cores there are: each thread has a stack, which counts as data.
config = damacy.Config(samples_per_batch=4, sample_shape=(8, 128, 128), dtype="native", max_host_memory_bytes=limit, worker_count=2)
before = status("VmHWM")
if data_limit:  # beyond what there is already: NumPy may have a thread, with its stack, for each core
    resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + data_limit,) * 2)
sums = []
with damacy.Pipeline(config) as pipeline:
    begins = np.random.default_rng(1).integers(0, 33, (200, 3))
    begins[:, 1:] *= 4
    begins[:, 0] %= 25
    pipeline.push_arrays([uri], np.zeros(len(begins), int), begins)
    for batch in pipeline.batches():
        with batch as tensor:
            sums += [int(values.astype("u8").sum()) for values in np.asarray(tensor)]
print(json.dumps({"sums": sums, "growth": status("VmHWM") - before, "described": config.describe()}))
"""


@pytest.fixture(scope="module")
def large(web_root: Path) -> tuple[str, list[int]]:
    """Its name, and the sums of the crops that LIMITED takes of it."""
    array = zarr.create_array(web_root / "large.zarr", shape=(32, 256, 256), chunks=(8, 64, 64), shards=(16, 128, 128), dtype="u2", compressors=None)
    data = np.random.default_rng(9).integers(0, 2**16, array.shape, dtype="u2")
    array[...] = data
    begins = np.random.default_rng(1).integers(0, 33, (200, 3))
    begins[:, 1:] *= 4
    begins[:, 0] %= 25
    boxes = [tuple(slice(b, b + s) for b, s in zip(begin, (8, 128, 128))) for begin in begins]
    return "large.zarr", [int(data[box].astype("u8").sum()) for box in boxes]


def run_limited(uri: str, limit: int, data_limit: int, before: Callable[[], None] | None = None) -> tuple[list[int], int, str]:
    """Sums, bytes by which the process grew, and what describe() said."""
    command = [sys.executable, "-c", LIMITED, uri, str(limit), str(data_limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=before)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    answer = json.loads(done.stdout)
    return answer["sums"], answer["growth"], answer["described"]


def test_little_memory(nginx: Nginx, large: tuple[str, list[int]]) -> None:
    """RLIMIT_DATA allows little more than max_host_memory_bytes; all comes, and the process does not grow beyond it."""
    name, expected = large
    limit = 96 << 20
    sums, growth, _ = run_limited(f"http://127.0.0.1:{nginx.http}/{name}", limit, limit + (192 << 20))
    assert sums == expected
    print(f"grew by {growth / 1e6:.0f} MB")
    assert growth <= limit  # the network and its library included


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Callable[[], None]]:
    """A memory cgroup of `limit` bytes; gives what a process calls to move into it. Skips where none can be made, or does not work."""
    versions = (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit),
        ("/sys/fs/cgroup", "memory.max", "memory.swap.max", 0),
    )
    group = setting = swap = None
    swap_limit = 0
    for base, setting, swap, swap_limit in versions:
        group = Path(base) / f"damacy-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if (group / setting).exists():
                break
            group.rmdir()
        group = None
    if group is None:
        pytest.skip("no memory cgroup can be made here")
    entrance = str(group / "cgroup.procs")

    def enter() -> None:
        door = os.open(entrance, os.O_WRONLY)
        os.write(door, b"0")  # whoever writes
        os.close(door)

    try:
        try:
            (group / setting).write_text(str(limit))
            if (group / swap).exists():
                (group / swap).write_text(str(swap_limit))
            hog = subprocess.run([sys.executable, "-c", f"x = bytearray(b'x') * {2 * limit}"], preexec_fn=enter, capture_output=True)
        except (OSError, subprocess.SubprocessError) as reason:
            pytest.skip(f"the memory cgroup cannot be set up: {reason}")
        if hog.returncode != -signal.SIGKILL:
            pytest.skip(f"the memory cgroup limits nothing: what takes twice as much ended with {hog.returncode}")
        yield enter
    finally:
        for _ in range(1000):  # it is busy until the kernel has cleared away the processes that were in it
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def test_in_a_memory_cgroup(nginx: Nginx, large: tuple[str, list[int]]) -> None:
    """A container's limit is seen and kept without any setting: the kernel would kill the process otherwise."""
    name, expected = large
    limit = 192 << 20
    with memory_group(limit) as enter:
        sums, growth, described = run_limited(f"http://127.0.0.1:{nginx.http}/{name}", 0, 0, enter)
    assert sums == expected
    print(f"grew by {growth / 1e6:.0f} MB\n{described}")
    assert growth <= limit // 4  # what damacy allows itself of the memory that there is


@pytest.mark.parametrize("kind", ["instance", "container"])
def test_credentials_end_in_mid_run(seaweed: SeaweedFS, sharded: Remote, request: pytest.FixtureRequest, monkeypatch, kind: str) -> None:
    """What the metadata service hands out holds for seconds; new ones are fetched before, and nothing fails."""
    uri = make_place("s3-keys", request).ensure("sharded.zarr", sharded.folder)
    rng = np.random.default_rng(3)
    with MetadataEndpoint(READER.access, READER.secret, lifetime_s=3) as metadata:
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        if kind == "instance":
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint)
        else:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.endpoint}/container/credentials")
        threads = {"network_threads": 3 if kind == "container" else 1}
        begin, epoch = time.monotonic(), 0
        with pipeline_for({"endpoint_url": seaweed.endpoint, "region": "us-east-1"} | threads, samples_per_batch=8) as pipeline:
            while metadata.issued < 4 or epoch < 20:  # renewed several times, and used many times
                crops_of(pipeline, uri, sharded.data, random_begins(rng, sharded.data.shape, SHAPE, 16), SHAPE, tag=epoch * 16)
                epoch += 1
                time.sleep(0.1)
        # Expirations are told in whole seconds, so that new ones may be due after one second.
        assert metadata.issued <= time.monotonic() - begin + 2, "they are asked for again and again"


def test_no_metadata_service(seaweed: SeaweedFS, monkeypatch) -> None:
    """A service that does not answer as it should is an error, in good time."""
    with MetadataEndpoint(READER.access, READER.secret, lifetime_s=100) as metadata:
        metadata.fail_next = 10**6
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint)
        options = {"endpoint_url": seaweed.endpoint, "region": "us-east-1", "request_timeout": PATIENCE}
        with pipeline_for(options, samples_per_batch=1) as pipeline:
            pipeline.push(damacy.Sample("s3://private/sharded.zarr", [(0, s) for s in SHAPE]))
            with pytest.raises(damacy.DamacyError) as caught:
                pipeline.pop(timeout=PATIENCE)
    assert isinstance(caught.value, damacy.StorageError) and "metadata service answered 500" in str(caught.value)


def test_second_epoch_from_the_disk(nginx: Nginx, web_root: Path, thousand: tuple[str, np.ndarray], tmp_path: Path) -> None:
    """With a cache, a second run reads metadata over the network and all else from here, as soon as all is kept: what a busy disk has
    not taken when a pipeline ends is read once more."""
    name, data = thousand
    begins = np.stack([np.arange(200), np.zeros(200, int), np.zeros(200, int)], axis=1)
    with FaultProxy(nginx.http) as proxy:
        options = {"cache_dir": str(tmp_path / "cache"), "cache_bytes_max": 64 << 20}
        warm = 0
        for run in range(20):
            before = len(proxy.requests)
            with pipeline_for(options, sample_shape=(1, 32, 32), samples_per_batch=8) as pipeline:
                crops_of(pipeline, f"{proxy.endpoint}/{name}", data, begins, (1, 32, 32))
                stats = pipeline.remote_stats()
            assert run or stats["cache_misses"] > 200
            assert 0 < stats["cache_used_bytes"] <= stats["cache_bytes_max"] == 64 << 20
            asked = proxy.requests[before:]
            if stats["cache_misses"] == 0:
                assert stats["cache_hits"] > 200
                assert all("zarr.json" in path for _, path, _, _ in asked), f"{len(asked)} requests in run {run}"
                warm += 1
            if warm == 2:
                break
        assert warm == 2
    assert sum(path.stat().st_blocks * 512 for path in (tmp_path / "cache").rglob("*") if path.is_file()) <= 64 << 20


SHARING = """
import sys
import numpy as np
sys.path[:0] = sys.argv[3:]
import damacy
uri, cache = sys.argv[1:3]
config = damacy.Config(samples_per_batch=8, sample_shape=(1, 32, 32), dtype="native", storage_options={"cache_dir": cache, "cache_bytes_max": 8 << 20})
total = 0
with damacy.Pipeline(config) as pipeline:
    for epoch in range(3):
        begins = np.stack([np.arange(300), np.zeros(300, int), np.zeros(300, int)], axis=1)
        pipeline.push_arrays([uri], np.zeros(300, int), begins)
        pipeline.flush()
        seen = 0
        while seen < 300:
            with pipeline.pop(300) as tensor:
                values = np.asarray(tensor)
                seen += len(values)
                total += int(values.astype("u8").sum())
print(total)
"""


def test_two_processes_share_the_cache(nginx: Nginx, thousand: tuple[str, np.ndarray], tmp_path: Path) -> None:
    """At once on one folder, one more killed on the way."""
    name, data = thousand
    uri, cache = f"http://127.0.0.1:{nginx.http}/{name}", str(tmp_path / "cache")
    command = [sys.executable, "-c", SHARING, uri, cache]
    victim = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    time.sleep(0.8)
    victim.kill()
    victim.wait()
    expected = 3 * int(data[:300].astype("u8").sum())
    for child in children:
        output, _ = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0 and int(output) == expected
    assert os.listdir(cache)
