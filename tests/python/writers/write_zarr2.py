"""zarr-python 2: every dtype in both byte orders, every compressor and filter of numcodecs, both orders, both separators, fills, partly
written arrays, groups with consolidated metadata, and what is to be refused."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numcodecs  # noqa: E402
import numpy as np  # noqa: E402
import zarr  # noqa: E402
from common import SHAPES, Cases, chunks_of, main, values_of  # noqa: E402

assert zarr.__version__.startswith("2."), zarr.__version__
warnings.simplefilter("ignore")

DTYPES = ["|b1", "|i1", "|u1"] + [f"{e}{k}" for e in "<>" for k in "i2 i4 i8 u2 u4 u8 f2 f4 f8 c8 c16 M8[ns] M8[D] m8[us] m8[s]".split()]


def compressors(rng: np.random.Generator) -> list:
    found: list = [None]
    for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd"):
        for shuffle in (0, 1, 2, -1):
            found.append(numcodecs.Blosc(cname=name, clevel=int(rng.integers(0, 10)), shuffle=shuffle, blocksize=int(rng.choice([0, 64, 256]))))
    found += [numcodecs.Zstd(level=int(rng.integers(-3, 8))), numcodecs.LZ4(), numcodecs.LZ4(acceleration=5)]
    found += [numcodecs.GZip(level=int(rng.integers(0, 10))), numcodecs.Zlib(level=int(rng.integers(0, 10)))]
    found += [numcodecs.BZ2(level=int(rng.integers(1, 10))), numcodecs.LZMA(), numcodecs.LZMA(preset=1)]
    found.append(numcodecs.LZMA(format=2))  # FORMAT_ALONE
    found.append(numcodecs.LZMA(format=1, check=1))
    try:
        found.append(numcodecs.Zstd(level=1, checksum=True))
    except TypeError:
        pass
    return found


def filters_for(dtype: np.dtype, rng: np.random.Generator) -> list[list]:
    """Chains that make sense for the dtype."""
    found: list[list] = [[], [numcodecs.Shuffle(dtype.itemsize)], [numcodecs.Shuffle(4)]]
    if dtype.kind in "iu":
        found += [[numcodecs.Delta(dtype)], [numcodecs.Delta(dtype, astype=dtype)], [numcodecs.Delta(dtype), numcodecs.Shuffle(dtype.itemsize)]]
        if dtype.itemsize >= 4:
            found.append([numcodecs.AsType(encode_dtype=dtype.str.replace(str(dtype.itemsize), "2"), decode_dtype=dtype)])
    if dtype.kind == "f":
        found += [[numcodecs.Delta(dtype)], [numcodecs.Quantize(digits=2, dtype=dtype)]]
        found += [[numcodecs.FixedScaleOffset(offset=-5, scale=10, dtype=dtype, astype="<i4")]]
        found += [[numcodecs.FixedScaleOffset(offset=1.5, scale=3, dtype=dtype, astype="|u1")]]
        found += [[numcodecs.FixedScaleOffset(offset=0, scale=0.1, dtype=dtype)]]
        if dtype.isnative:
            found += [[numcodecs.BitRound(keepbits=5)]]
        found.append([numcodecs.Quantize(digits=1, dtype=dtype, astype="<f4"), numcodecs.Shuffle(4)])
        found.append([numcodecs.AsType(encode_dtype="<f4", decode_dtype=dtype)])
    if dtype.kind == "b":
        found.append([numcodecs.PackBits()])
    return found


def fills(dtype: np.dtype) -> list:
    if dtype.kind == "b":
        return [None, True, False]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return [None, 0, 7, limits.max, limits.min]
    if dtype.kind == "f":
        return [None, 0.0, 1.5, np.nan, np.inf, -np.inf, -0.0]
    if dtype.kind == "c":
        return [None, 0, 1 - 2j, complex(np.nan, np.inf)]
    return [None, 0, 5, np.datetime64("NaT") if dtype.kind == "M" else np.timedelta64("NaT")]


def write_one(cases: Cases, rng: np.random.Generator, dtype: np.dtype, compressor, filters: list, note: str = "", whole: bool | None = None, fill="draw") -> None:
    rank = int(rng.integers(1, 5))
    shape = SHAPES[rank]
    if fill == "draw":
        options = fills(dtype)
        fill = options[int(rng.integers(len(options)))]
    settings = {
        "shape": shape,
        "chunks": chunks_of(rng, shape),
        "dtype": dtype,
        "compressor": compressor,
        "filters": filters or None,
        "order": str(rng.choice(["C", "F"])),
        "fill_value": fill,
        "dimension_separator": str(rng.choice([".", "/"])),
    }
    array = zarr.create(store=str(cases.path()), **settings, overwrite=True, write_empty_chunks=bool(rng.random() < 0.5))
    values = values_of(rng, shape, dtype)
    if any(f.codec_id in ("fixedscaleoffset", "quantize", "astype") for f in filters) and dtype.kind in "fiu":
        values = np.where(np.isfinite(values), values, 1).astype(dtype)
        values = (values % 13).astype(dtype)  # within what these keep
    whole = bool(rng.random() < 0.7) if whole is None else whole
    if fill is None:
        whole = True  # what is missing has no value, there
    if whole:
        array[...] = values
    else:
        box = tuple(slice(0, int(rng.integers(0, n + 1))) for n in shape)
        array[box] = values[box]
    cases.add(np.asarray(array[...]), f"zarr-python {zarr.__version__}: {settings} {note}")


def write(cases: Cases, rng: np.random.Generator) -> None:
    packed = compressors(rng)
    for name in DTYPES:
        dtype = np.dtype(name)
        for codec in [None, packed[int(rng.integers(1, len(packed)))], packed[int(rng.integers(1, len(packed)))]]:
            write_one(cases, rng, dtype, codec, [])
        for fill in fills(dtype):
            write_one(cases, rng, dtype, numcodecs.Blosc(), [], "a fill value each", False, fill)
        if dtype.kind in "biuf":
            for filters in filters_for(dtype, rng):
                try:
                    write_one(cases, rng, dtype, packed[int(rng.integers(len(packed)))], filters)
                except (TypeError, ValueError):
                    pass  # numcodecs itself does not take this combination, e.g. bitround of float16 in some versions
    for codec in packed:
        write_one(cases, rng, np.dtype(str(rng.choice(["<u2", ">f4", "<i8"]))), codec, [], "every compressor")
    write_groups(cases, rng)
    write_members(cases, rng)
    write_refused(cases)


def write_groups(cases: Cases, rng: np.random.Generator) -> None:
    """Arrays within groups, with consolidated metadata; the arrays' own metadata are then taken away."""
    folder = cases.folder / "group"
    group = zarr.open_group(str(folder), mode="w")
    data = values_of(rng, SHAPES[2], np.dtype("<u2"))
    group.create_group("a/b").create_dataset("c", data=data, chunks=(5, 5))
    group.create_dataset("d", data=data.astype(">f4"), chunks=(5, 7), order="F")
    group.attrs["text"] = "with attributes"
    zarr.consolidate_metadata(str(folder))
    for name, truth in (("a/b/c", data), ("d", data.astype(">f4"))):
        cases.add(truth, f"zarr-python {zarr.__version__}: {name} of a consolidated group", folder / name)


def write_members(cases: Cases, rng: np.random.Generator) -> None:
    """Structured dtypes: a member is an array of its own."""
    kinds = [
        [("x", "<i2"), ("y", ">f4"), ("z", "|u1")],
        [("a", "<f8"), ("b", "<c8"), ("when", "<M8[s]")],
        [("k", "|b1"), ("v", ">u8")],
    ]
    for fields in kinds:
        dtype = np.dtype(fields)
        for order, compressor in (("C", numcodecs.Blosc()), ("F", numcodecs.Zlib(1)), ("C", None)):
            path = cases.folder / f"record{len(cases.cases)}"
            shape = SHAPES[2]
            array = zarr.create(store=str(path), shape=shape, chunks=(4, 7), dtype=dtype, order=order, compressor=compressor)
            array[:9] = values_of(rng, shape, dtype)[:9]
            truth = np.asarray(array[...])
            for name in dtype.names:
                cases.add(truth[name], f"zarr-python {zarr.__version__}: member {name} of {fields}, order {order}, {compressor}", f"{path}#member={name}")


def write_refused(cases: Cases) -> None:
    zarr.create(store=str(cases.path()), overwrite=True, shape=(5,), chunks=(2,), dtype="S5")
    cases.refuse("S5", "byte strings")
    zarr.create(store=str(cases.path()), overwrite=True, shape=(5,), chunks=(2,), dtype="<U3")
    cases.refuse("U3", "unicode strings")
    zarr.create(store=str(cases.path()), overwrite=True, shape=(5,), chunks=(2,), dtype=object, object_codec=numcodecs.JSON())
    cases.refuse("|O", "objects")
    zarr.create(store=str(cases.path()), overwrite=True, shape=(5,), chunks=(2,), dtype=object, object_codec=numcodecs.VLenUTF8())
    cases.refuse("|O", "strings of any length")


if __name__ == "__main__":
    main(write)
