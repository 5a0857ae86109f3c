"""zarr-python's own hypothesis strategies draw the arrays: any dtype, shape, chunks, shards, names, fill values, both formats. damacy reads
the same, or refuses by name what holds text.

DAMACY_TEST_EXAMPLES says how many arrays are drawn (2,000 if not given), DAMACY_TEST_SEED repeats a run; a failing example is shrunk
by hypothesis and printed with the seed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from reading import Reader

import damacy

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, note, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from zarr.testing import strategies as zst  # noqa: E402

EXAMPLES = int(os.environ.get("DAMACY_TEST_EXAMPLES", "2000"))
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder():
    """In memory where there is such a place, since thousands of little files are made. Containers often have 64 MiB of it, or none."""
    roomy = os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free >= 256 << 20
    place = SHARED_MEMORY if roomy else None
    made = Path(tempfile.mkdtemp(prefix="damacy-", dir=place))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def selected_box(selection: Any, shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """The smallest box that has a basic selection, and the selection within it."""
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    box, within = [], []
    for part, extent in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            chosen = range(*part.indices(extent))
            box.append((chosen[0], chosen[-1] + 1) if chosen else (0, 0))
            within.append(slice(None, None, chosen.step))
        else:
            index = int(part) % extent
            box.append((index, index + 1))
            within.append(0)
    return box, tuple(within)


def plain(values: np.ndarray) -> np.ndarray:
    """As damacy gives it."""
    values = np.asarray(values)
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))).reshape(values.shape)
    if values.dtype.kind in "Mm":
        return values.view("i8")
    if values.dtype.kind == "c":
        return values.reshape(-1).view(f"f{values.dtype.itemsize // 2}").reshape(*values.shape, 2)
    return values


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """To the bit, but that any NaN is like another: a drawn NaN may have a payload that the metadata's word for it has not."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.dtype.kind == "f":
        nan = np.isnan(left)
        if not (nan == np.isnan(right)).all():
            return False
        left, right = np.where(nan, left.dtype.type(0), left), np.where(nan, left.dtype.type(0), right)
    return left.tobytes() == right.tobytes()


def written_type(uri: Path) -> str:
    """The array's dtype as its metadata have it."""
    if (uri / "zarr.json").exists():
        data_type = json.loads((uri / "zarr.json").read_text())["data_type"]
        return data_type if isinstance(data_type, str) else data_type["name"]
    return str(json.loads((uri / ".zarray").read_text())["dtype"])


@pytest.mark.timeout(1800)
def test_arrays_of_zarr_pythons_strategies(folder: Path, seed: int) -> None:
    numbers = itertools.count()
    seen: dict[str, int] = {}

    def local_store() -> zarr.storage.LocalStore:
        return zarr.storage.LocalStore(folder / str(next(numbers)))

    @hypothesis.seed(seed)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(data=st.data(), array=zst.arrays(stores=st.builds(local_store), attrs=st.none()))
    def check(data: st.DataObject, array: zarr.Array) -> None:
        root = Path(array.store.root)
        uri = root / array.path
        kind = array.dtype.kind
        seen[f"v{array.metadata.zarr_format} {kind}"] = seen.get(f"v{array.metadata.zarr_format} {kind}", 0) + 1
        try:
            look(data, zarr.open_array(uri, mode="r"), uri)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def look(data: st.DataObject, array: zarr.Array, uri: Path) -> None:
        shape = array.shape
        if array.dtype.kind in "SUO" or array.dtype.hasobject:
            with pytest.raises(damacy.Unsupported) as caught:
                reader.whole(uri, shape if all(shape) else (1,) * len(shape), "f32")
            assert written_type(uri) in str(caught.value)
            return
        selection = data.draw(zst.basic_indices(shape=shape), label="selection") if all(shape) else ()
        box, within = selected_box(selection, shape)
        if any(begin == end for begin, end in box):
            with pytest.raises(damacy.RankMismatch):  # nothing is in it, so any box lies outside
                reader.whole(uri, tuple(extent + 1 for extent in shape), "f64")
            return
        expected = plain(np.asarray(array[selection]))
        extra = [(0, 2)] if array.dtype.kind == "c" else []
        found = reader.boxes(uri, [box + extra], plain(np.zeros((), array.dtype)).dtype.name)[0]
        note(f"{box} of {array.metadata}")
        assert same(np.ascontiguousarray(found[within]).reshape(expected.shape), expected)

    with Reader(worker_count=1) as reader, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()
    print(f"DAMACY_TEST_SEED={seed}: " + ", ".join(f"{kind}: {count}" for kind, count in sorted(seen.items())))
