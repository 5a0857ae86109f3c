"""Write the benchmark's data sets with zarr-python, once.

The content is made up but behaves like a fluorescence stack from an sCMOS camera: an offset, smooth structures at two scales,
shot noise and read noise. zstd level 3 shrinks it about 2.3 times, with blosc's shuffle before it about 2.8 times, as it does
real stacks of that kind. Every 4D set holds the same pixels. `python bench/data.py --help` tells the rest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VERSION = 1  # raise it when the content or the layout changes, so that old data are written anew
SEED = 20240613

ARRAY_SHAPE = (4, 64, 1024, 1024)
SHARD_SHAPE = (1, 64, 512, 512)
ARRAY_COUNT = 2
SMALL_SHAPE = (512, 512)
SMALL_CHUNK = (128, 128)
SMALL_COUNT = 2000
MANY_COUNT = 10000


@dataclass(frozen=True)
class DataSet:
    """One folder of arrays: how their chunks are cut and compressed."""

    name: str
    codec: str  # zstd, blosc-zstd, blosc-lz4, gzip or none
    chunk: tuple[int, ...]
    shard: tuple[int, ...]  # the same as chunk: not sharded, each chunk is a file
    shape: tuple[int, ...]
    count: int
    zarr_format: int = 3
    empty: bool = False  # metadata only: every chunk is missing

    @property
    def sharded(self) -> bool:
        return self.shard != self.chunk


CHUNK_128K = (1, 16, 64, 64)
CHUNK_1M = (1, 32, 128, 128)

DATA_SETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        DataSet("zstd-128k", "zstd", CHUNK_128K, SHARD_SHAPE, ARRAY_SHAPE, ARRAY_COUNT),
        DataSet("blosc-zstd-128k", "blosc-zstd", CHUNK_128K, SHARD_SHAPE, ARRAY_SHAPE, ARRAY_COUNT),
        DataSet("blosc-lz4-128k", "blosc-lz4", CHUNK_128K, SHARD_SHAPE, ARRAY_SHAPE, ARRAY_COUNT),
        DataSet("raw-128k", "none", CHUNK_128K, SHARD_SHAPE, ARRAY_SHAPE, ARRAY_COUNT),
        DataSet("zstd-1m", "zstd", CHUNK_1M, SHARD_SHAPE, ARRAY_SHAPE, ARRAY_COUNT),
        DataSet("blosc-zstd-1m", "blosc-zstd", CHUNK_1M, SHARD_SHAPE, ARRAY_SHAPE, ARRAY_COUNT),
        DataSet("small", "zstd", SMALL_CHUNK, SMALL_SHAPE, SMALL_SHAPE, SMALL_COUNT),
        DataSet("plain-128k", "zstd", CHUNK_128K, CHUNK_128K, ARRAY_SHAPE, ARRAY_COUNT),
        DataSet("v2-gzip-128k", "gzip", CHUNK_128K, CHUNK_128K, ARRAY_SHAPE, ARRAY_COUNT, zarr_format=2),
        DataSet("v2-blosc-lz4-128k", "blosc-lz4", CHUNK_128K, CHUNK_128K, ARRAY_SHAPE, ARRAY_COUNT, zarr_format=2),
        DataSet("many", "zstd", SMALL_CHUNK, SMALL_SHAPE, SMALL_SHAPE, MANY_COUNT, empty=True),
    )
}


def array_path(root: Path, data_set: DataSet, index: int) -> Path:
    """Where array `index` of a set lies."""
    return root / data_set.name / f"{index:04d}.zarr"


def stamp_of(data_set: DataSet) -> dict[str, Any]:
    """What a finished set's stamp file says; anything else is written anew."""
    stamp: dict[str, Any] = json.loads(json.dumps({"version": VERSION, "seed": SEED, **asdict(data_set)}))
    for name, default in (("zarr_format", 3), ("empty", False)):  # left out, so that data from before these existed stay good
        if stamp[name] == default:
            del stamp[name]
    return stamp


def is_ready(root: Path, data_set: DataSet) -> bool:
    """True when the set was written completely by this version."""
    try:
        return bool(json.loads((root / data_set.name / "stamp.json").read_text()) == stamp_of(data_set))
    except (OSError, ValueError):
        return False


def volume(time_point: int) -> Any:
    """One stack (64, 1024, 1024) of uint16, the same on every machine for the same `time_point`."""
    import numpy as np

    shape = ARRAY_SHAPE[1:]
    rng = np.random.default_rng([SEED, time_point])

    def smooth(steps: tuple[int, int, int]) -> Any:
        """Noise on a coarse grid, linearly interpolated: structures of about `steps` pixels."""
        field = rng.standard_normal(tuple(n // s + 2 for n, s in zip(shape, steps)), dtype=np.float32)
        for axis, (extent, step) in enumerate(zip(shape, steps)):
            position = np.arange(extent, dtype=np.float32) / step
            lower = position.astype(np.intp)
            weight = (position - lower).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
            left, right = np.take(field, lower, axis=axis), np.take(field, lower + 1, axis=axis)
            field = left + (right - left) * weight
        return field

    tissue, cells = smooth((16, 64, 64)), smooth((4, 12, 12))
    signal = np.float32(110) + np.float32(45) * (np.maximum(tissue, 0) ** 2 + np.maximum(cells + 0.6 * tissue - 0.9, 0))
    noise = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(np.float32(0.35) * signal + np.float32(9))
    return np.clip(np.rint(signal + noise), 0, 65535).astype(np.uint16)


def compressors_of(codec: str, zarr_format: int) -> Any:
    """zarr-python's spelling of a set's codec."""
    import numcodecs
    from zarr.codecs import BloscCodec, ZstdCodec

    match codec if zarr_format == 3 else f"v2 {codec}":
        case "v2 gzip":
            return numcodecs.GZip(level=5)
        case "v2 blosc-lz4":  # what zarr-python 2 took when nothing was said
            return numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE)
        case "zstd":
            return [ZstdCodec(level=3)]
        case "blosc-zstd":
            return [BloscCodec(typesize=2, cname="zstd", clevel=3, shuffle="shuffle")]
        case "blosc-lz4":
            return [BloscCodec(typesize=2, cname="lz4", clevel=5, shuffle="shuffle")]
        case "none":
            return None
    raise ValueError(f"unknown codec {codec!r}")


def create_array(root: Path, data_set: DataSet, index: int) -> Any:
    """A new, empty array of the set."""
    import zarr

    return zarr.create_array(
        store=str(array_path(root, data_set, index)),
        shape=data_set.shape,
        dtype="uint16",
        chunks=data_set.chunk,
        shards=data_set.shard if data_set.sharded else None,
        compressors=compressors_of(data_set.codec, data_set.zarr_format),
        filters=None,
        fill_value=0,
        zarr_format=data_set.zarr_format,
    )


def write_empty(root: Path, data_set: DataSet) -> None:
    """Arrays without chunks: zarr-python writes the first, the others are like it."""
    create_array(root, data_set, 0)
    written = array_path(root, data_set, 0) / "zarr.json"
    for index in range(1, data_set.count):
        path = array_path(root, data_set, index)
        path.mkdir()
        shutil.copyfile(written, path / "zarr.json")


def write_stack(root: Path, stacks: list[DataSet], planes: list[DataSet], time_point: int) -> None:
    """One stack, into the sets of stacks and, cut up, into the sets of planes."""
    import zarr

    index, t = divmod(time_point, ARRAY_SHAPE[0])
    print(f"  stack {time_point + 1} of {ARRAY_COUNT * ARRAY_SHAPE[0]}", flush=True)
    stack = volume(time_point)
    for data_set in stacks:
        zarr.open_array(str(array_path(root, data_set, index)), mode="r+")[t] = stack
    for data_set in planes:
        height, width = data_set.shape
        places = [
            (z, y, x)
            for z in range(stack.shape[0])
            for y in range(0, stack.shape[1], height)
            for x in range(0, stack.shape[2], width)
        ]
        first = time_point * len(places)
        for small_index, (z, y, x) in enumerate(places[: max(0, data_set.count - first)], first):
            create_array(root, data_set, small_index)[:] = stack[z, y : y + height, x : x + width]


def write_sets(root: Path, data_sets: list[DataSet]) -> None:
    """Write the given sets; each stack is made once and goes to all of them, several at once where there are cores."""
    import zarr

    for data_set in data_sets:
        shutil.rmtree(root / data_set.name, ignore_errors=True)
        (root / data_set.name).mkdir(parents=True)
        # z5py opens arrays only through a group
        zarr.create_group(str(root / data_set.name), zarr_format=data_set.zarr_format)
        if data_set.empty:
            write_empty(root, data_set)
    stacks = [data_set for data_set in data_sets if len(data_set.shape) == 4]
    planes = [data_set for data_set in data_sets if len(data_set.shape) == 2 and not data_set.empty]
    for data_set in stacks:
        for index in range(data_set.count):
            create_array(root, data_set, index)
    jobs = [(root, stacks, planes, time_point) for time_point in range(ARRAY_COUNT * ARRAY_SHAPE[0] if stacks or planes else 0)]
    # Stacks meet in no shard and no array of planes. One takes up to 2 GB of memory and rarely more than two cores.
    processes = min(len(jobs), len(os.sched_getaffinity(0)) // 2)
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            pool.starmap(write_stack, jobs, chunksize=1)
    else:
        for job in jobs:
            write_stack(*job)
    os.sync()  # only clean pages can be dropped from the page cache later
    for data_set in data_sets:
        (root / data_set.name / "stamp.json").write_text(json.dumps(stamp_of(data_set), indent=2))


def data_files(root: Path, data_set: DataSet) -> list[Path]:
    """The files that hold pixels (not metadata)."""
    metadata = (".zarray", ".zgroup", ".zattrs")
    return sorted(p for p in (root / data_set.name).rglob("*") if p.is_file() and p.suffix != ".json" and p.name not in metadata)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the benchmark's data sets.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "bench")
    parser.add_argument("--set", action="append", choices=sorted(DATA_SETS), help="only this set (may be given again)")
    parser.add_argument("--force", action="store_true", help="write them even if they are there")
    args = parser.parse_args()
    wanted = [DATA_SETS[name] for name in (args.set or DATA_SETS)]
    missing = [data_set for data_set in wanted if args.force or not is_ready(args.root, data_set)]
    if missing:
        begin = time.monotonic()
        print(f"writing {', '.join(data_set.name for data_set in missing)} to {args.root}", flush=True)
        write_sets(args.root, missing)
        print(f"  done in {time.monotonic() - begin:.0f} s", flush=True)
    for data_set in wanted:
        stored = sum(path.stat().st_size for path in data_files(args.root, data_set))
        pixels = data_set.count * 2
        for extent in data_set.shape:
            pixels *= extent
        print(f"  {data_set.name}: {data_set.count} arrays, {stored / 1e6:.0f} MB stored, ratio {pixels / stored:.2f}" if stored else f"  {data_set.name}: {data_set.count} arrays, metadata only")
    return 0


if __name__ == "__main__":
    sys.exit(main())
