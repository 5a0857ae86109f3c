"""Make zarr_writers_examples.h: metadata of both formats as zarr-python writes them, with what zarr-python reads from an array without chunks.

Run in an environment with zarr-python 3: python make_zarr_writers_examples.py > zarr_writers_examples.h
From 3.2 on structured dtypes are written in another form (struct, not structured): with such a version only the rows "v3 member" are
new; they stand behind the others as "v3 struct member".
"""

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import zarr

warnings.simplefilter("ignore")


def c_string(text):
    return json.dumps(text, ensure_ascii=True)


def written(dtype, fill, zarr_format, **options):
    path = Path(tempfile.mkdtemp())
    array = zarr.create_array(path, shape=(5, 7), chunks=(2, 3), dtype=dtype, fill_value=fill, zarr_format=zarr_format, overwrite=True, **options)
    text = (path / ("zarr.json" if zarr_format == 3 else ".zarray")).read_text()
    return json.dumps(json.loads(text)), array


def element(value):
    """The bytes of one element in little-endian order; complex ones are two."""
    value = np.asarray(value)
    return value.astype(value.dtype.newbyteorder("<")).tobytes()


def row(name, text, zarr_format, member, data):
    print(f"    {{{c_string(name)}, {c_string(text)}, {zarr_format}, {c_string(member)}, {len(data)}, {{{', '.join(f'0x{b:02x}' for b in data)}}}}},")


def example(dtype, fill, zarr_format, **options):
    try:
        text, array = written(dtype, fill, zarr_format, **options)
    except (ValueError, TypeError, NotImplementedError):
        return
    row(f"v{zarr_format} {np.dtype(dtype).str} {fill!r}", text, zarr_format, "", element(array[0, 0]))


def records(dtype, fill, zarr_format):
    text, array = written(dtype, fill, zarr_format)
    value = array[0, 0]

    def walk(value, prefix):
        for name in value.dtype.names:
            part = value[name]
            if part.dtype.names:
                walk(part, f"{prefix}{name}.")
            elif part.dtype.kind not in "SUV":
                row(f"v{zarr_format} member {prefix}{name} {fill!r}", text, zarr_format, prefix + name, element(part.flat[0] if part.ndim else part))

    walk(value, "")


def main():
    print("/* Made by make_zarr_writers_examples.py with zarr-python %s; do not edit. */" % zarr.__version__)
    print("#ifndef ZARR_WRITERS_EXAMPLES_H\n#define ZARR_WRITERS_EXAMPLES_H\n\n#include <stdint.h>\n")
    print("struct writers_example {\n    const char *name, *text;\n    uint32_t zarr_format;\n    const char *member;\n    uint32_t fill_bytes;\n    uint8_t fill[16];\n};\n")
    print("static const struct writers_example writers_examples[] = {")
    for zarr_format in 2, 3:
        for order in "<", ">":
            for kind in "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8":
                bits = 8 * int(kind[1])
                for fill in (None, 0, 1, 2 ** (bits - 1) - 1) + ((-(2 ** (bits - 1)),) if kind[0] == "i" else (2**bits - 1,)):
                    example(order + kind, fill, zarr_format)
            for kind in "f2", "f4", "f8":
                for fill in None, 0.0, -0.0, 1.5, 0.1, float("inf"), -float("inf"), float("nan"):
                    example(order + kind, fill, zarr_format)
            for kind in "c8", "c16":
                for fill in None, 0j, 1 + 2j, complex(float("nan"), -float("inf")), complex(-0.0, 0.1):
                    example(order + kind, fill, zarr_format)
            for kind in "M8[ns]", "M8[10us]", "m8[s]", "m8[D]":
                for fill in None, 5, -7, "NaT":
                    example(order + kind, None if fill is None else np.array(fill, kind)[()], zarr_format)
        for fill in None, True, False:
            example("|b1", fill, zarr_format)
        plain = np.dtype([("x", "<f4"), ("y", "<i2"), ("c", "<c8")])
        nested = np.dtype([("a", "<u1"), ("p", [("q", "<f8"), ("r", "<i4")])])
        for dtype, values in (plain, (1.5, -2, 3 + 4j)), (nested, (7, (0.25, -9))):
            records(dtype, None, zarr_format)
            records(dtype, np.array(values, dtype)[()], zarr_format)
    swapped = np.dtype([("x", ">f4"), ("y", ">i2"), ("c", ">c16")])
    records(swapped, np.array((1.5, -2, 3 + 4j), swapped)[()], 2)
    print("};\n\n#endif")


main()
