"""No Zarr library at all: metadata by hand, chunks encoded by numcodecs or the standard library. The forms that writers really left
behind, each with the one that did, and the codecs that others reach only through their own defaults."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numcodecs  # noqa: E402
import numpy as np  # noqa: E402
from common import SHAPES, Cases, main, values_of  # noqa: E402

Encode = Callable[[bytes], bytes]


def chunk_arrays(data: np.ndarray, chunks: tuple[int, ...], fill: Any = 0) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Coordinates and whole chunks, padded."""
    found = []
    for at in itertools.product(*(range(-(-n // c)) for n, c in zip(data.shape, chunks))):
        whole = np.full(chunks, fill, data.dtype)
        part = data[tuple(slice(a * c, a * c + c) for a, c in zip(at, chunks))]
        whole[tuple(slice(0, n) for n in part.shape)] = part
        found.append((at, whole))
    return found


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def v2(cases: Cases, data: np.ndarray, encode: Encode, text: str, order: str = "C", path: Path | None = None, drop: tuple[str, ...] = (), **changes: Any) -> None:
    chunks = tuple(max(1, n // 2 + 1) for n in data.shape)
    separator = changes.get("dimension_separator", ".") or "."
    metadata = {
        "zarr_format": 2,
        "shape": data.shape,
        "chunks": chunks,
        "dtype": data.dtype.str,
        "compressor": None,
        "filters": None,
        "fill_value": 0,
        "order": order,
    } | changes
    for name in drop:
        metadata.pop(name)
    path = path or cases.path()
    put(path / ".zarray", json.dumps(metadata))
    for at, chunk in chunk_arrays(data, chunks):
        put(path / separator.join(map(str, at)), encode(chunk.tobytes(order)))
    cases.add(data, f"v2 by hand: {text}; {metadata}", path)


BYTES_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def v3(cases: Cases, data: np.ndarray, encode: Encode, text: str, codecs: list[Any], name: str | None = None, truth: np.ndarray | None = None, drop: tuple[str, ...] = (), refused: str = "", **changes: Any) -> None:
    chunks = tuple(max(1, n // 2 + 1) for n in data.shape)
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": data.shape,
        "data_type": name or data.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": codecs,
        "fill_value": 0,
    } | changes
    for member in drop:
        metadata.pop(member)
    path = cases.path()
    put(path / "zarr.json", json.dumps(metadata))
    for at, chunk in chunk_arrays(data, chunks):
        put(path / "c" / "/".join(map(str, at)), encode(chunk.tobytes()))
    if refused:
        cases.refuse(refused, f"v3 by hand: {text}; {metadata}")
    else:
        cases.add(data if truth is None else truth, f"v3 by hand: {text}; {metadata}")


def same(raw: bytes) -> bytes:
    return raw


def write_v2(cases: Cases, rng: np.random.Generator) -> None:
    data = values_of(rng, SHAPES[2], np.dtype("<u2"))
    real = (values_of(rng, SHAPES[3], np.dtype("<u2")) / 8).astype("<f4")
    for identifier, encode in {
        "gzip": lambda raw: gzip.compress(raw, 5),
        "zlib": lambda raw: zlib.compress(raw, 5),
        "bz2": lambda raw: bz2.compress(raw, 5),
        "lzma": lzma.compress,
    }.items():
        v2(cases, data, encode, f"{identifier} of the standard library", compressor={"id": identifier, "level": 5} if identifier != "lzma" else {"id": "lzma", "format": 1, "check": -1, "preset": None, "filters": None})
    v2(cases, data, lambda raw: gzip.compress(raw[:100]) + gzip.compress(raw[100:]), "gzip of two members", compressor={"id": "gzip", "level": 1})
    v2(cases, data, lambda raw: gzip.compress(raw), "gzip under the name zlib's settings", compressor={"id": "gzip", "level": 1, "extra": 5})
    v2(cases, data, lambda raw: bz2.compress(raw[:50]) + bz2.compress(raw[50:]), "bz2 of two streams", compressor={"id": "bz2", "level": 1})
    for codec in (numcodecs.Blosc("lz4"), numcodecs.Zstd(), numcodecs.LZ4()):
        v2(cases, real, codec.encode, "numcodecs", compressor=codec.get_config())
        v2(cases, real, codec.encode, "numcodecs, F order", order="F", compressor=codec.get_config())
    v2(cases, data, numcodecs.Blosc("lz4", shuffle=1).encode, "a blosc without parameters (only an encoder needs them)", compressor={"id": "blosc"})
    v2(cases, data, numcodecs.Zstd().encode, "zstd with a member checksum (numcodecs from 0.13 on)", compressor={"id": "zstd", "level": 0, "checksum": False})
    v2(cases, data, numcodecs.Zstd().encode, "zstd without a level", compressor={"id": "zstd"})
    v2(cases, data, lambda raw: zlib.compress(raw), "a level of null (numcodecs takes and writes what it was given)", compressor={"id": "zlib", "level": None})
    v2(cases, data, numcodecs.Blosc("zstd").encode, "typesize null (numcodecs 0.16)", compressor={"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": -1, "blocksize": 0, "typesize": None})
    v2(cases, real, lambda raw: numcodecs.Shuffle(4).encode(raw), "shuffle without its size (numcodecs' default is 4)", filters=[{"id": "shuffle"}])
    v2(cases, np.arange(24, dtype="<u2").reshape(6, 4), lambda raw: numcodecs.Shuffle(4).encode(raw), "the same, though elements have 2 bytes", filters=[{"id": "shuffle"}])
    v2(cases, data, same, "no member order (z5 before 2.0, zarr.js)", drop=("order",))
    v2(cases, data, same, "no member compressor (z5)", drop=("compressor",))
    v2(cases, data, same, "fill_value null (zarr-python 2, h5py's converters)", fill_value=None)
    v2(cases, data, same, "filters null and members of netCDF-C", _nczarr_array={"dimrefs": ["/y", "/x"], "storage": "chunked"})
    v2(cases, data, same, "empty filters (zarr.js, n5-zarr)", filters=[])
    v2(cases, data, same, "no member filters (early z5)", drop=("filters",))
    v2(cases, data, same, "dimension_separator null", dimension_separator=None)
    v2(cases, data, same, "a float as fill value of integers (z5, GDAL)", fill_value=0.0)
    v2(cases, data, same, "attributes within .zarray", attributes={"a": 1})
    v2(cases, real, same, "the fill value NaN as a token (xarray)", fill_value=float("nan"))
    v2(cases, real, same, "a fill value in words", fill_value="-Infinity")

    def delta(raw: bytes) -> bytes:
        return numcodecs.Blosc("zstd").encode(numcodecs.Delta("<u2", "<i4").encode(np.frombuffer(raw, "<u2")))

    v2(cases, data, delta, "delta into a wider type, then blosc", filters=[{"id": "delta", "dtype": "<u2", "astype": "<i4"}], compressor=numcodecs.Blosc("zstd").get_config())

    def scaled(raw: bytes) -> bytes:
        return numcodecs.FixedScaleOffset(offset=1, scale=8, dtype="<f4", astype="<u2").encode(np.frombuffer(raw, "<f4")).tobytes()

    v2(cases, np.abs(real) + 1, scaled, "fixedscaleoffset", filters=[{"id": "fixedscaleoffset", "offset": 1, "scale": 8, "dtype": "<f4", "astype": "<u2"}])
    v2(cases, data % 2 == 1, lambda raw: numcodecs.PackBits().encode(np.frombuffer(raw, "?")).tobytes(), "packbits", filters=[{"id": "packbits"}], fill_value=False)
    for checksum in (numcodecs.CRC32(), numcodecs.Adler32(), numcodecs.CRC32C(location="end"), numcodecs.CRC32(location="end"), numcodecs.CRC32C()):
        v2(cases, data, lambda raw, c=checksum: bytes(c.encode(np.frombuffer(raw, "u1"))), f"{checksum}", filters=None, compressor=checksum.get_config())
    v2(cases, data, lambda raw: bytes(numcodecs.Fletcher32().encode(np.frombuffer(raw, "u1"))), "fletcher32", compressor={"id": "fletcher32"})


def shard(chunk: np.ndarray, inner: tuple[int, ...], encode: Encode, at_start: bool, big: bool, checksum: bool, skip: int = -1) -> bytes:
    """One shard with its index."""
    parts = chunk_arrays(chunk, inner)
    index_bytes = 16 * len(parts) + 4 * checksum
    body, entries, position = b"", [], index_bytes if at_start else 0
    for number, (_, part) in enumerate(parts):
        if number == skip:
            entries += [2**64 - 1, 2**64 - 1]
            continue
        stored = encode(part.tobytes())
        entries += [position, len(stored)]
        body += stored
        position += len(stored)
    index = struct.pack(f"{'>' if big else '<'}{len(entries)}Q", *entries)
    if checksum:
        index = bytes(numcodecs.CRC32C(location="end").encode(np.frombuffer(index, "u1")))
    return index + body if at_start else body + index


def write_v3(cases: Cases, rng: np.random.Generator) -> None:
    data = values_of(rng, SHAPES[2], np.dtype("<u2"))
    real = (values_of(rng, SHAPES[2], np.dtype("<u2")) / 8).astype("<f4")
    zstd = numcodecs.Zstd().encode
    v3(cases, data, same, "dimension_names null (zarr-python 3.0)", [BYTES_LITTLE], dimension_names=None)
    v3(cases, data, same, "a float as fill value of integers (tensorstore took it, early zarr.js wrote it)", [BYTES_LITTLE], fill_value=0.0)
    v3(cases, data, zstd, "zstd without checksum (early zarrs)", [BYTES_LITTLE, {"name": "zstd", "configuration": {"level": 3}}])
    v3(cases, data, zstd, "zstd without a configuration", [BYTES_LITTLE, {"name": "zstd"}])
    v3(cases, data.astype("u1"), same, "bare codec names", ["bytes"])
    v3(cases, data, same, "storage_transformers empty", [BYTES_LITTLE], storage_transformers=[])
    v3(cases, data, same, "no key configuration", [BYTES_LITTLE], chunk_key_encoding={"name": "default"})
    v3(cases, data, same, "an unknown member that may be ignored", [BYTES_LITTLE], extra={"name": "later", "must_understand": False})
    v3(cases, data, numcodecs.Blosc("lz4", shuffle=1).encode, "blosc with another typesize than the item's", [BYTES_LITTLE, {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 7, "blocksize": 0}}])
    v3(cases, real, same, "a fill value in hexadecimal", [BYTES_LITTLE], fill_value="0x7fc00001")
    v3(cases, data, lambda raw: zlib.compress(raw), "zlib by its registered name", [BYTES_LITTLE, {"name": "zlib", "configuration": {"level": 5}}])
    v3(cases, data, lambda raw: bz2.compress(raw), "bz2 by its registered name", [BYTES_LITTLE, {"name": "bz2", "configuration": {"level": 5}}])
    v3(cases, data, numcodecs.LZ4().encode, "lz4 by its short name", [BYTES_LITTLE, {"name": "lz4", "configuration": {"acceleration": 1}}])
    zarrs = "https://codec.zarrs.dev/"
    v3(cases, data, lambda raw: bz2.compress(raw), "bz2 by a uri (zarrs before 0.20)", [BYTES_LITTLE, {"name": f"{zarrs}bytes_to_bytes/bz2", "configuration": {"level": 5}}])
    v3(cases, data, lambda raw: bytes(numcodecs.Fletcher32().encode(np.frombuffer(raw, "u1"))), "fletcher32 by a uri (zarrs before 0.20)", [BYTES_LITTLE, {"name": f"{zarrs}bytes_to_bytes/fletcher32"}])
    v3(cases, real, same, "bitround by a uri (zarrs before 0.20)", [{"name": f"{zarrs}array_to_array/bitround", "configuration": {"keepbits": 10}}, BYTES_LITTLE])
    v3(cases, data, same, "pcodec by a uri (zarrs before 0.20)", [{"name": f"{zarrs}array_to_bytes/pcodec", "configuration": {"level": 8}}], refused="pcodec")
    v3(cases, data, lambda raw: zlib.compress(raw), "the member id in v3 (numcodecs' codecs in zarr-python 3)", [BYTES_LITTLE, {"name": "numcodecs.zlib", "configuration": {"id": "zlib", "level": 1}}])
    v3(cases, data, lambda raw: gzip.compress(raw), "bare names behind others (zarrs)", [BYTES_LITTLE, "gzip"])
    v3(cases, data, same, "attributes with NaN as a token (zarr-python 3, xarray)", [BYTES_LITTLE], attributes={"valid": [float("nan"), float("-inf")]})
    v3(cases, data, same, "no attributes (zarrs, zarr-java)", [BYTES_LITTLE])
    v3(cases, data, same, "attributes null (zarr-python reads it)", [BYTES_LITTLE], attributes=None)
    v3(cases, data, same, "storage_transformers null (zarr-python reads it)", [BYTES_LITTLE], storage_transformers=None)
    v3(cases, data, same, "the data type as an object without a configuration (core specification 3.1)", [BYTES_LITTLE], {"name": "uint16"})  # type: ignore[arg-type]
    v3(cases, data.astype("u1"), same, "endian for bytes (tensorstore), null for it (early zarr-python 3)", [{"name": "bytes", "configuration": {"endian": None}}])
    v3(cases, np.asfortranarray(data), lambda raw: raw, "the order C in letters (drafts of the specification)", [{"name": "transpose", "configuration": {"order": "C"}}, BYTES_LITTLE])
    v3(cases, data, lambda raw: numcodecs.Delta("<u2").encode(np.frombuffer(raw, "<u2")).tobytes(), "delta as array->array", [{"name": "numcodecs.delta", "configuration": {"dtype": "<u2"}}, BYTES_LITTLE])
    for at_start, big, checksum, skip in itertools.product((False, True), (False, True), (False, True), (-1, 2)):
        index_codecs: list[Any] = [{"name": "bytes", "configuration": {"endian": "big" if big else "little"}}] + [{"name": "crc32c"}] * checksum
        configuration = {"chunk_shape": [2, 5], "codecs": [BYTES_LITTLE, {"name": "zstd"}], "index_codecs": index_codecs}
        if at_start or rng.random() < 0.5:  # missing: zarr-python before 3.0
            configuration["index_location"] = "start" if at_start else "end"
        codec = {"name": "sharding_indexed", "configuration": configuration}
        filled = np.array(data)
        shape = (8, 10)
        path = cases.path()
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": data.shape,
            "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
            "chunk_key_encoding": {"name": "default"},
            "codecs": [codec],
            "fill_value": 77,
        }
        put(path / "zarr.json", json.dumps(metadata))
        for at, chunk in chunk_arrays(data, shape):
            put(path / "c" / "/".join(map(str, at)), shard(chunk, (2, 5), zstd, at_start, big, checksum, skip))
            if skip >= 0:
                row, column = at[0] * 8 + 2 * (skip // 2), at[1] * 10 + 5 * (skip % 2)
                filled[row : row + 2, column : column + 5] = 77
        cases.add(filled, f"a shard by hand: {metadata}")
    write_uneven_shards(cases, data, zstd)
    write_registry(cases, rng)


def write_uneven_shards(cases: Cases, data: np.ndarray, encode: Encode) -> None:
    """Shards of a rectilinear grid, as zarr-python from 3.3 on writes them: each a multiple of the inner chunk."""
    inner = (2, 3)
    extents = [list(itertools.islice(itertools.cycle((2 * step, step, 3 * step)), n)) for n, step in zip(data.shape, inner)]
    extents = [row[: next(i for i in range(1, len(row) + 1) if sum(row[:i]) >= n)] for row, n in zip(extents, data.shape)]
    path = cases.path()
    codec = {"name": "sharding_indexed", "configuration": {"chunk_shape": inner, "codecs": [BYTES_LITTLE, {"name": "zstd"}], "index_codecs": [BYTES_LITTLE, {"name": "crc32c"}], "index_location": "end"}}
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": data.shape,
        "data_type": "uint16",
        "chunk_grid": {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": extents}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [codec],
        "fill_value": 0,
    }
    put(path / "zarr.json", json.dumps(metadata))
    for at in itertools.product(*(range(len(row)) for row in extents)):
        whole = np.zeros([row[a] for row, a in zip(extents, at)], data.dtype)
        part = data[tuple(slice(sum(row[:a]), sum(row[: a + 1])) for row, a in zip(extents, at))]
        whole[tuple(slice(0, n) for n in part.shape)] = part
        put(path / "c" / "/".join(map(str, at)), shard(whole, inner, encode, False, False, True))
    cases.add(data, f"uneven shards by hand: {metadata}", path)


def write_registry(cases: Cases, rng: np.random.Generator) -> None:
    """What the extension registry defines and few write yet."""
    import ml_dtypes

    shape = SHAPES[2]
    for name in ("bfloat16", "float8_e4m3", "float8_e3m4", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz", "float8_e8m0fnu", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"):
        dtype = np.dtype(getattr(ml_dtypes, name))
        bits = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), "u1")
        bits = bits & {"float4": 0x0F, "float6": 0x3F}.get(name[:6], 0xFF)  # the others are 0
        data = bits.view(dtype).reshape(shape)
        v3(cases, data, same, name, [BYTES_LITTLE if dtype.itemsize > 1 else {"name": "bytes"}], name, fill_value=0.0)
    for name, low, high in (("int2", -2, 2), ("int4", -8, 8), ("uint2", 0, 4), ("uint4", 0, 16)):
        data = rng.integers(low, high, shape).astype(getattr(ml_dtypes, name))
        v3(cases, data, same, name, [{"name": "bytes"}], name)
    for name in ("numpy.datetime64", "numpy.timedelta64"):
        kind = "M8" if "date" in name else "m8"
        data = values_of(rng, shape, np.dtype("i8")).view(f"{kind}[us]")
        v3(cases, data, same, name, [BYTES_LITTLE], {"name": name, "configuration": {"unit": "us", "scale_factor": 10}}, fill_value="NaT")  # type: ignore[arg-type]
    data = values_of(rng, shape, np.dtype("<u2"))
    v3(cases, data, same, "unknown codec", [BYTES_LITTLE, {"name": "morse"}], refused="morse")
    v3(cases, data, same, "unknown grid", [BYTES_LITTLE], chunk_grid={"name": "hexagonal", "configuration": {}}, refused="hexagonal")
    v3(cases, data, same, "unknown key encoding", [BYTES_LITTLE], chunk_key_encoding={"name": "rot13"}, refused="rot13")
    v3(cases, data, same, "storage transformer", [BYTES_LITTLE], storage_transformers=[{"name": "cipher"}], refused="storage_transformers")
    v3(cases, data, same, "an unknown member that must be understood", [BYTES_LITTLE], extra={"name": "later"}, refused="extra")
    v3(cases, data, same, "strings", [{"name": "vlen-utf8"}], "string", fill_value="", refused="string")


def write(cases: Cases, rng: np.random.Generator) -> None:
    write_v2(cases, rng)
    write_v3(cases, rng)


if __name__ == "__main__":
    main(write)
