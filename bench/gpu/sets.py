"""The data sets of the GPU benchmark, in the layout and with the pixels of bench/data.py, written quickly by processes side by side.

zarr-python is not needed: tensorstore writes what it knows, and shards of lz4 and zlib chunks are put together here. Every 4D set
holds the same pixels (compressed about 2.3 times by zstd level 3, 2.8 times behind blosc's shuffle), so that a set may be checked
against another. With 8 stacks of 128 MiB all sets of the table take 8 GB.

    python bench/gpu/sets.py --root DIR NAME ...
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH))

from data import ARRAY_COUNT, ARRAY_SHAPE, CHUNK_128K, CHUNK_1M, DATA_SETS, SHARD_SHAPE, DataSet, array_path, is_ready, stamp_of, volume  # noqa: E402

STACKS = ARRAY_COUNT * ARRAY_SHAPE[0]
TILE = (1, 64, 256, 256)  # a small array: a sixteenth of a stack
TILES = 16
TILE_COPIES = 8  # files with the same pixels: 1,024 arrays out of 8 stacks
HAND_WRITTEN = ("lz4", "zlib")  # tensorstore has no such codecs in Zarr v3
CHUNKS = {"16k": (1, 8, 32, 32), "128k": CHUNK_128K, "1m": CHUNK_1M, "4m": (1, 32, 256, 256)}
PLACED_CODECS = ("zstd", "blosc-zstd", "blosc-lz4", "lz4", "gzip")


def known_sets() -> dict[str, DataSet]:
    """Those of bench/data.py and those that only the GPU benchmark has."""
    own = [DataSet(f"{codec}-128k", codec, CHUNK_128K, SHARD_SHAPE, ARRAY_SHAPE, ARRAY_COUNT) for codec in ("lz4", "gzip", "zlib")]
    own.append(DataSet("small-3d", "zstd", CHUNK_128K, TILE, TILE, STACKS * TILES * TILE_COPIES))
    for codec in PLACED_CODECS:
        for size, chunk in CHUNKS.items():
            own.append(DataSet(f"placed-{codec}-{size}", codec, chunk, SHARD_SHAPE, (1, *ARRAY_SHAPE[1:]), 1))
    return DATA_SETS | {data_set.name: data_set for data_set in own}


def scaled(data_set: DataSet, stacks: int) -> DataSet:
    """The same out of fewer stacks; all of them: as it is."""
    if data_set.shape == TILE:
        return replace(data_set, count=data_set.count * stacks // STACKS)
    if stacks == STACKS or len(data_set.shape) != len(ARRAY_SHAPE) or data_set.shape[0] == 1:
        return data_set
    return replace(data_set, count=1, shape=(min(stacks, ARRAY_SHAPE[0]), *data_set.shape[1:]))


def compressor(codec: str, zarr_format: int) -> Any:
    """A set's codec as metadata spell it; None: stored as it is."""
    blosc = {"cname": codec.removeprefix("blosc-"), "clevel": 3 if codec == "blosc-zstd" else 5, "blocksize": 0}
    if zarr_format == 2:
        if codec.startswith("blosc-"):
            return {"id": "blosc", "shuffle": 1, **blosc}
        return {"gzip": {"id": "gzip", "level": 5}, "zstd": {"id": "zstd", "level": 3}, "none": None}[codec]
    if codec.startswith("blosc-"):
        return {"name": "blosc", "configuration": {"shuffle": "shuffle", "typesize": 2, **blosc}}
    return {
        "zstd": {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
        "gzip": {"name": "gzip", "configuration": {"level": 5}},
        "lz4": {"name": "numcodecs.lz4", "configuration": {"acceleration": 1}},
        "zlib": {"name": "numcodecs.zlib", "configuration": {"level": 5}},
        "none": None,
    }[codec]


def metadata(data_set: DataSet) -> dict[str, Any]:
    """What tensorstore is to create, and what is written beside shards made here."""
    found = compressor(data_set.codec, data_set.zarr_format)
    if data_set.zarr_format == 2:
        return {"shape": data_set.shape, "chunks": data_set.chunk, "dtype": "<u2", "compressor": found, "order": "C", "filters": None, "fill_value": 0}
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    index_codecs = [*codecs, {"name": "crc32c"}]
    if found:
        codecs.append(found)
    if data_set.sharded:
        configuration = {"chunk_shape": data_set.chunk, "codecs": codecs, "index_codecs": index_codecs, "index_location": "end"}
        codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": data_set.shape,
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": data_set.shard}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": codecs,
    }


def opened(path: Path, data_set: DataSet, create: bool = False) -> Any:
    """tensorstore's handle; one thread, since there is a process for each core."""
    import tensorstore

    context = tensorstore.Context({"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 4}})
    spec: dict[str, Any] = {"driver": "zarr" if data_set.zarr_format == 2 else "zarr3", "kvstore": f"file://{path}/"}
    if create:
        spec["metadata"] = metadata(data_set)
    return tensorstore.open(spec, create=create, open=not create, context=context).result()


def create(root: Path, data_set: DataSet, index: int) -> None:
    path = array_path(root, data_set, index)
    if data_set.codec in HAND_WRITTEN:
        path.mkdir(parents=True)
        (path / "zarr.json").write_text(json.dumps(metadata(data_set)))
    else:
        opened(path, data_set, create=True)


def crc32c(data: bytes) -> int:
    """Slow, for the few KiB of a shard's index."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def encoder(codec: str) -> Callable[[bytes], bytes]:
    if codec == "zlib":
        return lambda data: zlib.compress(data, 5)
    try:
        library = ctypes.CDLL("liblz4.so.1")
    except OSError:  # the one that bench/gpu/carry.sh took along
        library = ctypes.CDLL(str(BENCH.parent / "build" / "gpu-bench" / "carry" / "lib" / "liblz4.so.1"))

    def lz4(data: bytes) -> bytes:
        room = library.LZ4_compressBound(len(data))
        buffer = ctypes.create_string_buffer(room)
        size = library.LZ4_compress_default(data, buffer, len(data), room)
        if size <= 0:
            raise RuntimeError("LZ4_compress_default failed")
        return struct.pack("<I", len(data)) + buffer.raw[:size]  # as numcodecs frames it

    return lz4


def write_shards(path: Path, data_set: DataSet, t: int, stack: Any) -> None:
    """All shards of one time point."""
    import numpy as np

    encode, (_, nz, ny, nx), (_, cz, cy, cx) = encoder(data_set.codec), data_set.shard, data_set.chunk
    for z in range(0, stack.shape[0], nz):
        for y in range(0, stack.shape[1], ny):
            for x in range(0, stack.shape[2], nx):
                shard = stack[z : z + nz, y : y + ny, x : x + nx]
                parts, index, at = [], [], 0
                for k in range(0, nz, cz):
                    for j in range(0, ny, cy):
                        for i in range(0, nx, cx):
                            parts.append(encode(np.ascontiguousarray(shard[k : k + cz, j : j + cy, i : i + cx]).tobytes()))
                            index += [at, len(parts[-1])]
                            at += len(parts[-1])
                table = struct.pack(f"<{len(index)}Q", *index)
                file = path / "c" / str(t) / str(z // nz) / str(y // ny) / str(x // nx)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"".join(parts) + table + struct.pack("<I", crc32c(table)))


def write_tiles(root: Path, data_set: DataSet, stack_index: int, stack: Any) -> None:
    """The small arrays of a stack, each with its copies."""
    distinct = data_set.count // TILE_COPIES
    for tile in range(TILES):
        y, x = tile // 4 * TILE[2], tile % 4 * TILE[3]
        index = stack_index * TILES + tile
        first = array_path(root, data_set, index)
        opened(first, data_set, create=True)[0] = stack[:, y : y + TILE[2], x : x + TILE[3]]
        for copy in range(1, TILE_COPIES):
            shutil.copytree(first, array_path(root, data_set, index + copy * distinct))


def make_stack(work: Path, index: int) -> None:
    import numpy as np

    np.save(work / f"{index}.npy", volume(index))


def write_stack(root: Path, work: Path, data_set: DataSet, index: int) -> None:
    """What one stack gives to one set."""
    import numpy as np

    stack = np.load(work / f"{index}.npy", mmap_mode="r")
    if data_set.shape == TILE:
        write_tiles(root, data_set, index, stack)
        return
    array, t = divmod(index, data_set.shape[0])
    path = array_path(root, data_set, array)
    if data_set.codec in HAND_WRITTEN:
        write_shards(path, data_set, t, stack)
    else:
        opened(path, data_set)[t] = np.array(stack)


def stacks_of(data_set: DataSet) -> int:
    return data_set.count // (TILES * TILE_COPIES) if data_set.shape == TILE else data_set.count * data_set.shape[0]


def make(root: Path, data_sets: Iterable[DataSet]) -> float:
    """Write what is missing; returns the seconds that took. Stacks are made once, then every set takes from them."""
    begin = time.monotonic()
    missing = [data_set for data_set in data_sets if not is_ready(root, data_set)]
    if not missing:
        return 0.0
    print(f"writing {', '.join(data_set.name for data_set in missing)} to {root}", file=sys.stderr, flush=True)
    work = root / "stacks"
    work.mkdir(parents=True, exist_ok=True)
    for data_set in missing:
        shutil.rmtree(root / data_set.name, ignore_errors=True)
        (root / data_set.name).mkdir()
        if data_set.shape != TILE:
            for index in range(data_set.count):
                create(root, data_set, index)
    slow_first = sorted(missing, key=lambda s: ("gzip", "zlib").count(s.codec) * -2 - (s.shape == TILE))
    stacks = range(max(map(stacks_of, missing)))
    tasks = [(root, work, data_set, index) for data_set in slow_first for index in range(stacks_of(data_set))]
    # spawn: tensorstore's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(min(len(os.sched_getaffinity(0)), len(tasks))) as pool:
        pool.starmap(make_stack, [(work, index) for index in stacks if not (work / f"{index}.npy").exists()], 1)
        pool.starmap(write_stack, tasks, 1)
    shutil.rmtree(work)
    for data_set in missing:
        (root / data_set.name / "stamp.json").write_text(json.dumps(stamp_of(data_set), indent=2))
    seconds = time.monotonic() - begin
    print(f"  in {seconds:.0f} s", file=sys.stderr, flush=True)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="Write data sets of the GPU benchmark.")
    parser.add_argument("--root", type=Path, default=Path("/dev/shm/damacy-bench"))
    parser.add_argument("--stacks", type=int, default=STACKS, choices=(1, 2, 4, 8))
    parser.add_argument("names", nargs="+", choices=sorted(known_sets()))
    options = parser.parse_args()
    make(options.root, [scaled(known_sets()[name], options.stacks) for name in options.names])
    return 0


if __name__ == "__main__":
    sys.exit(main())
