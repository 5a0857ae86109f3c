"""Seven independent writers times dtypes, byte orders, memory orders, codecs, fill values, key encodings, shards and ragged edges: damacy
reads what the writer's own package reads, to the bit, and refuses by name what is to be refused.

Each writer is a program in writers/ and runs once; writers/common.py says what it leaves behind. zarr-python 2 lives in .venv-zarr2, the
others in .venv (scripts/setup.sh test makes both; all of them install from PyPI on Python 3.11). DAMACY_TEST_SEED repeats a run. A package that cannot be installed skips its test,
and what a package refuses to write is told on stderr of its program, which pytest shows with -s.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from reading import Reader

import damacy

WRITERS = PROJECT / "tests" / "python" / "writers"
ZARR2 = PROJECT / ".venv-zarr2" / "bin" / "python"

# Name, the package it needs here, and how many arrays it leaves at least: fewer means that the writer itself lost something.
PROGRAMS = [
    ("zarr2", None, 300),
    ("zarr3", "zarr", 300),
    ("tensorstore", "tensorstore", 150),
    ("zarrs", "zarrs", 120),
    ("acquire", "acquire_zarr", 10),
    ("z5py", "z5py", 80),
    ("ngff", "ngff_zarr", 8),
    ("chunks", "numcodecs", 80),
]


@pytest.fixture(scope="module")
def reader():
    with Reader() as made:
        yield made


def run_writer(name: str, package: str | None, folder: Path, seed: int) -> list[dict[str, Any]]:
    python = sys.executable if package else str(ZARR2)
    if package and importlib.util.find_spec(package) is None or not Path(python).exists():
        pytest.skip(f"the writer {name} is not installed")
    done = subprocess.run([python, WRITERS / f"write_{name}.py", folder, str(seed)], capture_output=True, text=True, timeout=1000)
    print(done.stdout[-4000:], done.stderr[-4000:])
    assert done.returncode == 0, f"DAMACY_TEST_SEED={seed}: {done.stderr[-3000:]}"
    return json.loads((folder / "cases.json").read_text())


def crop_boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """Three boxes of half the extents."""
    size = [(n + 1) // 2 for n in shape]
    return [[(b, b + s) for b, s in zip((int(rng.integers(0, n - s + 1)) for n, s in zip(shape, size)), size)] for _ in range(3)]


def wrong(reader: Reader, case: dict[str, Any], folder: Path, rng: np.random.Generator) -> str | None:
    """What is wrong with one case, or None."""
    if "refused" in case:
        try:
            reader.whole(case["uri"], (5,), "f32")
        except damacy.Unsupported as error:
            return None if case["refused"] in str(error) else f"refused, but not naming {case['refused']}: {error}"
        except damacy.DamacyError as error:
            return f"{type(error).__name__} where Unsupported was expected: {error}"
        return "was not refused"
    truth = np.load(folder / case["truth"])
    try:
        whole = reader.whole(case["uri"], truth.shape, case["dtype"] if case["dtype"] != "native" else native(truth.dtype))
        boxes = crop_boxes(rng, truth.shape)
        crops = reader.boxes(case["uri"], boxes, case["dtype"] if case["dtype"] != "native" else native(truth.dtype))
    except damacy.DamacyError as error:
        return f"{type(error).__name__}: {error}"
    if whole.dtype != truth.dtype:
        return f"dtype {whole.dtype}, expected {truth.dtype}"
    if case["dtype"] != "native":  # a conversion, which makes NaN quiet; of what was stored no payload is left that counts
        whole, crops, truth = (np.where(np.isnan(values), np.float32(np.nan), values) for values in (whole, crops, truth))
    if not same(whole, truth):
        return difference(whole, truth)
    for box, crop in zip(boxes, crops, strict=True):
        if not same(crop, truth[tuple(slice(b, e) for b, e in box)]):
            return f"the crop {box} differs from the same crop of the whole"
    return None


def native(dtype: np.dtype) -> str:
    """The output that keeps this dtype: its own name, so that a pipeline serves many arrays and a wrong dtype shows as an error."""
    return dtype.name


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """To the bit."""
    return left.shape == right.shape and left.tobytes() == np.ascontiguousarray(right).tobytes()


def difference(found: np.ndarray, truth: np.ndarray) -> str:
    item = found.dtype.itemsize
    unlike = np.argwhere(found.view(f"V{item}") != np.ascontiguousarray(truth).view(f"V{item}"))
    if not len(unlike):
        return "bits differ"
    at = tuple(map(int, unlike[0]))
    return f"{len(unlike)} of {truth.size} elements differ, first at {at}: found {found[at]!r}, expected {truth[at]!r}"


@pytest.mark.parametrize(("name", "package", "least"), PROGRAMS, ids=[name for name, _, _ in PROGRAMS])
@pytest.mark.timeout(1800)
def test_writer(name: str, package: str | None, least: int, tmp_path: Path, seed: int, reader: Reader) -> None:
    cases = run_writer(name, package, tmp_path, seed)
    rng = np.random.default_rng([seed, 77])
    problems = []
    for number, case in enumerate(cases):
        if problem := wrong(reader, case, tmp_path, rng):
            problems.append(f"{number}: {problem}\n     {case['text'][:600]}")
    print(f"{name}: {len(cases) - len(problems)} of {len(cases)} arrays agree")
    assert not problems, f"DAMACY_TEST_SEED={seed}, {len(problems)} of {len(cases)}:\n" + "\n".join(problems[:25])
    assert len(cases) >= least, f"{name} wrote {len(cases)} arrays, expected {least} at least"
