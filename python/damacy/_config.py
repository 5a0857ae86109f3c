"""What a batch looks like, and the settings: checked when made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from operator import index
from typing import Any, Literal, SupportsIndex

from . import _core
from ._errors import BudgetExceeded, InvalidArgument, Unsupported
from ._types import Dtype

_ON_ERROR = ("raise", "fill", "skip")
_VERIFY = ("needed", "full")
_DECODE = ("auto", "gpu", "cpu")
_IO_URING = {"auto": 0, "require": 1, "never": 2}


def _integer(name: str, value: Any, least: int = 0) -> int:
    try:
        number = index(value)
    except TypeError:
        raise InvalidArgument(f"{name} is {value!r}, expected an integer", stage="config", found=repr(value)) from None
    if not least <= number < 2**63:
        raise InvalidArgument(f"{name} is {number}, expected {least} to 2^63 - 1", stage="config", found=str(number))
    return number


def _choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise InvalidArgument(f"{name} is {value!r}, expected {' or '.join(map(repr, choices))}", stage="config", found=repr(value))
    return str(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} is {value!r}, expected True or False", stage="config", found=repr(value))
    return value


def _shape(value: Any) -> tuple[int, ...]:
    try:
        extents = () if isinstance(value, str) else tuple(value)
    except TypeError:
        extents = ()
    if not extents:
        raise InvalidArgument(
            f"sample_shape is {value!r}, expected an extent for each axis, such as (16, 128, 128)", stage="config", found=repr(value)
        )
    return tuple(_integer(f"sample_shape[{axis}]", extent, 1) for axis, extent in enumerate(extents))


@dataclass(frozen=True)
class Field:
    """One tensor of a batch: the shape of its samples and the dtype that they get.

    >>> Field((16, 128, 128), "f32")
    Field(sample_shape=(16, 128, 128), dtype='f32')
    """

    sample_shape: tuple[int, ...]
    dtype: Dtype

    def __init__(self, sample_shape: Sequence[int], dtype: Any) -> None:
        object.__setattr__(self, "sample_shape", _shape(sample_shape))
        object.__setattr__(self, "dtype", Dtype.parse(dtype))

    def __repr__(self) -> str:
        return f"Field(sample_shape={self.sample_shape}, dtype={str(self.dtype)!r})"


class StorageOptions(Mapping[str, Any]):
    """Options of network stores. Holds secrets, so it shows names only."""

    __slots__ = ("_options",)

    def __init__(self, options: Mapping[str, Any]) -> None:
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise InvalidArgument('storage_options is no mapping of names, expected {"key": ...}', stage="config")
        self._options = dict(options)
        try:
            self.text
        except (TypeError, ValueError):
            wrong = next((name for name, value in options.items() if not _is_json(value)), "?")
            raise InvalidArgument(f"storage_options[{wrong!r}] is nothing that JSON can hold", stage="config") from None

    @property
    def text(self) -> str:
        """As the C library wants it."""
        return dumps(self._options, allow_nan=False)

    def __getitem__(self, name: str) -> Any:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __repr__(self) -> str:
        return f"<storage options: {', '.join(self._options) or 'none'}>"


def _is_json(value: Any) -> bool:
    try:
        dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def storage_options_text(options: Mapping[str, Any] | None) -> str | None:
    """JSON, or None."""
    return StorageOptions(options).text if options else None


def _device(value: Any) -> tuple[int, int]:
    """Type and ordinal of "cpu", "cuda", "cuda:1", an ordinal, or "auto"."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool) and 0 <= index(value) < 10000:
        return 1, index(value)
    kind, colon, ordinal = str(value).partition(":")
    if kind == "cpu" and not colon:
        return 0, 0
    if kind == "auto" and not colon:
        return 2, -1
    if kind == "cuda" and not colon:
        return 1, -1
    if kind == "cuda" and ordinal.isdecimal() and len(ordinal) < 5:
        return 1, int(ordinal)
    raise InvalidArgument(f"device is {value!r}, expected 'cpu', 'cuda', 'cuda:N', N or 'auto'", stage="config", found=repr(value))


def _numa(value: Any) -> tuple[int, int]:
    """Kind and node of "auto", "off", or a node."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1024:
        return 2, value
    if value in ("auto", "off"):
        return ("auto", "off").index(value), 0
    raise InvalidArgument(f"numa is {value!r}, expected 'auto', 'off' or the number of a node", stage="config", found=repr(value))


class Config:
    """What a batch looks like, and every setting. All but the first three have defaults that suit the machine.

    samples_per_batch: rows of a batch.
    sample_shape, dtype: of the single, unnamed field. Or:
    fields: several named tensors, {"image": Field(...), "label": Field(...)}.
    device: where batches go: "cpu"; "cuda" (the current context's device, else 0), "cuda:1" or 1; "auto": a GPU if there is one.
    on_error: what becomes of a batch with bad samples. "raise": that pop raises, the next one goes on; "fill": bad samples hold
        the fill value and are marked in Batch.info; "skip": they are left out.
    verify: "needed" decodes only as far as samples need; "full" decodes and checks whole chunks.
    storage_options: credentials, endpoints and other options of network stores, by the names that fsspec and s3fs know where such
        exist; see docs/remote.md. What they hold is shown nowhere.
    max_host_memory_bytes: hard limit of the pipeline; 0: a quarter of the memory allowed, used only as far as needed.

    numa: on machines with several NUMA nodes, where workers run and host memory lies. "auto": the CUDA device's node; a number: that
        node, on the CPU, too; "off": wherever the system puts them.
    gpu_direct_storage: True: the GPU reads uncompressed chunks of local files itself where it can, by GPUDirect Storage (libcufile).
    bypass_decode, metadata_latency_ns: for measuring. Everything but decoding runs, and batches hold the fill value; every request
        for metadata takes so much longer.

    The rest are knobs; 0 chooses what `tuning` shows. See docs/guide.md.

    >>> config = Config(samples_per_batch=8, sample_shape=(16, 128, 128), dtype=np.float32, worker_count=2)
    >>> config
    Config(samples_per_batch=8, sample_shape=(16, 128, 128), dtype='f32', worker_count=2)
    >>> print(config.describe().splitlines()[0])
    damacy 0.1.0 on the CPU: 8 samples a batch, 1 field, 2 workers
    """

    __slots__ = ("_fields", "_native", "_settings")

    _settings: dict[str, Any]

    def __init__(
        self,
        *,
        samples_per_batch: int,
        sample_shape: Sequence[int] | None = None,
        dtype: Any = None,
        fields: Mapping[str, Field] | None = None,
        device: str | int = "cpu",
        on_error: Literal["raise", "fill", "skip"] = "raise",
        verify: Literal["needed", "full"] = "needed",
        storage_options: Mapping[str, Any] | None = None,
        max_host_memory_bytes: int = 0,
        max_gpu_memory_bytes: int = 0,
        decode: Literal["auto", "gpu", "cpu"] = "auto",
        numa: Literal["auto", "off"] | int = "auto",
        gpu_direct_storage: bool = False,
        worker_count: int = 0,
        batch_slots: int = 0,
        lookahead_samples: int = 0,
        prefetch_samples: int = 0,
        reads_in_flight: int = 0,
        metadata_reads_in_flight: int = 0,
        coalesce_gap_bytes: int = 0,
        coalesce_read_bytes_max: int = 0,
        array_meta_cache_bytes: int = 0,
        shard_index_cache_bytes: int = 0,
        chunk_layout_cache_bytes: int = 0,
        metadata_object_bytes_max: int = 0,
        worker_bytes: int = 0,
        kept_chunk_bytes: int = 0,
        open_files_max: int = 0,
        io_uring: Literal["auto", "require", "never"] = "auto",
        bypass_decode: bool = False,
        metadata_latency_ns: int = 0,
    ) -> None:
        if fields is None:
            if sample_shape is None or dtype is None:
                raise InvalidArgument("a Config needs sample_shape and dtype, or fields", stage="config")
            own = {"": Field(sample_shape, dtype)}
        else:
            if sample_shape is not None or dtype is not None:
                raise InvalidArgument("a Config takes either sample_shape and dtype, or fields", stage="config")
            if not isinstance(fields, Mapping) or not fields:
                raise InvalidArgument('fields is empty or no mapping, expected {"name": Field(...)}', stage="config")
            own = dict(fields)
            for name, field in own.items():
                if not isinstance(name, str) or not name or "\0" in name:
                    raise InvalidArgument(f"the name of a field is {name!r}, expected a text", stage="config", found=repr(name))
                if not isinstance(field, Field):
                    raise InvalidArgument(f"fields[{name!r}] is {field!r}, expected a damacy.Field", stage="config", field=name)
        knobs = {
            "worker_count": worker_count,
            "batch_slots": batch_slots,
            "lookahead_samples": lookahead_samples,
            "prefetch_samples": prefetch_samples,
            "reads_in_flight": reads_in_flight,
            "metadata_reads_in_flight": metadata_reads_in_flight,
            "coalesce_gap_bytes": coalesce_gap_bytes,
            "coalesce_read_bytes_max": coalesce_read_bytes_max,
            "array_meta_cache_bytes": array_meta_cache_bytes,
            "shard_index_cache_bytes": shard_index_cache_bytes,
            "chunk_layout_cache_bytes": chunk_layout_cache_bytes,
            "metadata_object_bytes_max": metadata_object_bytes_max,
            "worker_bytes": worker_bytes,
            "kept_chunk_bytes": kept_chunk_bytes,
            "open_files_max": open_files_max,
            "metadata_latency_ns": metadata_latency_ns,
        }
        knobs = {name: _integer(name, value) for name, value in knobs.items()}
        device_type, device_ordinal = _device(device)
        numa_kind, numa_node = _numa(numa)
        self._fields = own
        self._settings = {
            "samples_per_batch": _integer("samples_per_batch", samples_per_batch, 1),
            "device": f"cuda:{index(device)}" if isinstance(device, SupportsIndex) else str(device),
            "on_error": _choice("on_error", on_error, _ON_ERROR),
            "verify": _choice("verify", verify, _VERIFY),
            "storage_options": StorageOptions(storage_options) if storage_options else None,
            "max_host_memory_bytes": _integer("max_host_memory_bytes", max_host_memory_bytes),
            "max_gpu_memory_bytes": _integer("max_gpu_memory_bytes", max_gpu_memory_bytes),
            "decode": _choice("decode", decode, _DECODE),
            "numa": numa,
            "gpu_direct_storage": _flag("gpu_direct_storage", gpu_direct_storage),
            **knobs,
            "io_uring": _choice("io_uring", io_uring, tuple(_IO_URING)),
            "bypass_decode": _flag("bypass_decode", bypass_decode),
        }
        self._native = (
            self._settings["samples_per_batch"],
            tuple((name, field.sample_shape, int(field.dtype)) for name, field in own.items()),
            device_type,
            device_ordinal,
            _ON_ERROR.index(on_error),
            _VERIFY.index(verify),
            self._settings["max_host_memory_bytes"],
            {**knobs, "io_uring": _IO_URING[io_uring], "bypass_decode": int(bypass_decode)},
            self._settings["max_gpu_memory_bytes"],
            _DECODE.index(decode),
            storage_options_text(storage_options),
            numa_kind,
            numa_node,
            int(gpu_direct_storage),
        )
        try:
            _core.tuning_defaults(self._native)
        except (BudgetExceeded, Unsupported):
            pass  # sound, but not on this machine: describe() may tell, and Pipeline() will

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._settings[name]
        except KeyError:
            raise AttributeError(f"Config has no setting {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError("a Config does not change; make another with replace()")
        object.__setattr__(self, name, value)

    @property
    def fields(self) -> dict[str, Field]:
        """The fields by name; a single unnamed one is ""."""
        return dict(self._fields)

    @property
    def sample_shape(self) -> tuple[int, ...] | None:
        """Of the unnamed field; None if fields are named."""
        return self._fields[""].sample_shape if "" in self._fields else None

    @property
    def dtype(self) -> Dtype | None:
        """Of the unnamed field; None if fields are named."""
        return self._fields[""].dtype if "" in self._fields else None

    @property
    def tuning(self) -> dict[str, int]:
        """Every knob as Pipeline() would choose it on this machine."""
        return _core.tuning_defaults(self._native)

    def describe(self) -> str:
        """What Pipeline() would allocate and why, before anything is."""
        return _core.describe(self._native)

    def _arguments(self) -> dict[str, Any]:
        """Keyword arguments that make this Config, without those that are as by default."""
        settings = dict(self._settings)
        arguments: dict[str, Any] = {"samples_per_batch": settings.pop("samples_per_batch")}
        if "" in self._fields:
            arguments |= {"sample_shape": self._fields[""].sample_shape, "dtype": str(self._fields[""].dtype)}
        else:
            arguments["fields"] = dict(self._fields)
        return arguments | {name: value for name, value in settings.items() if value != _DEFAULTS.get(name, 0)}

    def replace(self, **changes: Any) -> Config:
        """A Config like this with some settings changed.

        >>> Config(samples_per_batch=8, sample_shape=(4, 4), dtype="u8").replace(on_error="skip").on_error
        'skip'
        """
        arguments = self._arguments()
        if "fields" in changes:
            arguments.pop("sample_shape", None)
            arguments.pop("dtype", None)
        elif "sample_shape" in changes:
            arguments.pop("fields", None)
        return Config(**(arguments | changes))

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self._arguments().items())})"

    def __eq__(self, other: object) -> bool:
        return self._native == other._native if isinstance(other, Config) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = self._arguments()
        if "storage_options" in arguments:
            arguments["storage_options"] = dict(arguments["storage_options"])
        return _remake, (arguments,)


_DEFAULTS: dict[str, Any] = {"storage_options": None, "device": "cpu", "on_error": "raise", "verify": "needed", "decode": "auto", "numa": "auto", "io_uring": "auto"}


def _remake(arguments: dict[str, Any]) -> Config:
    return Config(**arguments)
