"""One exception for each status of the C library, all of them a DamacyError."""

from __future__ import annotations

from ._types import Status


class DamacyError(Exception):
    """What failed, where, what was expected and found, and what to do about it. What is not known is None.

    >>> try:
    ...     damacy.Config(samples_per_batch=4, sample_shape=(0, 8), dtype="f32")
    ... except damacy.DamacyError as error:
    ...     error.status, error.stage
    (<Status.INVAL: 2>, 'config')
    """

    status: Status = Status.INTERNAL
    """The C library's status."""
    uri: str | None
    """The array."""
    key: str | None
    """The object inside it, e.g. "zarr.json" or "c/0/3"."""
    byte_range: tuple[int, int] | None
    """Bytes of the object that were concerned, half-open."""
    field: str | None
    """Name of the field."""
    stage: str | None
    """config, push, metadata, index, plan, read, decode, assemble or pop."""
    expected: str | None
    found: str | None
    hint: str | None
    """What to do about it."""
    os_error: int | None
    """errno of the system call that failed."""

    def __init__(
        self,
        message: str = "",
        *,
        uri: str | None = None,
        key: str | None = None,
        byte_range: tuple[int, int] | None = None,
        field: str | None = None,
        stage: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        os_error: int | None = None,
    ) -> None:
        super().__init__(message)
        self.uri = uri
        self.key = key
        self.byte_range = byte_range
        self.field = field
        self.stage = stage
        self.expected = expected
        self.found = found
        self.hint = hint
        self.os_error = os_error


class TryAgain(DamacyError):
    """The lookahead is full. Pipeline.push never says so: it keeps what does not fit."""

    status = Status.AGAIN


class InvalidArgument(DamacyError, ValueError):
    """An argument or a setting makes no sense."""

    status = Status.INVAL


class NotFound(DamacyError):
    """No such array."""

    status = Status.NOTFOUND


class DtypeMismatch(DamacyError):
    """The array's dtype cannot become the field's without loss."""

    status = Status.DTYPE


class RankMismatch(DamacyError):
    """Number of axes, box against sample shape, or box against array shape."""

    status = Status.RANK


class Unsupported(DamacyError):
    """Valid data that this build does not read: codec, grid, extension, device."""

    status = Status.UNSUPPORTED


class StorageError(DamacyError):
    """The store failed."""

    status = Status.IO


class DecodeError(DamacyError):
    """Bytes that are there but are not what they should be."""

    status = Status.DECODE


class CudaError(DamacyError):
    """The CUDA driver failed."""

    status = Status.CUDA


class OutOfMemory(DamacyError, MemoryError):
    """The system gave no memory."""

    status = Status.OOM


class BudgetExceeded(DamacyError):
    """Something exceeds a configured bound; the message names the setting."""

    status = Status.BUDGET


class PoolStarved(DamacyError):
    """Every batch buffer is held by you: nothing can come until one is released."""

    status = Status.STARVED


class ShutdownError(DamacyError):
    """The pipeline is closed."""

    status = Status.SHUTDOWN


class Forked(DamacyError):
    """Used in a child of the process that made it."""

    status = Status.FORKED


class Timeout(DamacyError, TimeoutError):
    """The time given ran out."""

    status = Status.TIMEOUT


class InternalError(DamacyError):
    """A bug of damacy."""

    status = Status.INTERNAL


BY_STATUS: dict[Status, type[DamacyError]] = {
    error.status: error
    for error in (
        TryAgain,
        InvalidArgument,
        NotFound,
        DtypeMismatch,
        RankMismatch,
        Unsupported,
        StorageError,
        DecodeError,
        CudaError,
        OutOfMemory,
        BudgetExceeded,
        PoolStarved,
        ShutdownError,
        Forked,
        Timeout,
        InternalError,
    )
}
