"""What the tests share: small arrays written by zarr-python, and pipelines that are closed again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from reading import PATIENCE, config

import damacy

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Example:
    """An array on disk, and what is in it."""

    uri: str
    data: np.ndarray

    def box(self, *begin: int, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        return [(b, b + s) for b, s in zip(begin, shape)]

    def crop(self, *begin: int, shape: tuple[int, ...]) -> np.ndarray:
        return self.data[tuple(slice(b, b + s) for b, s in zip(begin, shape))]


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """uint16 (32, 96, 96) in shards of 16 x 64 x 64 and chunks of 8 x 32 x 32."""
    uri = str(tmp_path_factory.mktemp("example") / "image.zarr")
    array = zarr.create_array(uri, shape=(32, 96, 96), chunks=(8, 32, 32), shards=(16, 64, 64), dtype="u2")
    data = np.random.default_rng(1).integers(0, 4096, array.shape).astype("u2")
    array[...] = data
    return Example(uri, data)


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """uint8 labels of the same shape as `example`."""
    uri = str(tmp_path_factory.mktemp("labels") / "labels.zarr")
    array = zarr.create_array(uri, shape=(32, 96, 96), chunks=(16, 48, 48), dtype="u1")
    data = np.random.default_rng(2).integers(0, 5, array.shape).astype("u1")
    array[...] = data
    return Example(uri, data)


SHAPE = (4, 16, 16)


@pytest.fixture
def make_pipeline() -> Iterator[Callable[..., damacy.Pipeline]]:
    """Pipelines of SHAPE samples, four a batch, unless told otherwise."""
    made: list[damacy.Pipeline] = []

    def make(**settings: Any) -> damacy.Pipeline:
        if "fields" not in settings:
            settings = {"sample_shape": SHAPE, "dtype": "f32"} | settings
        made.append(damacy.Pipeline(config(**({"samples_per_batch": 4} | settings))))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.close()


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of its own: for signals, forks and exits."""

    def run(source: str, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", source, *arguments], capture_output=True, text=True, timeout=timeout
        )

    return run


@pytest.fixture(scope="session")
def seed() -> int:
    """Of random tests; printed by pytest when one fails. DAMACY_TEST_SEED repeats a run."""
    chosen = int(os.environ.get("DAMACY_TEST_SEED") or np.random.SeedSequence().entropy % 2**32)
    print(f"DAMACY_TEST_SEED={chosen}")
    return chosen


def sample_of(example: Example, begin: tuple[int, ...], tag: int = 0) -> damacy.Sample:
    return damacy.Sample(uri=example.uri, aabb=example.box(*begin, shape=SHAPE), tag=tag)
