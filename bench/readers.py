"""The readers in Python: each does what its authors advise for speed, and fills float32 batches.

Started by bench/run.py as `python bench/readers.py NAME CROPS --threads N`; then it answers the commands that
bench/c/bench_common.h describes. A reader is a class with `open`, which makes everything anew, and `batches`, which yields the
batches of a run of crops as arrays (count, *sample) that hold until the next one is asked for.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from workload import read_crops

Crop = tuple[int, tuple[int, ...]]


class Reader:
    """What all readers share: the workload and two recycled batch buffers."""

    distribution: ClassVar[str]

    def __init__(self, uris: list[str], sample: tuple[int, ...], batch: int, threads: int) -> None:
        self.uris, self.sample, self.batch, self.threads = uris, sample, batch, threads
        self.buffers = [np.zeros((batch, *sample), np.float32) for _ in range(2)]

    def open(self) -> None:
        """Forget what was opened before and begin anew."""
        raise NotImplementedError

    def batches(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        """Deliver the crops in order; the last batch may be shorter."""
        raise NotImplementedError

    def slices(self, begin: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(b, b + s) for b, s in zip(begin, self.sample))

    def split(self, crops: Sequence[Crop]) -> Iterator[Sequence[Crop]]:
        for first in range(0, len(crops), self.batch):
            yield crops[first : first + self.batch]

    def describe(self, arrays: Sequence[int]) -> int:
        """Open arrays by their numbers as fast as the library can, and look at each one's shape; returns the sum of their ranks."""
        raise NotImplementedError("this reader does not take part in opening")

    def close(self) -> None:
        """Let go of threads."""


class Tensorstore(Reader):
    """One context for all arrays; the reads of a batch run at the same time, each writing its converted crop into the batch;
    the next batch is under way while one waits for this one."""

    distribution = "tensorstore"
    cache_bytes: ClassVar[int] = 0

    def open(self) -> None:
        import tensorstore

        self.ts = tensorstore
        self.context = tensorstore.Context(
            {
                "cache_pool": {"total_bytes_limit": self.cache_bytes},
                "data_copy_concurrency": {"limit": self.threads},
                "file_io_concurrency": {"limit": max(32, 4 * self.threads)},
            }
        )
        self.stores: dict[int, Any] = {}
        self.targets = [[tensorstore.array(row, context=self.context) for row in buffer] for buffer in self.buffers]

    def want(self, arrays: list[int]) -> None:
        """Open, at the same time, those arrays that are not open yet."""
        missing = [array for array in dict.fromkeys(arrays) if array not in self.stores]
        for array, future in zip(missing, self.opened(missing)):
            self.stores[array] = self.ts.cast(future.result(), self.ts.float32)

    def opened(self, arrays: Sequence[int]) -> list[Any]:
        """Futures of the arrays, all under way at once."""
        driver = "zarr" if os.path.exists(os.path.join(self.uris[0], ".zarray")) else "zarr3"
        spec = {"driver": driver, "recheck_cached_data": False, "recheck_cached_metadata": False}
        return [
            self.ts.open(
                {**spec, "kvstore": {"driver": "file", "path": self.uris[array]}}, read=True, open=True, context=self.context
            )
            for array in arrays
        ]

    def describe(self, arrays: Sequence[int]) -> int:
        return sum(len(future.result().shape) for future in self.opened(arrays))

    def batches(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        # Tried and no faster: a tensorstore.Batch around these reads, one batch at a time, more copy threads, fewer I/O
        # threads, and read() with the conversion left to NumPy.
        def issue(slot: int, part: Sequence[Crop]) -> tuple[int, int, list[Any]]:
            self.want([array for array, _ in part])
            rows = zip(self.targets[slot], part)
            return slot, len(part), [target.write(self.stores[array][self.slices(begin)]) for target, (array, begin) in rows]

        under_way: deque[tuple[int, int, list[Any]]] = deque()
        for index, part in enumerate(self.split(crops)):
            under_way.append(issue(index % 2, part))
            if len(under_way) == 2:
                yield self.finish(under_way.popleft())
        while under_way:
            yield self.finish(under_way.popleft())

    def finish(self, issued: tuple[int, int, list[Any]]) -> np.ndarray:
        slot, count, futures = issued
        for future in futures:
            future.result()
        return self.buffers[slot][:count]


class TensorstoreCached(Tensorstore):
    """The same with a cache of 128 MiB for decoded chunks and shard indexes."""

    cache_bytes = 128 << 20


class ZarrPython(Reader):
    """zarr-python as it comes: one crop after the other, chunks concurrent inside."""

    distribution = "zarr"
    pipeline: ClassVar[str | None] = None

    def open(self) -> None:
        import zarr

        settings: dict[str, Any] = {"threading.max_workers": self.threads}
        if self.pipeline:
            settings |= {"codec_pipeline.path": self.pipeline, "codec_pipeline.max_workers": self.threads}
        zarr.config.set(settings)
        self.zarr = zarr
        self.arrays: dict[int, Any] = {}

    def array(self, index: int) -> Any:
        if index not in self.arrays:
            self.arrays[index] = self.zarr.open_array(self.uris[index], mode="r")
        return self.arrays[index]

    def describe(self, arrays: Sequence[int]) -> int:
        # All at once through the asynchronous interface; one after the other takes about as long.
        import asyncio

        from zarr.api.asynchronous import open_array

        async def opened() -> list[Any]:
            return await asyncio.gather(*(open_array(store=self.uris[array], mode="r") for array in arrays))

        return sum(len(array.shape) for array in asyncio.run(opened()))

    def batches(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        for number, part in enumerate(self.split(crops)):
            buffer = self.buffers[number % 2]
            for row, (array, begin) in enumerate(part):
                buffer[row] = self.array(array)[self.slices(begin)]
            yield buffer[: len(part)]


class ZarrFused(ZarrPython):
    """zarr-python with its fused, synchronous codec pipeline."""

    pipeline = "zarr.core.codec_pipeline.FusedCodecPipeline"


class Zarrs(ZarrPython):
    """zarr-python with the codec pipeline of the zarrs crate."""

    distribution = "zarrs"
    pipeline = "zarrs.ZarrsCodecPipeline"


class Threaded(Reader):
    """Readers that release the GIL: a pool of threads, each reading whole crops on its own. Two batches are under way."""

    def open(self) -> None:
        self.close()
        self.pool = ThreadPoolExecutor(self.threads)
        self.arrays: dict[int, Any] = {}

    def close(self) -> None:
        if hasattr(self, "pool"):
            self.pool.shutdown()

    def read(self, row: np.ndarray, crop: Crop) -> None:
        raise NotImplementedError

    def batches(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        under_way: deque[tuple[np.ndarray, list[Any]]] = deque()

        def finish() -> np.ndarray:
            buffer, futures = under_way.popleft()
            for future in futures:
                future.result()
            return buffer

        for index, part in enumerate(self.split(crops)):
            buffer = self.buffers[index % 2]
            under_way.append((buffer[: len(part)], [self.pool.submit(self.read, row, crop) for row, crop in zip(buffer, part)]))
            if len(under_way) == 2:
                yield finish()
        while under_way:
            yield finish()


class Zarrista(Threaded):
    """The zarrs crate without zarr-python."""

    distribution = "zarrista"

    def open(self) -> None:
        super().open()
        import zarrista
        from zarrista.store import FilesystemStore

        self.open_array: Callable[[str], Any] = lambda uri: zarrista.Array.open(FilesystemStore(uri))

    def read(self, row: np.ndarray, crop: Crop) -> None:
        index, begin = crop
        array = self.arrays.get(index)
        if array is None:
            array = self.arrays[index] = self.open_array(self.uris[index])
        # One thread a crop: the pool already keeps every core busy.
        row[...] = array.retrieve_array_subset(self.slices(begin), concurrent_target=1).to_numpy()


class Z5py(Threaded):
    """z5py, one thread a crop."""

    distribution = "z5py"

    def open(self) -> None:
        super().open()
        import z5py

        self.open_file: Callable[[str], Any] = lambda folder: z5py.File(folder, mode="r", use_zarr_format=True)

    def read(self, row: np.ndarray, crop: Crop) -> None:
        index, begin = crop
        array = self.arrays.get(index)
        if array is None:
            folder, name = os.path.split(self.uris[index])
            array = self.arrays[index] = self.open_file(folder)[name]
        row[...] = array.read_subarray(begin, tuple(b + s for b, s in zip(begin, self.sample)))


class Damacy(Reader):
    """damacy with a Sample object for each crop."""

    distribution = "damacy"

    def open(self) -> None:
        import damacy

        self.close()
        self.damacy = damacy
        # 0 leaves the number of workers to damacy: one per allowed core.
        workers = 0 if self.threads == len(os.sched_getaffinity(0)) else self.threads
        config = damacy.Config(samples_per_batch=self.batch, sample_shape=self.sample, dtype="f32", worker_count=workers)
        self.pipeline = damacy.Pipeline(config)

    def close(self) -> None:
        if hasattr(self, "pipeline"):
            self.pipeline.close()

    def describe(self, arrays: Sequence[int]) -> int:
        return sum(found.ndim for found in self.damacy.open_many(self.uris[array] for array in arrays))

    def push(self, crops: Sequence[Crop]) -> None:
        sample, shape, uris = self.damacy.Sample, self.sample, self.uris
        self.pipeline.push(sample(uri=uris[array], aabb=[(b, b + s) for b, s in zip(begin, shape)]) for array, begin in crops)

    def batches(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        self.push(crops)
        for batch in self.pipeline.batches():
            with batch as tensor:
                yield np.from_dlpack(tensor)


READERS: dict[str, type[Reader]] = {
    "tensorstore": Tensorstore,
    "tensorstore-cache": TensorstoreCached,
    "zarr-python": ZarrPython,
    "zarr-fused": ZarrFused,
    "zarrs": Zarrs,
    "zarrista": Zarrista,
    "z5py": Z5py,
    "damacy-py": Damacy,
}


def memory() -> dict[str, int]:
    """Resident bytes of this process, now and at most."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in ("VmRSS", "VmHWM"):
            found[key] = int(value.split()[0]) * 1024
    return {"resident": found["VmRSS"], "peak": found["VmHWM"]}


def deliver(reader: Reader, crops: Sequence[Crop]) -> int:
    delivered = 0
    for batch in reader.batches(crops):
        delivered += len(batch)
        del batch  # as the C readers do, who give a batch back before they ask for the next
    if delivered != len(crops):
        raise RuntimeError(f"{delivered} samples came for {len(crops)}")
    return delivered


def timed(work: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def check(reader: Reader, crops: Sequence[Crop], path: str) -> None:
    """Write the hash of each sample, as bench_hash() of bench/c/bench_common.h computes it."""
    elements = int(np.prod(reader.sample))
    factors = 2 * np.arange(elements, dtype=np.uint64) + np.uint64(1)
    with open(path, "w") as file:
        for batch in reader.batches(crops):
            for row in batch:
                words = np.ascontiguousarray(row).reshape(-1).view(np.uint32).astype(np.uint64)
                file.write(f"{int((words * factors).sum(dtype=np.uint64)):016x}\n")


class Session:
    """One reader and its answers to commands."""

    def __init__(self, kind: type[Reader], path: Path, threads: int) -> None:
        self.kind, self.threads = kind, threads
        self.batch, self.sample, self.uris, self.crops = read_crops(path)
        self.base = memory()["resident"]
        self.reader: Reader | None = None

    def make(self, batch: int) -> Reader:
        reader = self.kind(self.uris, self.sample, batch, self.threads)
        reader.open()
        return reader

    def ready(self) -> Reader:
        """The reader, made when first needed."""
        if self.reader is None:
            self.reader = self.make(self.batch)
        return self.reader

    def round(self, first: int, count: int, fresh: bool = False) -> dict[str, Any]:
        reader, crops = self.ready(), self.crops[first : first + count]
        if fresh:
            reader.open()
        return timed(lambda: deliver(reader, crops)) | {"samples": count}

    def opening(self, first: int, count: int) -> dict[str, Any]:
        """Describe the arrays of samples; everything is new, as in `fresh`."""
        reader, arrays = self.ready(), [array for array, _ in self.crops[first : first + count]]
        reader.open()
        found: list[int] = []
        reply = timed(lambda: found.append(reader.describe(arrays)))
        if found != [count * len(self.sample)]:
            raise RuntimeError(f"{found} axes in {count} arrays")
        return reply | {"samples": count}

    def first(self, count: int) -> dict[str, Any]:
        made: list[Reader] = []

        def begin() -> None:
            made.append(self.make(count))
            next(iter(made[0].batches(self.crops[:count])))

        reply = timed(begin)
        made[0].close()
        return reply

    def answer(self, command: str, words: list[str]) -> dict[str, Any]:
        match command:
            case "round" | "fresh":
                return self.round(int(words[0]), int(words[1]), command == "fresh")
            case "open":
                return self.opening(int(words[0]), int(words[1]))
            case "first":
                return self.first(int(words[0]))
            case "check":
                check(self.ready(), self.crops[: int(words[0])], words[1])
                return {"ok": True}
            case "memory":
                return memory() | {"base": self.base}
        return {"error": f"unknown command {command}"}

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="A reader of the benchmark, driven through stdin.")
    parser.add_argument("name", choices=READERS)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)  # zarrs and zarrista read it when they start
    kind = READERS[args.name]
    session = Session(kind, args.crops, args.threads)
    print(json.dumps({"ready": True, "version": importlib.metadata.version(kind.distribution)}), flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "quit":
            break
        try:
            reply = session.answer(command, words)
        except Exception as error:  # the harness reports it and goes on without this reader
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
    session.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
