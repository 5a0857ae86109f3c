"""zarr-python 3: both formats, every dtype that it writes (ml_dtypes' too), its own codecs and those under numcodecs.*, shards with any
chain inside, key encodings, fills, consolidated metadata, zip stores."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numcodecs  # noqa: E402
import numpy as np  # noqa: E402
import zarr  # noqa: E402
import zarr.codecs.numcodecs as extra  # noqa: E402
from common import SHAPES, Cases, chunks_of, main, values_of  # noqa: E402
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec  # noqa: E402

warnings.simplefilter("ignore")
DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 M8[ns] M8[h] m8[s] m8[us]".split()


def bytes_codecs(rng: np.random.Generator, dtype: np.dtype) -> list[list[Any]]:
    found: list[list[Any]] = [[], [ZstdCodec(level=3)], [ZstdCodec(level=-2, checksum=True)], [GzipCodec(level=1)], [Crc32cCodec()]]
    for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd"):
        shuffle = str(rng.choice(["noshuffle", "shuffle", "bitshuffle"]))
        found.append([BloscCodec(cname=name, clevel=int(rng.integers(0, 10)), shuffle=shuffle, typesize=int(rng.choice([dtype.itemsize, 1, 3])))])
    found += [[GzipCodec(level=6), Crc32cCodec()], [Crc32cCodec(), ZstdCodec()], [ZstdCodec(), Crc32cCodec()]]
    return found


def numcodecs_codecs(dtype: np.dtype) -> list[tuple[list[Any], list[Any]]]:
    """(array->array, bytes->bytes) under their names in v3."""
    found: list[tuple[list[Any], list[Any]]] = [
        ([], [extra.LZ4(acceleration=1)]),
        ([], [extra.Zlib(level=2)]),
        ([], [extra.BZ2(level=3)]),
        ([], [extra.LZMA(format=1, check=-1, preset=1)]),
        ([], [extra.GZip(level=2)]),
        ([], [extra.Zstd(level=2)]),
        ([], [extra.Blosc(cname="lz4", clevel=5, shuffle=1)]),
        ([], [extra.Shuffle(elementsize=dtype.itemsize), extra.Zlib(level=1)]),
        ([], [extra.CRC32()]),
        ([], [extra.CRC32C()]),
        ([], [extra.Adler32()]),
        ([], [extra.Fletcher32()]),
        ([], [extra.JenkinsLookup3()]),
    ]
    if dtype.kind in "iuf":
        found.append(([extra.Delta(dtype=dtype.str)], [ZstdCodec()]))
    if dtype.kind == "f":
        found.append(([extra.FixedScaleOffset(offset=2, scale=4, dtype=dtype.str, astype="<i2")], []))
        found.append(([extra.Quantize(digits=2, dtype=dtype.str)], [GzipCodec()]))
        found.append(([extra.BitRound(keepbits=4)], [ZstdCodec()]))
        found.append(([extra.AsType(encode_dtype="<f4", decode_dtype=dtype.str)], []))
    return found


def fills(dtype: np.dtype) -> list[Any]:
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind in "iu":
        return [0, 3, np.iinfo(dtype).max, np.iinfo(dtype).min]
    if dtype.kind == "f":
        return [0.0, np.nan, np.inf, -np.inf, -2.5]
    if dtype.kind == "c":
        return [0, 1 + 2j, complex(np.nan, -np.inf)]
    return [dtype.type("NaT"), dtype.type(9, np.datetime_data(dtype)[0])]


def write_one(cases: Cases, rng: np.random.Generator, dtype: np.dtype, filters: list[Any], packed: list[Any], note: str = "") -> None:
    rank = int(rng.integers(1, 5))
    shape, settings = SHAPES[rank], {}
    chunks = chunks_of(rng, shape)
    options = fills(dtype)
    settings["fill_value"] = options[int(rng.integers(len(options)))]
    if rng.random() < 0.5:
        settings["shards"] = {
            "shape": tuple(c * int(n) for c, n in zip(chunks, rng.integers(1, 4, rank))),
            "index_location": str(rng.choice(["start", "end"])),
            "index_codecs": [BytesCodec(endian=str(rng.choice(["little", "big"])))] + ([Crc32cCodec()] if rng.random() < 0.7 else []),
        }
    if rng.random() < 0.3:
        filters = [TransposeCodec(order=tuple(map(int, rng.permutation(rank)))), *filters]
    endian = str(rng.choice(["little", "big"])) if dtype.itemsize > 1 and not filters else ("little" if dtype.itemsize > 1 else None)
    settings |= {"filters": filters, "serializer": BytesCodec(endian=endian), "compressors": packed}
    settings["chunk_key_encoding"] = {"name": str(rng.choice(["default", "v2"])), "separator": str(rng.choice(["/", "."]))}
    settings |= {"shape": shape, "chunks": chunks, "dtype": dtype}
    array = zarr.create_array(cases.path(), overwrite=True, **settings, config={"write_empty_chunks": bool(rng.random() < 0.5)})
    values = values_of(rng, shape, dtype)
    if any(type(f).__name__ in ("FixedScaleOffset", "Quantize", "AsType") for f in filters):
        values = (np.where(np.isfinite(values), values, 1) % 13).astype(dtype)
    box = tuple(slice(0, int(rng.integers(0, n + 1))) for n in shape) if rng.random() < 0.3 else ...
    array[box] = values[box]
    cases.add(np.asarray(array[...]), f"zarr-python {zarr.__version__}: {settings} {note}")


def write_v2(cases: Cases, rng: np.random.Generator, dtype: np.dtype) -> None:
    shape = SHAPES[int(rng.integers(1, 5))]
    packed = [None, numcodecs.Blosc(), numcodecs.Zstd(), numcodecs.GZip(), numcodecs.LZ4(), numcodecs.BZ2(), numcodecs.Zlib()]
    options = fills(dtype)
    settings = {
        "shape": shape,
        "chunks": chunks_of(rng, shape),
        "dtype": dtype,
        "compressors": packed[int(rng.integers(len(packed)))],
        "filters": None,
        "order": str(rng.choice(["C", "F"])),
        "fill_value": options[int(rng.integers(len(options)))],
        "chunk_key_encoding": {"name": "v2", "separator": str(rng.choice(["/", "."]))},
        "zarr_format": 2,
    }
    array = zarr.create_array(cases.path(), overwrite=True, **settings)
    values = values_of(rng, shape, dtype)
    box = tuple(slice(0, int(rng.integers(0, n + 1))) for n in shape) if rng.random() < 0.4 else ...
    array[box] = values[box]
    cases.add(np.asarray(array[...]), f"zarr-python {zarr.__version__}, v2: {settings}")


def write(cases: Cases, rng: np.random.Generator) -> None:
    for name in DTYPES:
        dtype = np.dtype(name)
        for packed in bytes_codecs(rng, dtype):
            write_one(cases, rng, dtype, [], packed)
        for endian in "<>":
            for _ in range(3):
                write_v2(cases, rng, dtype.newbyteorder(endian))
    for name in ("uint16", "int32", "float32", "float64"):
        for filters, packed in numcodecs_codecs(np.dtype(name)):
            write_one(cases, rng, np.dtype(name), filters, packed, "numcodecs.*")
    write_nested(cases, rng)
    write_groups(cases, rng)
    write_zip(cases, rng)
    write_structured(cases, rng)
    write_refused(cases)


def write_nested(cases: Cases, rng: np.random.Generator) -> None:
    """Shards within shards, transposes and checksums around shards."""
    shape = (11, 13)
    data = values_of(rng, shape, np.dtype("u2"))
    inner = ShardingCodec(chunk_shape=(2, 3), codecs=[BytesCodec(), ZstdCodec()])
    chains = {
        "a shard in a shard": ([], ShardingCodec(chunk_shape=(4, 6), codecs=[inner]), []),
        "transpose around a shard": ([TransposeCodec(order=(1, 0))], ShardingCodec(chunk_shape=(4, 2), codecs=[BytesCodec(), GzipCodec()]), []),
        "transpose in a shard": ([], ShardingCodec(chunk_shape=(4, 6), codecs=[TransposeCodec(order=(1, 0)), BytesCodec()]), []),
        "gzip around a shard": ([], ShardingCodec(chunk_shape=(4, 6), codecs=[BytesCodec()]), [GzipCodec()]),
        "crc32c around a shard": ([], ShardingCodec(chunk_shape=(4, 6), codecs=[BytesCodec(), ZstdCodec()]), [Crc32cCodec()]),
        "transpose around a shard in a shard": ([TransposeCodec(order=(1, 0))], ShardingCodec(chunk_shape=(6, 4), codecs=[ShardingCodec(chunk_shape=(3, 2))]), []),
    }
    for text, (filters, serializer, packed) in chains.items():
        for whole in (True, False):
            shard = (12, 8) if text == "transpose around a shard" else (8, 12)
            try:
                array = zarr.create_array(cases.path(), overwrite=True, shape=shape, chunks=shard, dtype="u2", filters=filters, serializer=serializer, compressors=packed, fill_value=9)
                if whole:
                    array[...] = data
                else:
                    array[3:5, 2:4] = data[3:5, 2:4]
                truth = np.asarray(array[...])
            except Exception as problem:
                print(f"zarr-python does not do {text}: {problem}", file=sys.stderr)
                continue
            cases.add(truth, f"zarr-python {zarr.__version__}: {text}, {'whole' if whole else 'partly'}")


def write_groups(cases: Cases, rng: np.random.Generator) -> None:
    for version in (2, 3):
        folder = cases.folder / f"group{version}"
        group = zarr.open_group(folder, mode="w", zarr_format=version)
        data = values_of(rng, SHAPES[2], np.dtype("i4"))
        group.create_group("a/b").create_array("c", shape=data.shape, chunks=(5, 5), dtype="i4")[...] = data
        group.create_array("d", shape=data.shape, chunks=(4, 9), dtype="f8")[...] = data
        zarr.consolidate_metadata(folder)
        for name, truth in (("a/b/c", data), ("d", data.astype("f8"))):
            cases.add(truth, f"zarr-python {zarr.__version__}: {name} of a consolidated group of v{version}", folder / name)


def write_zip(cases: Cases, rng: np.random.Generator) -> None:
    import zipfile

    for version in (2, 3):
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            path = cases.folder / f"v{version}-{method}.zarr.zip"
            data = values_of(rng, SHAPES[3], np.dtype("u2"))
            with zarr.storage.ZipStore(path, mode="w", compression=method) as store:
                group = zarr.open_group(store, mode="w", zarr_format=version)
                group.create_array("x/y", shape=data.shape, chunks=(4, 4, 4), dtype="u2")[...] = data
            cases.add(data, f"zarr-python {zarr.__version__}: v{version} in a zip, method {method}", f"{path}/x/y")


def write_structured(cases: Cases, rng: np.random.Generator) -> None:
    dtype = np.dtype([("x", "<i2"), ("y", "<f4"), ("z", "|u1")])
    for version in (2, 3):
        path = cases.folder / f"record{version}"
        array = zarr.create_array(path, shape=SHAPES[2], chunks=(4, 7), dtype=dtype, zarr_format=version)
        array[:7] = values_of(rng, SHAPES[2], dtype)[:7]
        truth = np.asarray(array[...])
        for name in dtype.names:
            cases.add(truth[name], f"zarr-python {zarr.__version__}: member {name} of a structured dtype, v{version}", f"{path}#member={name}")


def write_refused(cases: Cases) -> None:
    for dtype, word in (("S4", "S4"), ("U3", "U3"), (str, "str")):
        for version in (2, 3):
            try:
                zarr.create_array(cases.path(), overwrite=True, shape=(5,), chunks=(2,), dtype=dtype, zarr_format=version)
            except Exception:
                continue
            if version == 3:
                word = {"S4": "null_terminated_bytes", "U3": "fixed_length_utf32", str: "string"}[dtype]
            elif dtype is str:
                word = "|O"
            cases.refuse(word, f"{dtype} in v{version}")
    zarr.create_array(cases.path(), overwrite=True, shape=(5,), chunks=(2,), dtype="f4", compressors=[], serializer=extra.PCodec())
    cases.refuse("numcodecs.pcodec", "pcodec")


if __name__ == "__main__":
    main(write)
