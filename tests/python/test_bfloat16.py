"""All 65,536 values of bfloat16, in both byte orders, as every float that NumPy knows: against ml_dtypes, and NaNs to the bit as
docs/conversions.md says. A complex array of them delivers its parts along one more axis, and both parts of its fill value."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from reading import Reader

VALUES = np.arange(65536, dtype=np.uint16)
QUIET = {"float16": 0x7E00, "float32": 0x7FC00000, "float64": 0x7FF8000000000000}


def write(uri: Path, endian: str, data_type: str, fill: object, chunks: int) -> None:
    """256 x 256 elements, or pairs of them, in two chunks of which the first `chunks` are there."""
    pairs = data_type.startswith("complex")
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [256, 128 if pairs else 256],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [128, 128 if pairs else 256]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [{"name": "bytes", "configuration": {"endian": endian}}],
    }
    stored = VALUES.astype("<u2" if endian == "little" else ">u2").reshape(2, -1)
    for chunk in range(chunks):
        path = uri / "c" / str(chunk) / "0"
        path.parent.mkdir(parents=True)
        path.write_bytes(stored[chunk].tobytes())
    (uri / "zarr.json").write_text(json.dumps(metadata))


def expected(output: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = VALUES.view(ml_dtypes.bfloat16).astype(np.float32)  # exact
        wanted = numbers.astype(output)
    bits = wanted.view(f"u{wanted.itemsize}").copy()
    sign = (VALUES.astype(bits.dtype) >> 15) << (8 * wanted.itemsize - 1)
    return np.where(np.isnan(numbers), sign | bits.dtype.type(QUIET[output]), bits)


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("output", list(QUIET))
def test_every_value(tmp_path: Path, endian: str, output: str) -> None:
    write(tmp_path / "a.zarr", endian, "bfloat16", 0.0, 2)
    wanted = expected(output)
    with Reader() as reader:
        found = reader.whole(tmp_path / "a.zarr", (256, 256), output).reshape(-1)
    assert np.array_equal(found.view(wanted.dtype), wanted)


@pytest.mark.parametrize("output", list(QUIET))
def test_complex(tmp_path: Path, output: str) -> None:
    write(tmp_path / "c.zarr", "little", "complex_bfloat16", [1.5, -2.0], 1)
    wanted = expected(output).reshape(256, 128, 2)
    wanted[128:] = np.array([1.5, -2.0], output).view(wanted.dtype)
    with Reader() as reader:
        found = reader.whole(tmp_path / "c.zarr", (256, 128, 2), output)
        imaginary = reader.boxes(tmp_path / "c.zarr", [[(100, 200), (3, 77), (1, 2)]], output)[0]
    assert np.array_equal(found.view(wanted.dtype), wanted)
    assert np.array_equal(imaginary.view(wanted.dtype), wanted[100:200, 3:77, 1:2])
