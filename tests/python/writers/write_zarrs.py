"""zarrs, the Rust implementation, twice: `zarrs`, its codec pipeline under zarr-python, and `zarrista`, which also writes the metadata,
with chunk grids, key encodings and dtypes that zarr-python has not."""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402
from common import SHAPES, Cases, chunks_of, main, values_of  # noqa: E402

warnings.simplefilter("ignore")
PLAIN = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()


def packed(rng: np.random.Generator, dtype: np.dtype) -> list[dict[str, Any]]:
    kinds: list[list[dict[str, Any]]] = [
        [],
        [{"name": "zstd", "configuration": {"level": 3, "checksum": bool(rng.random() < 0.5)}}],
        [{"name": "gzip", "configuration": {"level": 3}}],
        [{"name": "crc32c"}],
        [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}, {"name": "crc32c"}],
        [{"name": "zlib", "configuration": {"level": 3}}],
        [{"name": "bz2", "configuration": {"level": 3}}],
        [{"name": "numcodecs.zlib", "configuration": {"level": 2}}],
        [{"name": "numcodecs.bz2", "configuration": {"level": 2}}],
        [{"name": "fletcher32"}],
        [{"name": "numcodecs.fletcher32"}],
        [{"name": "numcodecs.shuffle", "configuration": {"elementsize": dtype.itemsize}}, {"name": "gzip", "configuration": {"level": 2}}],
        [{"name": "adler32", "configuration": {"location": "end"}}],
        [{"name": "numcodecs.adler32", "configuration": {"location": "start"}}],
    ]
    for name in ("lz4", "lz4hc", "zstd", "blosclz", "zlib", "snappy"):
        shuffle = str(rng.choice(["noshuffle", "shuffle", "bitshuffle"]))
        kinds.append([{"name": "blosc", "configuration": {"cname": name, "clevel": 4, "shuffle": shuffle, "typesize": dtype.itemsize, "blocksize": 0}}])
    return kinds[int(rng.integers(len(kinds)))]


def through_zarr_python(cases: Cases, rng: np.random.Generator) -> None:
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    for name in PLAIN:
        if name.startswith("complex"):
            continue  # it falls back to Python, which another writer covers
        for compressor in (None, ZstdCodec(), GzipCodec(), [GzipCodec(), Crc32cCodec()], BloscCodec(cname="lz4", typesize=2), BloscCodec(cname="zstd", typesize=4)):
            shape = SHAPES[int(rng.integers(1, 5))]
            chunks = chunks_of(rng, shape)
            shards = tuple(c * int(n) for c, n in zip(chunks, rng.integers(1, 4, len(shape)))) if rng.random() < 0.6 else None
            array = zarr.create_array(cases.path(), shape=shape, chunks=chunks, shards=shards, dtype=name, compressors=compressor, fill_value=1)
            data = values_of(rng, shape, np.dtype(name))
            box = tuple(slice(0, int(rng.integers(1, n + 1))) for n in shape)
            array[box] = data[box]
            truth = np.full(shape, 1, name)
            truth[box] = data[box]
            cases.add(truth, f"zarrs under zarr-python: {name}, {compressor}, {shape}, {chunks}, {shards}")


def metadata_of(rng: np.random.Generator, name: str, dtype: np.dtype) -> dict[str, Any]:
    rank = int(rng.integers(1, 5))
    shape = SHAPES[rank]
    chunks = chunks_of(rng, shape)
    codecs: list[dict[str, Any]] = []
    if rng.random() < 0.4:
        codecs.append({"name": "transpose", "configuration": {"order": list(map(int, rng.permutation(rank)))}})
    if dtype.kind == "f" and rng.random() < 0.2:
        codecs.append({"name": str(rng.choice(["bitround", "numcodecs.bitround"])), "configuration": {"keepbits": 5}})
    if dtype.kind == "b" and rng.random() < 0.4:
        codecs.append({"name": "packbits"})
    else:
        codecs.append({"name": "bytes", "configuration": {"endian": str(rng.choice(["little", "big"]))}} if dtype.itemsize > 1 else {"name": "bytes"})
    codecs += packed(rng, dtype)
    grid = chunks
    for _ in range(int(rng.choice([0, 0, 1, 1, 2]))):  # nested shards
        inner, grid = grid, tuple(c * int(n) for c, n in zip(grid, rng.integers(1, 4, rank)))
        index = [{"name": "bytes", "configuration": {"endian": str(rng.choice(["little", "big"]))}}]
        if rng.random() < 0.7:
            index.append({"name": "crc32c"})
        sharding = {"chunk_shape": inner, "codecs": codecs, "index_codecs": index, "index_location": str(rng.choice(["start", "end"]))}
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        if rng.random() < 0.2:
            codecs.append({"name": "crc32c"})
    fill: Any = {"b": True, "f": "NaN", "c": [1.0, "-Infinity"]}.get(dtype.kind, 1)
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
        "chunk_key_encoding": {"name": str(rng.choice(["default", "v2"])), "configuration": {"separator": str(rng.choice(["/", "."]))}},
        "codecs": codecs,
        "fill_value": fill,
        "attributes": {},
    }
    if all(codec["name"] != "sharding_indexed" for codec in codecs):
        if rng.random() < 0.35:
            metadata["chunk_grid"] = rectilinear(rng, shape)
    if rng.random() < 0.15:
        metadata["chunk_key_encoding"] = {"name": "suffix", "configuration": {"suffix": ".bin", "base_encoding": {"name": "default", "configuration": {"separator": "/"}}}}
    return metadata


def rectilinear(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    """Chunks of unequal extents, with runs and plain numbers."""
    axes: list[Any] = []
    for extent in shape:
        left, edges = extent, []
        while left > 0:
            edge = int(rng.integers(1, max(2, extent // 2) + 1))
            edges.append(min(edge, left))
            left -= edges[-1]
        if rng.random() < 0.4:
            size = int(rng.integers(1, extent + 1))
            axes.append([[size, -(-extent // size)]] if rng.random() < 0.5 else edges)
        else:
            axes.append(edges)
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": axes}}


def through_zarrista(cases: Cases, rng: np.random.Generator) -> None:
    from zarrista import Array
    from zarrista.store import FilesystemStore

    missed: dict[str, int] = {}
    for name in PLAIN:
        dtype = np.dtype(name)
        for _ in range(16):
            metadata = metadata_of(rng, name, dtype)
            shape = tuple(metadata["shape"])
            path = cases.path()
            path.mkdir(parents=True)
            try:
                array = Array.from_metadata(metadata, FilesystemStore(str(path)), "/")
                array.store_metadata()
                data = values_of(rng, shape, dtype)
                if rng.random() < 0.6:
                    box = tuple(slice(0, n) for n in shape)
                else:
                    box = tuple(slice(0, int(rng.integers(1, n + 1))) for n in shape)
                array[box] = np.ascontiguousarray(data[box])
                truth = np.asarray(array[tuple(slice(0, n) for n in shape)].to_numpy()).copy()
            except Exception as problem:
                import shutil

                shutil.rmtree(path)
                text = str(problem)[:150]
                missed[text] = missed.get(text, 0) + 1
                continue
            cases.add(truth.reshape(shape), f"zarrista: {metadata}")
    for text, count in missed.items():
        print(f"zarrista does not, {count} times: {text}", file=sys.stderr)


def write(cases: Cases, rng: np.random.Generator) -> None:
    if find_spec("zarrs"):
        through_zarr_python(cases, rng)
    if find_spec("zarrista"):
        through_zarrista(cases, rng)


if __name__ == "__main__":
    main(write)
