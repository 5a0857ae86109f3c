"""Write zarr_examples.h: metadata and shard indices made by zarr-python, and what zarr-python itself reads from them.

    pip install zarr==3.1.6 && python make_zarr_examples.py > zarr_examples.h

The header is committed, so that the C tests need no Python.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.core.metadata.v3 import ArrayV3Metadata

warnings.simplefilter("ignore")
DTYPES = {"bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16",
          "uint32": "U32", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64"}


def c_string(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def numbers(values):
    return "{" + ", ".join(f"{v}u" for v in values) + "}" if values else "{0}"


def example(name, text):
    """One entry: the text, and the facts as zarr-python sees them."""
    meta = ArrayV3Metadata.from_dict(json.loads(text))
    dtype = meta.data_type.to_native_dtype()
    fill = np.asarray(meta.fill_value, dtype=dtype.newbyteorder("=")).tobytes()
    grid = meta.chunk_grid.chunk_shape
    shards = meta.codecs[0] if isinstance(meta.codecs[0], ShardingCodec) else None
    inner = shards.chunk_shape if shards else grid
    last = [max(0, -(-s // g) - 1) for s, g in zip(meta.shape, grid)]
    chain = shards.codecs if shards else meta.codecs
    index_names = [c.to_dict()["name"] for c in shards.index_codecs] if shards else []
    big = bool(shards) and shards.index_codecs[0].endian.value == "big"
    at_start = bool(shards) and shards.index_location.value == "start"
    print(f"    {{.name = {c_string(name)},")
    print(f"     .text = {c_string(text)},")
    print(f"     .rank = {len(meta.shape)}, .dtype = DAMACY_{DTYPES[dtype.name]}, .item_bytes = {dtype.itemsize},")
    print(f"     .shape = {numbers(meta.shape)}, .chunk_shape = {numbers(inner)}, .grid_shape = {numbers(grid)},")
    print(f"     .fill = {{{', '.join(f'0x{b:02x}' for b in fill)}}},")
    print(f"     .sharded = {str(bool(shards)).lower()}, .index_at_start = {str(at_start).lower()},"
          f" .index_crc32c = {str('crc32c' in index_names).lower()}, .index_big_endian = {str(big).lower()},")
    print(f"     .codec_names = {c_string(' '.join(c.to_dict()['name'] for c in chain))},")
    print(f"     .last = {numbers(last)}, .last_key = {c_string(meta.encode_chunk_key(tuple(last)))}}},")


def written(folder, **arguments):
    path = tempfile.mkdtemp(dir=folder)
    zarr.create_array(path, zarr_format=3, overwrite=True, **arguments)
    return json.dumps(json.loads((Path(path) / "zarr.json").read_text()))


def write_arrays(folder):
    nd = dict(shape=(60, 250, 256), chunks=(16, 64, 64), dtype="u2")
    plane = dict(shape=(5, 5), chunks=(2, 2), dtype="i4")
    index_start = ShardingCodec(chunk_shape=(4, 4), codecs=[BytesCodec()], index_codecs=[BytesCodec(endian="big")],
                                index_location="start")
    example("plain", written(folder, fill_value=7, **nd))
    example("sharded zstd", written(folder, shape=(60, 256, 256), chunks=(16, 32, 32), shards=(32, 128, 128), dtype="u2",
                                    compressors=[ZstdCodec(level=3, checksum=True)]))
    example("sharded blosc", written(folder, shape=(100, 100), chunks=(10, 10), shards=(50, 20), dtype="f4",
                                     compressors=BloscCodec(cname="lz4", shuffle="bitshuffle"), fill_value=float("nan"),
                                     attributes={"a": [1, 2, {"b": None}], "nan": float("nan")}, dimension_names=["y", None]))
    example("index at start, big-endian, no checksum",
            written(folder, shape=(64, 64), chunks=(8, 8), dtype="u1", compressors=None, filters=None, serializer=index_start))
    example("transpose, gzip, crc32c",
            written(folder, shape=(5, 6, 7), chunks=(2, 3, 4), dtype="i8", filters=[TransposeCodec(order=(2, 0, 1))],
                    compressors=[GzipCodec(level=1), Crc32cCodec()], fill_value=-(2**63)))
    example("big-endian", written(folder, shape=(5,), chunks=(2,), dtype=">i4", fill_value=-2))
    example("rank 0", written(folder, shape=(), chunks=(), dtype="f8", fill_value=float("inf")))
    example("rank 0, v2 keys", written(folder, shape=(), chunks=(), dtype="f8", chunk_key_encoding={"name": "v2", "separator": "."}))
    example("empty", written(folder, shape=(0, 3), chunks=(2, 2), dtype="u1"))
    for name in "default", "v2":
        for separator in "/", ".":
            encoding = {"name": name, "separator": separator}
            example(f"{name} keys with {separator}", written(folder, chunk_key_encoding=encoding, **plane))


def write_fills(folder):
    def base(dtype, fill):
        text = json.loads(written(folder, shape=(4,), chunks=(2,), dtype=dtype))
        text["fill_value"] = fill
        return json.dumps(text)

    cases = [("bool", True), ("bool", False)]
    for bits in 8, 16, 32, 64:
        cases += [(f"int{bits}", -(2 ** (bits - 1))), (f"int{bits}", 2 ** (bits - 1) - 1), (f"uint{bits}", 2**bits - 1)]
        cases += [(f"int{bits}", 3.0), (f"uint{bits}", 3.0)]
    specials = ["NaN", "Infinity", "-Infinity", 0, -0.0, 0.1, -1.5, 65504, 1e-7, 12345678901]
    cases += [(f"float{bits}", v) for bits in (16, 32, 64) for v in specials]  # CPython drops the payload of an f16 NaN: hex NaNs of 32 and 64 bits only
    cases += [("float16", "0x3e00"), ("float16", "0xfc00"), ("float32", "0x7fc00001"), ("float32", "0xFF800000"),
              ("float64", "0x7ff8000000000001"), ("float64", "0x3ff0000000000000"), ("float16", 1e20), ("float32", 1e300)]
    for dtype, fill in cases:
        example(f"fill {dtype} {fill}", base(dtype, fill))


def write_shard(folder, name, serializer):
    """A shard of 4 x 4 chunks, of which every third is not written."""
    path = Path(tempfile.mkdtemp(dir=folder))
    array = zarr.create_array(path, shape=(8, 8), chunks=(8, 8), dtype="u2", zarr_format=3, compressors=None, filters=None,
                              serializer=serializer, overwrite=True, config={"write_empty_chunks": False})
    data = np.arange(1, 65, dtype="u2").reshape(8, 8)
    for i in range(0, 16, 3):
        y, x = divmod(i, 4)
        data[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = 0
    array[:] = data
    shard = (path / "c/0/0").read_bytes()
    crc = len(serializer.index_codecs) == 2
    bytes_ = 256 + (4 if crc else 0)
    index = shard[:bytes_] if serializer.index_location.value == "start" else shard[-bytes_:]
    sums = []  # of the elements of each chunk, so that the test can check what it finds at the offsets
    for i in range(16):
        y, x = divmod(i, 4)
        sums.append(int(data[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum()))
    text = json.dumps(json.loads((path / "zarr.json").read_text()))
    print(f"    {{.name = {c_string(name)},\n     .text = {c_string(text)},")
    print(f"     .index_bytes = {bytes_}, .index_offset = {0 if serializer.index_location.value == 'start' else len(shard) - bytes_},")
    print(f"     .shard_bytes = {len(shard)}, .shard = {{{', '.join(str(b) for b in shard)}}},")
    print(f"     .sums = {numbers(sums)}}},")
    assert len(index) == bytes_


def main():
    print("/* Made by make_zarr_examples.py with zarr-python %s; do not edit. */" % zarr.__version__)
    print("#ifndef ZARR_EXAMPLES_H\n#define ZARR_EXAMPLES_H\n")
    print('#include "damacy/damacy.h"\n')
    print("struct zarr_example {\n    const char *name, *text;\n    uint32_t rank;\n    enum damacy_dtype dtype;\n    uint32_t item_bytes;")
    print("    uint64_t shape[4], chunk_shape[4], grid_shape[4];\n    uint8_t fill[8];")
    print("    bool sharded, index_at_start, index_crc32c, index_big_endian;\n    const char *codec_names;")
    print("    uint64_t last[4];\n    const char *last_key;\n};\n")
    print("struct shard_example {\n    const char *name, *text;\n    size_t index_bytes, index_offset, shard_bytes;\n    uint8_t shard[512];\n    uint64_t sums[16];\n};\n")
    with tempfile.TemporaryDirectory() as folder:
        print("static const struct zarr_example zarr_examples[] = {")
        write_arrays(folder)
        write_fills(folder)
        print("};\n")
        print("static const struct shard_example shard_examples[] = {")
        for location in "start", "end":
            for endian in "little", "big":
                for crc in False, True:
                    codecs = [BytesCodec(endian=endian)] + ([Crc32cCodec()] if crc else [])
                    serializer = ShardingCodec(chunk_shape=(2, 2), codecs=[BytesCodec()], index_codecs=codecs,
                                               index_location=location)
                    write_shard(folder, f"{location} {endian}{' crc32c' if crc else ''}", serializer)
        print("};\n")
    print("#endif")


if __name__ == "__main__":
    sys.exit(main())
