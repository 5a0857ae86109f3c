"""What the tests of tests/gpu share: arrays whose values tell where they are from, consumers, programs of their own. Without a CUDA device
all of them are skipped.

DAMACY_TEST_GPUS says how many devices there must be: then what needs them fails instead of being skipped.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
HELPERS = str(Path(__file__).resolve().parents[1] / "python")
sys.path.insert(0, HELPERS)

WANTED = int(os.environ.get("DAMACY_TEST_GPUS") or 0)


def count_devices() -> int:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


DEVICES = count_devices()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        wanted = 2 if "two_gpus" in item.name else 1
        if DEVICES < wanted and WANTED < wanted:
            item.add_marker(pytest.mark.skip(reason=f"needs {wanted} CUDA devices, there are {DEVICES}"))


PLANES, HEIGHT, WIDTH = 256, 64, 256


@pytest.fixture(scope="session")
def planes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """uint16 (256, 64, 256), every element the number of its plane, in zstd chunks of 4 x 32 x 128 and shards: a crop of one plane that
    holds anything but one number has been overwritten."""
    zarr = pytest.importorskip("zarr")
    uri = str(tmp_path_factory.mktemp("planes") / "planes.zarr")
    array = zarr.create_array(
        uri, shape=(PLANES, HEIGHT, WIDTH), chunks=(4, 32, 128), shards=(32, HEIGHT, WIDTH), dtype="u2", compressors=zarr.codecs.ZstdCodec(level=1)
    )
    array[...] = np.broadcast_to(np.arange(PLANES, dtype="u2")[:, None, None], array.shape).copy()
    return uri


@pytest.fixture
def run_program(planes: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A program of its own, for what may end a process or must not have been initialised before. argv[1] is the uri of `planes`, argv[2]
    where the tests' helpers are."""

    def run(source: str, timeout: float = 100, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", source, planes, HELPERS],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | environment,
        )

    return run
