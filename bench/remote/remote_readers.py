"""Readers over S3 for bench/remote/run_remote.py: each does what its authors advise for speed, and fills float32 batches.

Started as `python remote_readers.py NAME CROPS BUCKET ENDPOINT --ahead N`; N batches may be under way at once, for every reader. Answers
commands on stdin, one line of JSON each: `round FIRST COUNT`, `check COUNT PATH`, `fresh` (everything is opened anew next time).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from workload import read_crops  # noqa: E402

Crop = tuple[int, tuple[int, ...]]


class Reader:
    distribution: ClassVar[str]

    def __init__(self, names: list[str], sample: tuple[int, ...], batch: int, bucket: str, endpoint: str, ahead: int) -> None:
        self.names, self.sample, self.batch = names, sample, batch
        self.bucket, self.endpoint, self.ahead = bucket, endpoint, ahead
        self.buffers = [np.zeros((batch, *sample), np.float32) for _ in range(ahead + 1)]
        self.open()

    def open(self) -> None:
        raise NotImplementedError

    def issue(self, buffer: np.ndarray, crops: Sequence[Crop]) -> Any:
        raise NotImplementedError

    def finish(self, issued: Any) -> None:
        raise NotImplementedError

    def slices(self, begin: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(b, b + s) for b, s in zip(begin, self.sample))

    def batches(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        """In order, `ahead` of them under way. An array holds until the next one is asked for."""
        under_way: deque[tuple[np.ndarray, Any]] = deque()
        first = number = 0
        while first < len(crops) or under_way:
            while first < len(crops) and len(under_way) < self.ahead:
                part = crops[first : first + self.batch]
                buffer = self.buffers[number % len(self.buffers)][: len(part)]
                under_way.append((buffer, self.issue(buffer, part)))
                first += len(part)
                number += 1
            buffer, issued = under_way.popleft()
            self.finish(issued)
            yield buffer

    def extra(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


class Tensorstore(Reader):
    """The s3 driver; all crops of the batches under way at the same time."""

    distribution = "tensorstore"

    def open(self) -> None:
        import tensorstore

        self.ts = tensorstore
        cores = len(os.sched_getaffinity(0))
        limits = {"data_copy_concurrency": {"limit": cores}, "s3_request_concurrency": {"limit": 128}}
        self.context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}, **limits})
        self.stores: dict[int, Any] = {}

    def issue(self, buffer: np.ndarray, crops: Sequence[Crop]) -> Any:
        s3 = {"driver": "s3", "bucket": self.bucket, "endpoint": self.endpoint, "aws_region": "us-east-1"}
        s3["aws_credentials"] = {"type": "anonymous"}
        spec = {"driver": "zarr3", "recheck_cached_data": False, "recheck_cached_metadata": False}
        missing = [array for array in dict.fromkeys(array for array, _ in crops) if array not in self.stores]
        kvstores = [{**s3, "path": f"{self.names[array]}/"} for array in missing]
        opened = [self.ts.open({**spec, "kvstore": store}, read=True, open=True, context=self.context) for store in kvstores]
        for array, future in zip(missing, opened):
            self.stores[array] = self.ts.cast(future.result(), self.ts.float32)
        targets = [self.ts.array(row, context=self.context) for row in buffer]
        return [target.write(self.stores[array][self.slices(begin)]) for target, (array, begin) in zip(targets, crops)]

    def finish(self, issued: Any) -> None:
        for future in issued:
            future.result()


class ZarrAsync(Reader):
    """zarr-python's asynchronous arrays on an event loop of their own; all crops of the batches under way at the same time."""

    distribution = "zarr"

    def open(self) -> None:
        import zarr
        from zarr.api import asynchronous

        zarr.config.set({"async.concurrency": 64, "threading.max_workers": len(os.sched_getaffinity(0))})
        self.open_array = asynchronous.open_array
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.arrays: dict[int, Any] = {}

    async def store(self, name: str) -> Any:
        raise NotImplementedError

    async def array(self, index: int) -> Any:
        if index not in self.arrays:
            self.arrays[index] = asyncio.ensure_future(self.make(index))
        return await self.arrays[index]

    async def make(self, index: int) -> Any:
        return await self.open_array(store=await self.store(self.names[index]), mode="r", zarr_format=3)

    async def read(self, row: np.ndarray, crop: Crop) -> None:
        array = await self.array(crop[0])
        row[...] = await array.getitem(self.slices(crop[1]))

    async def read_all(self, buffer: np.ndarray, crops: Sequence[Crop]) -> None:
        await asyncio.gather(*(self.read(row, crop) for row, crop in zip(buffer, crops)))

    def issue(self, buffer: np.ndarray, crops: Sequence[Crop]) -> Any:
        return asyncio.run_coroutine_threadsafe(self.read_all(buffer, crops), self.loop)

    def finish(self, issued: Any) -> None:
        issued.result()


class ZarrObstore(ZarrAsync):
    distribution = "obstore"

    async def store(self, name: str) -> Any:
        from obstore.store import S3Store
        from zarr.storage import ObjectStore

        options = {"skip_signature": True, "virtual_hosted_style_request": False, "client_options": {"allow_http": True}}
        inner = S3Store(self.bucket, prefix=name, endpoint=self.endpoint, region="us-east-1", **options)
        return ObjectStore(inner, read_only=True)


class ZarrFsspec(ZarrAsync):
    distribution = "s3fs"

    async def store(self, name: str) -> Any:
        from s3fs import S3FileSystem
        from zarr.storage import FsspecStore

        if not hasattr(self, "system"):
            config = {"max_pool_connections": 128}
            self.system = S3FileSystem(anon=True, endpoint_url=self.endpoint, asynchronous=True, config_kwargs=config)
        return FsspecStore(self.system, read_only=True, path=f"{self.bucket}/{name}")


class Damacy(Reader):
    distribution = "damacy"

    def open(self) -> None:
        import damacy

        self.close()
        self.damacy = damacy
        options = {"endpoint_url": self.endpoint, "region": "us-east-1", "anon": True}
        if extra := os.environ.get("DAMACY_BENCH_OPTIONS"):
            options |= json.loads(extra)
        settings = json.loads(os.environ.get("DAMACY_BENCH_SETTINGS", "{}"))
        # One slot more than batches under way: the consumer holds one.
        self.pipeline = damacy.Pipeline(
            damacy.Config(
                samples_per_batch=self.batch,
                sample_shape=self.sample,
                dtype="f32",
                storage_options=options,
                **({"batch_slots": self.ahead + 1} | settings),
            )
        )

    def batches(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        sample, shape = self.damacy.Sample, self.sample
        uris = [f"s3://{self.bucket}/{name}" for name in self.names]
        self.pipeline.push(sample(uri=uris[array], aabb=[(b, b + s) for b, s in zip(begin, shape)]) for array, begin in crops)
        for batch in self.pipeline.batches():
            with batch as tensor:
                yield np.from_dlpack(tensor)

    def extra(self) -> dict[str, Any]:
        return {"stats": self.pipeline.remote_stats()}

    def close(self) -> None:
        if hasattr(self, "pipeline"):
            self.pipeline.close()


READERS: dict[str, type[Reader]] = {"damacy": Damacy, "tensorstore": Tensorstore, "zarr+obstore": ZarrObstore, "zarr+fsspec": ZarrFsspec}


def thread_seconds() -> dict[str, float]:
    """CPU time of each thread of this process; none where the kernel does not say."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended just now
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def do_round(reader: Reader, crops: Sequence[Crop]) -> dict[str, Any]:
    waits, delivered, threads = [], 0, thread_seconds()
    wall, cpu = time.perf_counter(), time.process_time()
    last = wall
    for batch in reader.batches(crops):
        now = time.perf_counter()
        waits.append(now - last)
        delivered += len(batch)
        last = time.perf_counter()
    if delivered != len(crops):
        raise RuntimeError(f"{delivered} samples came for {len(crops)}")
    cpu = time.process_time() - cpu
    busiest = max((seconds - threads.get(task, 0) for task, seconds in thread_seconds().items()), default=0.0)
    return {"wall": last - wall, "cpu": cpu, "busiest": busiest, "waits": waits, "samples": delivered} | reader.extra()


def check(reader: Reader, crops: Sequence[Crop]) -> dict[str, Any]:
    elements = int(np.prod(reader.sample))
    factors = 2 * np.arange(elements, dtype=np.uint64) + np.uint64(1)
    hashes = []
    for batch in reader.batches(crops):
        for row in batch:
            words = np.ascontiguousarray(row).reshape(-1).view(np.uint32).astype(np.uint64)
            hashes.append(f"{int((words * factors).sum(dtype=np.uint64)):016x}")
    return {"hashes": hashes}


def main() -> int:
    parser = argparse.ArgumentParser(description="A reader of the remote benchmark, driven through stdin.")
    parser.add_argument("name", choices=READERS)
    parser.add_argument("crops", type=Path)
    parser.add_argument("bucket")
    parser.add_argument("endpoint")
    parser.add_argument("--ahead", type=int, default=4)
    args = parser.parse_args()
    batch, sample, uris, crops = read_crops(args.crops)
    names = [Path(uri).name for uri in uris]
    reader = READERS[args.name](names, sample, batch, args.bucket, args.endpoint, args.ahead)
    print(json.dumps({"ready": True, "version": importlib.metadata.version(reader.distribution)}), flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        try:
            if command == "round":
                answer = do_round(reader, crops[int(words[0]) : int(words[0]) + int(words[1])])
            elif command == "check":
                answer = check(reader, crops[: int(words[0])])
            elif command == "fresh":
                reader.open()
                answer = {}
            else:
                break
        except Exception as problem:  # the benchmark goes on without this reader
            answer = {"error": f"{type(problem).__name__}: {problem}"[:500]}
        print(json.dumps(answer), flush=True)
    reader.close()
    sys.stdout.flush()
    os._exit(0)  # threads of event loops


if __name__ == "__main__":
    sys.exit(main())
