"""Make codec_vectors.bin: chunks as numcodecs and zarr-python encode them, and the elements that these decode them to. And of one case of
each kind the corpus of fuzz/codec/fuzz_decode_chain.c.

tests/unit/codec/test_codec_vectors.c reads it. Run again after a change here: .venv/bin/python tests/data/codec_vectors.py

    u32 count, then for each case
    u8 damacy_dtype, u8 rank, u32 extents..., u8 codecs, then for each: text name, text configuration (65535: none)
    u32 stored bytes, bytes, u32 decoded bytes, bytes (C order, little-endian)
    text: u16 length, bytes
"""

import json
import lzma
import pathlib
import struct
import warnings

import ml_dtypes
import numcodecs
import numcodecs.blosc
import numpy as np
import zarr
import zarr.codecs
import zarr.codecs.numcodecs as v3

warnings.simplefilter("ignore")
DTYPES = {"bool": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint8": 6, "uint16": 7, "uint32": 8, "uint64": 9, "float16": 10,
          "float32": 12, "float64": 13}
NUMPY = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
CORPUS = pathlib.Path(__file__).parents[2] / "fuzz" / "corpus" / "decode_chain"
rng = np.random.default_rng(2024)
cases = []
kinds = {}


def add(dtype, shape, codecs, stored, decoded):
    """One case: `codecs` in the order of encoding, `decoded` the expected array."""
    native = np.ascontiguousarray(decoded).astype(np.dtype(dtype).newbyteorder("<"), copy=False)
    assert native.size == np.prod(shape, dtype=int), (codecs, native.shape, shape)
    blob = struct.pack("<BB", DTYPES[np.dtype(dtype).name], len(shape)) + struct.pack(f"<{len(shape)}I", *shape)
    blob += struct.pack("<B", len(codecs))
    for name, configuration in codecs:
        for text in (name, None if configuration is None else json.dumps(configuration)):
            data = b"" if text is None else text.encode()
            blob += struct.pack("<H", 65535 if text is None else len(data)) + data
    for data in (bytes(stored), native.tobytes()):
        blob += struct.pack("<I", len(data)) + data
    cases.append(blob)
    lines = "\n".join(name if configuration is None else f"{name} {json.dumps(configuration)}" for name, configuration in codecs)
    seed = struct.pack(f"<BB{len(shape)}HHH", DTYPES[np.dtype(dtype).name] - 1, len(shape), *shape, 20000, 30000)
    kind = tuple((name, *(v for k, v in (configuration or {}).items() if k in {"format", "location", "padding_encoding", "cname"})) for name, configuration in codecs)
    if len(stored) < 6000:
        kinds.setdefault(kind, seed + lines.encode() + b"\0" + bytes(stored))


def endian_of(dtype):
    return {} if np.dtype(dtype).itemsize == 1 else {"endian": "big" if np.dtype(dtype).str[0] == ">" else "little"}


def as_bytes(encoded):
    return encoded if isinstance(encoded, (bytes, bytearray)) else np.ascontiguousarray(encoded).tobytes()


def v2(array, filters, compressor=None, order="C", stored=None):
    """As a v2 writer does it: filters and compressor one after the other, decoded again by numcodecs."""
    steps = filters + ([compressor] if compressor else [])
    data = array.ravel(order=order)
    if stored is None:
        for step in steps:
            data = step.encode(data)
        stored = as_bytes(data)
    decoded = stored
    for step in reversed(steps):
        if step.codec_id == "lzma" and step.format == lzma.FORMAT_XZ:
            step = numcodecs.LZMA()  # Python reads such a stream only without its filters
        decoded = step.decode(decoded)
    decoded = np.frombuffer(as_bytes(decoded), array.dtype).reshape(array.shape, order=order)
    codecs = [("transpose", {"order": list(range(array.ndim))[::-1]})] if order == "F" else []
    codecs.append(("bytes", endian_of(array.dtype)))
    for step in steps:
        configuration = dict(step.get_config())
        codecs.append(("numcodecs." + configuration.pop("id"), configuration))
    add(array.dtype.newbyteorder("="), array.shape, codecs, stored, decoded)


def values(dtype, count, small=False):
    """Numbers of a type, with its edges."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, count).astype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if small:
            return rng.integers(max(info.min, -9), 9, count).astype(dtype)
        made = rng.integers(info.min, info.max, count, dtype=dtype.newbyteorder("="), endpoint=True)
        made[: min(count, 4)] = [info.min, info.max, 0, 1][: min(count, 4)]
        return made.astype(dtype)
    made = rng.normal(size=count) * (3 if small else 100)
    if not small:
        made[: min(count, 6)] = [0.0, -0.0, np.inf, -np.inf, np.nan, 6e-8][: min(count, 6)]
    return made.astype(dtype)


def numeric():
    deltas = [(t, t) for t in NUMPY[1:]] + [("i2", "i1"), ("i8", "i2"), ("u8", "u1"), ("f4", "i4"), ("f8", "f4"), ("f4", "f8"), ("i2", "u8"),
              ("f4", "f2"), ("f2", "i1"), ("f4", "u2"), ("f8", "i8"), ("i4", "?"), (">i4", ">i4"), (">f8", "<i2"), ("<u2", ">u1"), ("u1", "i4")]
    for dtype, astype in deltas:
        codec = numcodecs.Delta(dtype=dtype, astype=astype)
        encoded = values(astype, 300, small=np.dtype(astype).kind == "f" or np.dtype(dtype).kind == "f")
        v2(np.zeros(300, dtype), [codec], stored=encoded.tobytes())
    v2(np.zeros(5, "f4"), [numcodecs.Delta("f4")], stored=np.array([-0.0, -0.0, 1, np.nan, 2], "f4").tobytes())
    for astype in NUMPY:
        for dtype, scale, offset in [("f4", 10, 1000), ("f8", 0.1, -3.5), ("f2", 3, 2), (">f4", 100.0, 273.15), ("i4", 4, 7)]:
            codec = numcodecs.FixedScaleOffset(offset=offset, scale=scale, dtype=dtype, astype=astype)
            encoded = values(astype, 40, small=np.dtype(dtype).kind == "i")
            v2(np.zeros(40, dtype), [codec], stored=encoded.tobytes())
    for encode in NUMPY:
        for decode in NUMPY:
            to_integer = np.dtype(encode).kind == "f" and np.dtype(decode).kind in "iu"
            encoded = values(encode, 24, small=to_integer)
            if to_integer and np.dtype(decode).kind == "u":
                encoded = np.abs(encoded)
            v2(np.zeros(24, decode), [numcodecs.AsType(encode, decode)], stored=encoded.tobytes())
    v2(np.zeros(24, ">i8"), [numcodecs.AsType(">f4", ">i8")], stored=values(">f4", 24, small=True).tobytes())
    halves = np.arange(0, 65536, 61, dtype="u2")
    halves[np.isnan(halves.view("f2"))] |= 0x200  # quiet ones: what becomes of the others depends on the machine
    v2(np.zeros(halves.size, "f4"), [numcodecs.AsType("f2", "f4")], stored=halves.tobytes())
    around = (np.arange(1, 900, 1.37) * 2.0 ** rng.integers(-30, 8, 657)).astype("f8")
    v2(np.zeros(657, "f2"), [numcodecs.AsType("f8", "f2")], stored=around.tobytes())
    for dtype, astype in [("f4", "f4"), ("f8", "f4"), ("f4", "f8"), ("f8", "f2"), (">f8", "<f4")]:
        v2(values(dtype, 300), [numcodecs.Quantize(3, dtype, astype)])
    v2(values("f4", 300), [numcodecs.BitRound(7)])


def bits():
    for count in [*range(1, 20), 300]:
        v2(values("?", count), [numcodecs.PackBits()])
    for size in [1, 2, 3, 4, 5, 8, 16, 30]:
        v2(values("u1", 240 * 3), [numcodecs.Shuffle(size)])
    for name in ["CRC32", "Adler32", "CRC32C"]:
        for location in [None, "start", "end"]:
            codec = getattr(numcodecs, name, None) or getattr(numcodecs.checksum32, name)
            v2(values("u2", 51), [codec(location=location)])
    for count in [*range(1, 30), 719, 720, 721, 1999]:
        v2(values("u1", count), [numcodecs.Fletcher32()])
        v2(values("u1", count), [numcodecs.JenkinsLookup3(initval=int(rng.integers(0, 2**32)))])
    v2(np.full(2000, 255, "u1"), [numcodecs.Fletcher32()])


def image(dtype="u2", count=1000):
    return (300 + np.arange(count) // 7 + rng.integers(0, 8, count)).astype(dtype)


def compressors():
    xz, alone, raw = lzma.FORMAT_XZ, lzma.FORMAT_ALONE, lzma.FORMAT_RAW
    lzma2 = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
    for codec in [
        numcodecs.Zlib(0), numcodecs.Zlib(9), numcodecs.GZip(5), numcodecs.BZ2(1), numcodecs.BZ2(9), numcodecs.LZ4(), numcodecs.LZ4(7),
        numcodecs.Zstd(1), numcodecs.Zstd(7, checksum=True), numcodecs.LZMA(), numcodecs.LZMA(preset=9), numcodecs.LZMA(preset=0),
        numcodecs.LZMA(xz, lzma.CHECK_NONE), numcodecs.LZMA(xz, lzma.CHECK_CRC32), numcodecs.LZMA(xz, lzma.CHECK_SHA256),
        numcodecs.LZMA(alone, preset=3), numcodecs.LZMA(raw, filters=lzma2),
        numcodecs.LZMA(xz, filters=[{"id": lzma.FILTER_DELTA, "dist": 2}, {"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 22}]),
        numcodecs.LZMA(raw, filters=[{"id": lzma.FILTER_DELTA, "dist": 2}, {"id": lzma.FILTER_LZMA2, "dict_size": 65536, "lc": 2, "lp": 1}]),
        numcodecs.LZMA(raw, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 2}]),
        numcodecs.LZMA(raw, filters=[{"id": lzma.FILTER_LZMA1, "preset": 4}]),
    ]:
        v2(image(), [], codec)
    for inner in ["blosclz", "lz4", "lz4hc", "zlib", "zstd"]:
        for shuffle in [-1, 0, 1, 2]:
            v2(image(), [], numcodecs.Blosc(inner, shuffle=shuffle))
    both = image()
    first, second = both[:400].tobytes(), both[400:].tobytes()
    for codec in [numcodecs.BZ2(1), numcodecs.LZMA(), numcodecs.GZip(1)]:
        v2(both, [], codec, stored=codec.encode(first) + codec.encode(second))
    codec = numcodecs.LZMA(0)  # finds the format by itself
    v2(both, [], codec, stored=lzma.compress(both.tobytes(), format=alone))
    v2(both, [], codec, stored=lzma.compress(both.tobytes()))


def chains():
    grid = image("<i4", 12 * 30).reshape(12, 30)
    v2(grid, [numcodecs.Delta("<i4", "<i2"), numcodecs.Shuffle(2)], numcodecs.Zlib(3))
    v2(grid, [numcodecs.Delta("<i4", "<i2")], numcodecs.Blosc("lz4", shuffle=1), order="F")
    v2(grid.astype(">i4"), [numcodecs.Delta(">i4")], numcodecs.LZ4(), order="F")
    v2(grid.astype("<f4"), [numcodecs.FixedScaleOffset(300, 10, "<f4", "<u2"), numcodecs.CRC32()], numcodecs.BZ2(3))
    v2(grid.astype("<f8"), [numcodecs.AsType("<f4", "<f8"), numcodecs.Shuffle(4), numcodecs.Adler32()], numcodecs.GZip(1))
    v2((grid % 3 == 0), [numcodecs.PackBits()], numcodecs.Zstd(3))


def by_zarr(array, fill=None, **settings):
    """One chunk as zarr-python writes it in v3."""
    store = zarr.storage.MemoryStore()
    made = zarr.create_array(store, shape=array.shape, dtype=array.dtype, chunks=array.shape, fill_value=fill or 0, config={"write_empty_chunks": False},
                             **settings)
    made[...] = array
    (key,) = [key for key in store._store_dict if key.startswith("c")]
    codecs = json.loads(store._store_dict["zarr.json"].to_bytes())["codecs"]

    def add_fill(listed):
        for codec in listed:
            if codec["name"] == "sharding_indexed":
                codec["configuration"]["damacy.fill"] = np.array(fill or 0, array.dtype).tobytes().hex()
                add_fill(codec["configuration"]["codecs"])

    add_fill(codecs)
    add(array.dtype, array.shape, [(c["name"], c.get("configuration")) for c in codecs], store._store_dict[key].to_bytes(),
        zarr.open_array(store)[...])


def version3():
    grid = image("<i4", 12 * 30).reshape(12, 30)
    little, big = zarr.codecs.BytesCodec(), zarr.codecs.BytesCodec(endian="big")
    by_zarr(grid, filters=[v3.Delta(dtype="<i4")], serializer=little, compressors=[v3.BZ2(level=5)])
    by_zarr(grid, filters=[v3.Delta(dtype="<i4", astype="<i2")], serializer=little, compressors=[v3.Zlib(level=1)])
    by_zarr(grid.astype("f4"), filters=[v3.FixedScaleOffset(dtype="float32", astype="uint16", scale=10, offset=300)], compressors=[v3.LZ4()])
    by_zarr(grid.astype("f8"), filters=[v3.AsType(encode_dtype="f4", decode_dtype="f8")], compressors=[v3.Shuffle(elementsize=4), v3.Zstd(level=3)])
    by_zarr(grid.astype("f4"), filters=[v3.BitRound(keepbits=4)], compressors=[v3.LZMA(preset=1), v3.CRC32()])
    by_zarr(grid.astype("f4"), filters=[v3.Quantize(digits=2, dtype="f4")], compressors=[v3.Shuffle(), v3.GZip(level=1), v3.Fletcher32()])
    by_zarr(grid, filters=None, compressors=[v3.Adler32(), v3.CRC32C(), v3.JenkinsLookup3(initval=3)])
    by_zarr(grid, filters=[zarr.codecs.TransposeCodec(order=(1, 0))], serializer=big, compressors=[v3.Blosc(cname="lz4", shuffle=1)])
    # shards as codecs: nested, below a transpose, and with codecs around
    inner = zarr.codecs.ShardingCodec(chunk_shape=(2, 5), codecs=[big, zarr.codecs.GzipCodec(level=1)])
    sparse = grid.copy()
    sparse[8:, :15] = 7
    for location in ["start", "end"]:
        outer = zarr.codecs.ShardingCodec(chunk_shape=(4, 15), codecs=[inner], index_location=location)
        by_zarr(sparse, fill=7, filters=None, serializer=outer, compressors=None)
        by_zarr(sparse, fill=7, filters=None, serializer=outer, compressors=[zarr.codecs.ZstdCodec(level=1)])
    turned = zarr.codecs.ShardingCodec(chunk_shape=(6, 3), codecs=[zarr.codecs.TransposeCodec(order=(1, 0)), little])
    by_zarr(sparse, fill=7, filters=[zarr.codecs.TransposeCodec(order=(1, 0))], serializer=turned, compressors=None)


def swapped(array, axes):
    return np.ascontiguousarray(array.transpose(axes)).tobytes()


def arrays():
    """Codecs of arrays that no library here has: the reference is numpy, in words of the specifications."""
    grid = image("<i4", 24).reshape(2, 3, 4)
    # delta above a transpose, in either byte order: differences of the elements in C order of the array
    flat = grid.ravel()
    steps = np.diff(flat, prepend=0).astype("<i4").reshape(grid.shape)
    for endian, code in [("little", "<i4"), ("big", ">i4")]:
        add("i4", grid.shape, [("numcodecs.delta", {"dtype": "<i4"}), ("transpose", {"order": [2, 0, 1]}), ("bytes", {"endian": endian})],
            swapped(steps.astype(code), (2, 0, 1)), grid)
        turned = np.diff(grid.transpose(1, 2, 0).ravel(), prepend=0).astype(code)
        add("i4", grid.shape, [("transpose", {"order": [1, 2, 0]}), ("numcodecs.delta", {"dtype": "<i4"}), ("bytes", {"endian": endian})],
            turned.tobytes(), grid)
    # small types
    everything = np.arange(256, dtype="u1")
    for name in ["float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
                 "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"]:
        known = np.arange({"6": 64, "4": 16}.get(name[5], 256), dtype="u1")
        wide = known.view(getattr(ml_dtypes, name)).astype("f4")
        add("f4", known.shape, [("damacy.widen", {"from": name}), ("bytes", None)], known.tobytes(), wide)
    for name, size in [("int2", 2), ("uint2", 2), ("int4", 4), ("uint4", 4)]:
        low = everything & ((1 << size) - 1)
        wide = np.where((name[0] == "i") & (low >> (size - 1) > 0), low.astype("i2") - (1 << size), low)
        dtype = "i1" if name[0] == "i" else "u1"
        add(dtype, (256,), [("damacy.widen", {"from": name}), ("bytes", None)], everything.tobytes(), wide.astype(dtype))
        some = wide[:201]
        packed = np.packbits(np.unpackbits(low[:201, None], axis=1, bitorder="little")[:, :size].ravel(), bitorder="little")
        pad = (-201 * size) % 8
        for encoding, stored in [("none", packed.tobytes()), ("first_byte", bytes([pad]) + packed.tobytes()), ("last_byte", packed.tobytes() + bytes([pad]))]:
            add(dtype, (201,), [("damacy.widen", {"from": name}), ("packbits", {"padding_encoding": encoding})], stored, some.astype(dtype))
    bools = values("?", 77)
    add("?", (77,), [("packbits", {})], np.packbits(bools, bitorder="little").tobytes(), bools)
    for dtype, first, last in [("u2", 0, 11), ("i2", 0, 9), ("i4", 5, 17), ("u8", 0, 63), ("i8", 3, 63), ("f4", 0, 31), ("u8", 1, 60)]:
        info = np.dtype(dtype).itemsize * 8
        raw = rng.integers(0, 2, (50, info)).astype("u1")
        raw[:, :first] = 0
        top = raw[:, last] if np.dtype(dtype).kind == "i" else 0 * raw[:, last]
        raw[:, last + 1:] = top[:, None]
        if dtype == "f4":
            raw = np.unpackbits(values("f4", 50).view("u1").reshape(50, 4), axis=1, bitorder="little")
        decoded = np.packbits(raw, axis=1, bitorder="little").view("<" + dtype).ravel()
        packed = np.packbits(raw[:, first:last + 1].ravel(), bitorder="little")
        add(dtype, (50,), [("packbits", {"first_bit": first, "last_bit": last})], packed.tobytes(), decoded)
    # members of records
    record = np.dtype([("a", "u1"), ("b", ">f4"), ("c", "<i2", (3,)), ("d", "<f8")])
    rows = np.zeros((4, 5), record)
    rows["b"], rows["c"], rows["d"] = values("f4", 20).reshape(4, 5), values("i2", 60).reshape(4, 5, 3), values("f8", 20).reshape(4, 5)
    for name, endian in [("b", "big"), ("c", "little"), ("d", "little")]:
        inside, offset = record.fields[name][:2]
        member = {"record_bytes": record.itemsize, "offset": offset, "item_bytes": inside.itemsize, "endian": endian}
        column = rows[name]
        add(inside.base.newbyteorder("="), column.shape, [("damacy.member", member), ("bytes", None), ("numcodecs.zlib", {"level": 1})],
            numcodecs.Zlib(1).encode(rows), column)
        order = [1, 0, 2][: column.ndim]
        add(inside.base.newbyteorder("="), column.shape, [("damacy.member", member), ("transpose", {"order": order}), ("bytes", None)],
            np.asfortranarray(rows).tobytes(order="F"), column)
    # scale_offset and cast_value
    stored = np.arange(256, dtype="u1")
    add("f4", (256,), [("scale_offset", {"offset": 5, "scale": 0.1}), ("cast_value", {"data_type": "uint8", "rounding": "nearest-even"}), ("bytes", None)],
        stored.tobytes(), stored.astype("f4") / np.float32(0.1) + np.float32(5))
    add("i4", (256,), [("scale_offset", {"offset": -7, "scale": 3}), ("bytes", {"endian": "big"})],
        (np.arange(-128, 128) * 3).astype(">i4").tobytes(), (np.arange(-128, 128) - 7).astype("i4"))
    floats = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, 2.6, -2.4, -2.6, 126.4, -126.9], "f8")
    for rounding, function in [("nearest-even", np.rint), ("towards-zero", np.trunc), ("towards-positive", np.ceil), ("towards-negative", np.floor),
                               ("nearest-away", lambda x: np.trunc(x + np.copysign(0.5, x)))]:
        add("i1", floats.shape, [("cast_value", {"data_type": "float64", "rounding": rounding}), ("bytes", {"endian": "little"})], floats.tobytes(),
            function(floats).astype("i1"))
    far = np.array([-1e300, -129, -128, 127, 128, 1e10, 255, 300], "f8")
    add("i1", far.shape, [("cast_value", {"data_type": "float64", "out_of_range": "clamp"}), ("bytes", {"endian": "little"})], far.tobytes(),
        np.clip(far, -128, 127).astype("i1"))
    add("u1", far[1:].shape, [("cast_value", {"data_type": "float64", "out_of_range": "wrap"}), ("bytes", {"endian": "little"})], far[1:].tobytes(),
        np.mod(far[1:], 256).astype("u1"))
    wide = np.array([-(2**63), -1, 0, 127, 128, 255, 256, 2**63 - 1], "i8")
    add("u1", wide.shape, [("cast_value", {"data_type": "int64", "out_of_range": "clamp"}), ("bytes", {"endian": "little"})], wide.tobytes(),
        np.clip(wide, 0, 255).astype("u1"))
    add("i1", wide.shape, [("cast_value", {"data_type": "int64", "out_of_range": "wrap"}), ("bytes", {"endian": "little"})], wide.tobytes(), wide.astype("i1"))
    add("u8", wide[2:].shape, [("cast_value", {"data_type": "int64"}), ("bytes", {"endian": "little"})], wide[2:].tobytes(), wide[2:].astype("u8"))


for make in [numeric, bits, compressors, chains, version3, arrays]:
    make()
CORPUS.mkdir(exist_ok=True)
for number, seed in enumerate(kinds.values()):
    (CORPUS / f"{number:02}").write_bytes(seed)
path = pathlib.Path(__file__).with_name("codec_vectors.bin")
path.write_bytes(struct.pack("<I", len(cases)) + b"".join(cases))
print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")
