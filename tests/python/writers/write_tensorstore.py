"""tensorstore: the drivers zarr (v2) and zarr3, with dtypes that NumPy alone has not (bfloat16, float8, int4), nested codecs, partial
writes, and fields of structured dtypes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import tensorstore as ts  # noqa: E402
from common import SHAPES, Cases, chunks_of, main, values_of  # noqa: E402

PLAIN = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
NARROW = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz", "float8_e3m4", "int4", "uint4", "int2"]


def dtype_of(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)


def values(rng: np.random.Generator, shape: tuple[int, ...], name: str) -> np.ndarray:
    if name in PLAIN:
        return values_of(rng, shape, np.dtype(name))
    if name.startswith(("int", "uint")):
        low, high = {"int4": (-8, 8), "uint4": (0, 16), "int2": (-2, 2)}[name]
        return rng.integers(low, high, shape).astype(dtype_of(name))
    every = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype_of(name).itemsize), dtype_of(name))
    return every.reshape(shape)


def bytes_codecs(rng: np.random.Generator, dtype: np.dtype) -> list[dict[str, Any]]:
    kinds = [
        [],
        [{"name": "zstd", "configuration": {"level": 2}}],
        [{"name": "gzip", "configuration": {"level": 4}}],
        [{"name": "crc32c"}],
        [{"name": "gzip", "configuration": {"level": 1}}, {"name": "crc32c"}],
    ]
    for name in ("lz4", "zstd", "blosclz", "zlib"):
        shuffle = str(rng.choice(["noshuffle", "shuffle", "bitshuffle"]))
        kinds.append([{"name": "blosc", "configuration": {"cname": name, "clevel": 4, "shuffle": shuffle, "typesize": dtype.itemsize, "blocksize": 0}}])
    return kinds[int(rng.integers(len(kinds)))]


def fill_of(rng: np.random.Generator, dtype: np.dtype, name: str) -> Any:
    if name == "bool":
        return True
    if dtype.kind == "f":
        return [0.0, "NaN", "Infinity", -1.5][int(rng.integers(4))]
    if dtype.kind == "c":
        return [[0.0, 0.0], [1.5, "NaN"]][int(rng.integers(2))]
    return 1


def create(spec: dict[str, Any]) -> Any:
    return ts.open(spec, create=True, delete_existing=True).result()


def write_some(rng: np.random.Generator, store: Any, data: np.ndarray) -> None:
    box = tuple(slice(0, int(rng.integers(0, n + 1))) for n in data.shape) if rng.random() < 0.4 else tuple(slice(0, n) for n in data.shape)
    store[box].write(data[box]).result()


def write_v3(cases: Cases, rng: np.random.Generator, name: str) -> None:
    dtype, rank = dtype_of(name), int(rng.integers(1, 5))
    shape = SHAPES[rank]
    chunks = chunks_of(rng, shape)
    inner: list[dict[str, Any]] = []
    if rng.random() < 0.4:
        inner.append({"name": "transpose", "configuration": {"order": list(map(int, rng.permutation(rank)))}})
    inner.append({"name": "bytes", "configuration": {"endian": str(rng.choice(["little", "big"]))}} if dtype.itemsize > 1 else {"name": "bytes"})
    inner += bytes_codecs(rng, dtype)
    grid, codecs = chunks, inner
    kind = int(rng.integers(4))
    if kind:
        grid = tuple(c * int(n) for c, n in zip(chunks, rng.integers(1, 4, rank)))
        order = list(map(int, rng.permutation(rank)))
        outer = [{"name": "transpose", "configuration": {"order": order}}] if kind == 3 else []
        inner_shape = [chunks[a] for a in order] if kind == 3 else list(chunks)
        sharding = {
            "chunk_shape": inner_shape,
            "codecs": inner,
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": str(rng.choice(["start", "end"])),
        }
        codecs = [*outer, {"name": "sharding_indexed", "configuration": sharding}]
    metadata = {
        "shape": shape,
        "data_type": name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
        "chunk_key_encoding": {"name": str(rng.choice(["default", "v2"])), "configuration": {"separator": str(rng.choice(["/", "."]))}},
        "codecs": codecs,
        "fill_value": fill_of(rng, dtype, name),
    }
    store = create({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(cases.path())}, "metadata": metadata})
    write_some(rng, store, values(rng, shape, name))
    cases.add(store.read().result(), f"tensorstore: {metadata}")


def write_v2(cases: Cases, rng: np.random.Generator, name: str, endian: str) -> None:
    dtype, rank = dtype_of(name), int(rng.integers(1, 5))
    shape = SHAPES[rank]
    compressors: list[Any] = [None, {"id": "zlib", "level": 3}, {"id": "gzip", "level": 2}, {"id": "bz2", "level": 2}, {"id": "zstd", "level": 3}]
    compressors += [{"id": "blosc", "cname": c, "clevel": 5, "shuffle": s} for c in ("lz4", "zstd") for s in (0, 1, 2, -1)]
    text = np.dtype(name).str.replace("<", endian) if name in PLAIN else name
    metadata = {
        "shape": shape,
        "chunks": chunks_of(rng, shape),
        "dtype": text,
        "compressor": compressors[int(rng.integers(len(compressors)))],
        "order": str(rng.choice(["C", "F"])) if rank > 1 else "C",
        "fill_value": fill_of(rng, dtype, name),
        "filters": None,
        "dimension_separator": str(rng.choice([".", "/"])),
    }
    store = create({"driver": "zarr", "kvstore": {"driver": "file", "path": str(cases.path())}, "metadata": metadata})
    write_some(rng, store, values(rng, shape, name))
    cases.add(store.read().result(), f"tensorstore, v2: {metadata}")


def write_fields(cases: Cases, rng: np.random.Generator) -> None:
    path = cases.folder / "record"
    shape = SHAPES[2]
    metadata = {
        "shape": shape,
        "chunks": [5, 6],
        "dtype": [["x", "<i2"], ["y", ">f4"], ["z", "|u1"]],
        "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
        "order": "C",
        "fill_value": None,
        "filters": None,
    }
    for name, dtype in (("x", "i2"), ("y", "f4"), ("z", "u1")):
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata, "field": name}
        store = ts.open(spec, create=True, open=True).result()
        store.write(values_of(rng, shape, np.dtype(dtype))).result()
    for name in "xyz":
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}, "field": name}
        cases.add(ts.open(spec).result().read().result(), f"tensorstore: field {name}", f"{path}#member={name}")


def write(cases: Cases, rng: np.random.Generator) -> None:
    for name in PLAIN + NARROW:
        for _ in range(8):
            try:
                write_v3(cases, rng, name)
            except ValueError as problem:
                if name in PLAIN:
                    raise
                print(f"tensorstore does not write {name}: {str(problem)[:200]}", file=sys.stderr)
                break
    for name in PLAIN:
        for endian in "<>":
            for _ in range(3):
                write_v2(cases, rng, name, endian)
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"):
        try:
            write_v2(cases, rng, name, "<")
        except ValueError as problem:
            print(f"tensorstore does not write {name} as v2: {str(problem)[:200]}", file=sys.stderr)
    write_fields(cases, rng)


if __name__ == "__main__":
    main(write)
