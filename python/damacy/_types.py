"""Plain values: enumerations, and what is told about batches and pipelines. The native module makes them by these names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._errors import DamacyError


class Status(IntEnum):
    """How a call, a batch or a sample went; the numbers are those of the C library."""

    OK = 0
    AGAIN = 1
    INVAL = 2
    NOTFOUND = 3
    DTYPE = 4
    RANK = 5
    UNSUPPORTED = 6
    IO = 7
    DECODE = 8
    CUDA = 9
    OOM = 10
    BUDGET = 11
    STARVED = 12
    SHUTDOWN = 13
    FORKED = 14
    TIMEOUT = 15
    END = 16
    INTERNAL = 17


class Dtype(IntEnum):
    """Element types. NATIVE as an output is the dtype of the field's first sample that resolved.

    >>> Dtype.parse("float32"), Dtype.parse(np.uint16), Dtype.parse("bf16").itemsize
    (Dtype.F32, Dtype.U16, 2)
    >>> np.dtype(Dtype.F32.numpy_name)
    dtype('float32')
    """

    NATIVE = 0
    BOOL = 1
    I8 = 2
    I16 = 3
    I32 = 4
    I64 = 5
    U8 = 6
    U16 = 7
    U32 = 8
    U64 = 9
    F16 = 10
    BF16 = 11
    F32 = 12
    F64 = 13

    def __str__(self) -> str:
        return self.name.lower()

    def __repr__(self) -> str:
        return f"Dtype.{self.name}"

    @property
    def itemsize(self) -> int:
        """Bytes of one element; 0 for NATIVE."""
        return _ITEM_BYTES[self]

    @property
    def numpy_name(self) -> str:
        """The name that NumPy and PyTorch use, e.g. "float32"; "bfloat16" is known to NumPy only through ml_dtypes."""
        return _LONG_NAMES[self]

    @classmethod
    def parse(cls, value: Any) -> Dtype:
        """The Dtype that `value` means: a Dtype, its short name, a NumPy dtype or scalar type, a torch dtype, or their names."""
        if isinstance(value, cls):
            return value
        names = [value] if isinstance(value, str) else []
        if isinstance(value, type):
            names.append(_PYTHON_TYPES.get(value, value.__name__))
        elif not isinstance(value, (str, int)):
            name = getattr(value, "name", None)  # np.dtype
            names += [name] if isinstance(name, str) else []
            names.append(str(value))  # torch.float32
            inner = getattr(value, "dtype", None)  # jnp.float32
            names.append(str(getattr(inner, "name", "")))
        for name in names:
            found = _BY_NAME.get(name.lower().removeprefix("torch."))
            if found is not None:
                return found
        from ._errors import InvalidArgument

        hint = f"; its number counts bytes, as NumPy's do, not bits: pass np.dtype({value!r})" if _is_array_protocol(value) else ""
        raise InvalidArgument(
            f"dtype {value!r} is none of {', '.join(map(str, cls))}, nor a NumPy or PyTorch name for one of them{hint}",
            stage="config",
            found=repr(value),
        )


def _is_array_protocol(value: Any) -> bool:
    """Such as "<f4" or "u2". Without a byte order "i8" and "u8" are taken for 8 bits."""
    return isinstance(value, str) and value.lstrip("<>=|")[:1] in tuple("biuf") and value.lstrip("<>=|")[1:] in ("1", "2", "4", "8")


_ITEM_BYTES = dict(zip(Dtype, (0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8), strict=True))
_LONG_NAMES = dict(
    zip(
        Dtype,
        "native bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64".split(),
        strict=True,
    )
)
_PYTHON_TYPES: dict[type, str] = {bool: "bool", int: "int64", float: "float64"}
_BY_NAME = {
    **{str(dtype): dtype for dtype in Dtype},
    **{name: dtype for dtype, name in _LONG_NAMES.items()},
    "bool_": Dtype.BOOL,
    "half": Dtype.F16,
    "float": Dtype.F32,
    "double": Dtype.F64,
}


class Row(NamedTuple):
    """One row of a batch, or one skipped sample."""

    ordinal: int
    """Position in push order, from 0."""
    tag: int
    """The sample's tag."""
    status: Status
    """OK, or what went wrong with this sample."""
    error: DamacyError | None
    """What went wrong, as the exception it would be; None if OK."""

    @property
    def message(self) -> str:
        """The error's text; empty if OK."""
        return str(self.error) if self.error is not None else ""


class TensorInfo(NamedTuple):
    """One tensor of a batch, described. shape[0] is the number of rows."""

    shape: tuple[int, ...]
    dtype: Dtype
    nbytes: int


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """What is in a batch. Plain data: it stays when the batch is released."""

    batch_id: int
    device: str
    tensors: Mapping[str, TensorInfo]
    """By name of the field; the unnamed field is ""."""
    rows: tuple[Row, ...]
    skipped: tuple[Row, ...]
    """Samples that were left out (on_error="skip")."""
    device_ptrs: Mapping[str, int] = field(default_factory=dict)
    """By name of the field, on a CUDA device: the tensor's address there, good until release. Empty on the CPU."""

    @property
    def device_ptr(self) -> int | None:
        """The address of the only tensor on a CUDA device; None on the CPU, or with several fields."""
        return next(iter(self.device_ptrs.values())) if len(self.device_ptrs) == 1 else None

    @property
    def ready_stream(self) -> int | None:
        """The CUDA stream behind whose present work the batch is ready: None, since a popped batch is complete."""
        return None

    @property
    def tags(self) -> tuple[int, ...]:
        """The rows' tags."""
        return tuple(row.tag for row in self.rows)

    @property
    def ordinals(self) -> tuple[int, ...]:
        """The rows' positions in push order."""
        return tuple(row.ordinal for row in self.rows)

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows that hold the fill value because their sample was bad (on_error="fill"), and skipped ones."""
        return tuple(row for row in self.rows if row.status != Status.OK) + self.skipped


class Pending(NamedTuple):
    """What still is to come. False when there is nothing."""

    sources: int
    """Things pushed that have not been pulled to their end yet: iterables, arrays, samples, flushes."""
    samples: int
    """Samples taken and not yet delivered."""

    def __bool__(self) -> bool:
        return bool(self.sources or self.samples)


@dataclass(frozen=True, slots=True)
class Metric:
    """Counts, bytes and busy time of one stage, summed over threads."""

    count: int
    bytes: int
    time_ns: int

    @property
    def seconds(self) -> float:
        """Busy time in seconds."""
        return self.time_ns / 1e9


@dataclass(frozen=True, slots=True)
class Stats:
    """What a pipeline did since it was made, or since stats_reset(). The names are those of `struct damacy_stats`."""

    elapsed_ns: int
    samples_pushed: int
    samples_delivered: int
    samples_failed: int
    batches_delivered: int
    bytes_delivered: int
    lookahead_samples: int
    batches_ready: int
    batches_held: int
    metadata: Metric
    plan: Metric
    read: Metric
    read_wait: Metric
    decode: Metric
    assemble: Metric
    fill: Metric
    worker_idle: Metric
    pop_wait: Metric
    slot_wait: Metric
    bytes_needed: int
    array_meta_hits: int
    array_meta_misses: int
    shard_index_hits: int
    shard_index_misses: int
    host_bytes_committed: int
    host_bytes_limit: int
    gpu_bytes_committed: int
    gpu_bytes_limit: int
    input_transfer: Metric
    """CUDA: waves copied to the device; bytes, and time there. 0 on the CPU, as are the next nine."""
    gpu_decode: Metric
    gpu_assemble: Metric
    gpu_retry: Metric
    """Chunks that the device gave back to the CPU."""
    post_decode: Metric
    """Waves: from when the device was done with one until its batches know."""
    decode_gap: Metric
    """Times that the device decoded nothing although a wave was due, and how long in all."""
    bind_wait: Metric
    """Times a worker had read a chunk and found no room in a wave, and how long in all."""
    gpu_decode_busy_ns: int
    """Time in which the device decoded: less than gpu_decode's where waves overlap."""
    gpu_direct_read: Metric
    """gpu_direct_storage: reads that the device did itself, also counted in `read`; bytes, and time in which they blocked."""
    gpu_direct_fallback: Metric
    """Reads that it was to do, and that were done as usual."""
    decode_shared: Metric
    """Chunks that a batch got from an older one, which decoded them for both, or that were kept for it; decoded bytes that
    `decode` would have had more."""
    bottleneck: str
    """"storage", "decode", "consumer" (you take batches too slowly), "producer" (too few samples are pushed), or "none"."""

    @property
    def samples_per_second(self) -> float:
        """Delivered samples over elapsed time."""
        return self.samples_delivered * 1e9 / self.elapsed_ns if self.elapsed_ns else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Delivered bytes over elapsed time."""
        return self.bytes_delivered * 1e9 / self.elapsed_ns if self.elapsed_ns else 0.0

    @property
    def read_amplification(self) -> float:
        """Bytes asked of stores over bytes that samples needed."""
        return self.read.bytes / self.bytes_needed if self.bytes_needed else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.samples_delivered} samples in {self.batches_delivered} batches, {self.samples_failed} failed, "
            f"{self.elapsed_ns / 1e9:.3f} s: {self.samples_per_second:.1f} samples/s, {self.bytes_per_second / 1e9:.3f} GB/s",
            f"bottleneck: {self.bottleneck}",
        ]
        for member in fields(self):
            metric = getattr(self, member.name)
            if isinstance(metric, Metric) and metric.count:
                lines.append(f"  {member.name:14} {metric.count:10} {metric.bytes / 1e6:12.1f} MB {metric.seconds:10.3f} s")
        return "\n".join(lines)
