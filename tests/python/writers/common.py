"""What the writers share. Each is a program of its own: `python write_NAME.py FOLDER SEED` leaves arrays in FOLDER, what they hold as
its own package reads them (truth/N.npy), and a list of both, cases.json. tests/python/test_writers_matrix.py reads it with damacy.

They are programs because they want packages that exclude each other (zarr-python 2 and 3) or would load several copies of a codec
library into one process. Only NumPy is imported here.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {1: (37,), 2: (13, 18), 3: (6, 11, 9), 4: (3, 5, 7, 6)}  # ragged against nearly every chunk shape that is drawn


def values_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Small numbers in runs, so that codecs have something to do, with the type's own oddities among them."""
    base = np.repeat(rng.integers(0, 90, max(1, int(np.prod(shape)) // 3 + 1)), 3)[: int(np.prod(shape))].reshape(shape)
    if dtype.kind == "b":
        return base % 2 == 1
    if dtype.kind in "Mm":
        days = base.astype("i8") - 20
        days.flat[::17] = np.iinfo("i8").min  # NaT
        return days.astype(dtype)
    if dtype.kind == "c":
        real = values_of(rng, shape, np.dtype(f"f{dtype.itemsize // 2}"))
        return (real + 1j * real[..., ::-1]).astype(dtype)
    if dtype.kind == "V" and dtype.names:
        out = np.zeros(shape, dtype)
        for name in dtype.names:
            member = dtype[name]
            inner, extra = member.subdtype if member.subdtype else (member, ())
            out[name] = values_of(rng, shape + extra, inner)
        return out
    made = (base / 8 if dtype.kind == "f" or dtype.kind == "V" else base).astype(dtype)
    if dtype.kind == "f":
        # No -0.0: where writers leave out chunks that equal the fill value, they mean ==, and lose its sign.
        made.flat[::29] = rng.choice(np.array([np.nan, np.inf, -np.inf, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype))
    if dtype.kind in "iu":
        made.flat[::31] = np.iinfo(dtype).max
        made.flat[1::31] = np.iinfo(dtype).min
    return made


def chunks_of(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(rng.integers(1, n + 2)) for n in shape)


def presented(array: np.ndarray) -> tuple[np.ndarray, str]:
    """The same values as damacy gives them, and the dtype to ask it for."""
    array = np.asarray(array)
    if array.dtype.kind in "Mm":
        return array.astype(array.dtype.newbyteorder("=")).view("i8"), "native"
    if array.dtype.kind == "c":
        part = np.dtype(f"f{array.dtype.itemsize // 2}")
        plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        return plain.view(part).reshape(*array.shape, 2), "native"
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat16", "float8_", "float6_", "float4_")):
        return array.astype("f4"), "f32"  # ml_dtypes
    if array.dtype.name in ("int2", "int4"):
        return array.astype("i1"), "native"
    if array.dtype.name in ("uint2", "uint4"):
        return array.astype("u1"), "native"
    return array.astype(array.dtype.newbyteorder("=")), "native"


class Cases:
    """The list under way."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cases = folder, []
        (folder / "truth").mkdir(parents=True, exist_ok=True)

    def path(self) -> Path:
        """Where the next array may be written."""
        return self.folder / f"array{len(self.cases)}"

    def add(self, truth: np.ndarray, text: str, uri: str | Path | None = None) -> None:
        """One array that damacy must read."""
        values, dtype = presented(truth)
        number = len(self.cases)
        np.save(self.folder / "truth" / f"{number}.npy", values)
        self.cases.append({"uri": str(uri or self.path()), "dtype": dtype, "text": text, "truth": f"truth/{number}.npy"})

    def refuse(self, word: str, text: str, uri: str | Path | None = None) -> None:
        """One array that damacy must refuse, naming `word`."""
        self.cases.append({"uri": str(uri or self.path()), "refused": word, "text": text})

    def save(self) -> None:
        (self.folder / "cases.json").write_text(json.dumps(self.cases, indent=1))


def main(write: Callable[[Cases, np.random.Generator], Any]) -> None:
    """The program: argv is FOLDER SEED."""
    cases = Cases(Path(sys.argv[1]).resolve())
    try:
        write(cases, np.random.default_rng(int(sys.argv[2])))
    except Exception:
        traceback.print_exc()
        print(f"after {len(cases.cases)} arrays", file=sys.stderr)
        sys.exit(1)
    cases.save()
