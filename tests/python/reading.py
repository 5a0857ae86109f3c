"""What the tests read with: settings for the device under test, batches as NumPy arrays wherever they are, and a reader of small boxes
with few pipelines, for tests that look at thousands of arrays.

DAMACY_TEST_DEVICE, "cpu" if not given, says where batches go: with "cuda" the same tests run on a GPU.
"""

from __future__ import annotations

import ctypes
import os
from collections import OrderedDict
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import pytest

import damacy

Box = Sequence[tuple[int, int]]

DEVICE = os.environ.get("DAMACY_TEST_DEVICE") or "cpu"
ON_CPU = DEVICE == "cpu"

# Seconds after which what a test waits for is taken for lost. Far more than any wait lasts, also on a machine that stops for a while
# here and there: it ends what hangs, and measures nothing.
PATIENCE = 300.0

cpu_only = pytest.mark.skipif(not ON_CPU, reason="about memory that NumPy shares, which only the CPU has")


def config(**settings: Any) -> damacy.Config:
    """A Config for the device under test. On a GPU with small limits: pinning the memory that the defaults want takes longer than a test."""
    if not ON_CPU:
        settings = {"device": DEVICE, "max_gpu_memory_bytes": 64 << 20, "max_host_memory_bytes": 512 << 20} | settings
    return damacy.Config(**settings)


class _DLTensor(ctypes.Structure):
    """As DLPack's header has it."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Driver:
    """The few calls of the CUDA driver that bring memory to the host. Not a library's: the tests shall depend on none, and see the
    memory as damacy left it, through no stream but the default one."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.contexts: dict[int, ctypes.c_void_p] = {}
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> None:
        result = getattr(self.library, name)(*arguments)
        assert result == 0, f"{name} answered {result}"

    def copy(self, device: int, address: int, values: np.ndarray) -> None:
        if device not in self.contexts:  # kept for ever: making a context takes longer than a test
            context = ctypes.c_void_p()
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self.contexts[device] = context
        legacy = ctypes.c_void_p(1)
        self.call("cuCtxPushCurrent_v2", self.contexts[device])
        try:
            self.call("cuMemcpyDtoHAsync_v2", values.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(address), ctypes.c_size_t(values.nbytes), legacy)
            self.call("cuStreamSynchronize", legacy)
        finally:
            self.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


_driver: _Driver | None = None
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def exported(tensor: Any, stream: int | None = None) -> tuple[object, _DLTensor]:
    """A capsule, and what it says of the tensor's memory, which is good as long as the capsule lives."""
    capsule = tensor.__dlpack__(stream=stream)
    return capsule, _DLTensor.from_address(_capsule_pointer(capsule, b"dltensor"))


def on_host(tensor: damacy.Tensor | damacy.Batch) -> np.ndarray:
    """What a tensor, or a batch of one field, holds: shared memory on the CPU, a copy of what is on a device; of bfloat16 a copy as u2."""
    global _driver
    kind, ordinal = tensor.__dlpack_device__()
    own = tensor[""] if isinstance(tensor, damacy.Batch) else tensor
    if kind == 1 and own.dtype is not damacy.Dtype.BF16:
        return np.from_dlpack(own)
    capsule, described = exported(own)
    assert (described.device_type, described.device_id) == (kind, ordinal) and described.lanes == 1
    letter = {0: "i", 1: "u", 2: "f", 4: "u", 6: "?"}[described.code]  # 4: bfloat16, 6: bool
    dtype = np.dtype("?") if letter == "?" else np.dtype(f"{letter}{described.bits // 8}")
    values = np.empty(tuple(described.shape[: described.ndim]), dtype)
    assert described.bits == 8 * dtype.itemsize and described.byte_offset == 0
    if values.size and kind == 1:
        ctypes.memmove(values.ctypes.data, described.data, values.nbytes)
    elif values.size:
        _driver = _driver or _Driver()
        _driver.copy(ordinal, described.data, values)
    return values


class Reader:
    """Pipelines by sample shape and dtype; the least recently used one is closed when there are many. A context manager."""

    def __init__(self, most: int = 12, **settings: object) -> None:
        self.most, self.settings = most, {"worker_count": 2, "lookahead_samples": 64} | settings
        self.pipelines: OrderedDict[tuple[tuple[int, ...], str], damacy.Pipeline] = OrderedDict()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for pipeline in self.pipelines.values():
            pipeline.close()

    def pipeline(self, shape: tuple[int, ...], dtype: str) -> damacy.Pipeline:
        found = self.pipelines.pop((shape, dtype), None)
        if found is None:
            found = damacy.Pipeline(config(samples_per_batch=4, sample_shape=shape, dtype=dtype, **self.settings))
        self.pipelines[shape, dtype] = found
        while len(self.pipelines) > self.most:
            self.pipelines.popitem(last=False)[1].close()
        return found

    def boxes(self, uri: str | PathLike[str], boxes: Sequence[Box], dtype: str) -> np.ndarray:
        """The boxes, all of one shape, stacked. Raises what pop raises."""
        shape = tuple(end - begin for begin, end in boxes[0])
        pipeline = self.pipeline(shape, dtype)
        pipeline.push([damacy.Sample(uri, box) for box in boxes])
        pipeline.flush()
        rows = []
        try:
            while (batch := pipeline.pop(timeout=PATIENCE)) is not None:
                with batch as tensor:
                    rows.append(on_host(tensor).copy())
        except BaseException:
            self.pipelines.pop((shape, dtype)).close()  # what is left in it is nobody's
            raise
        return np.concatenate(rows)

    def whole(self, uri: str | PathLike[str], shape: Sequence[int], dtype: str) -> np.ndarray:
        """A whole array of a known shape."""
        return self.boxes(uri, [[(0, extent) for extent in shape]], dtype)[0]
