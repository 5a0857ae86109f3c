"""What is at a uri: arrays, groups, OME-Zarr images, plates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from operator import index
from os import PathLike
from typing import Any, NamedTuple

from . import _core
from ._config import storage_options_text
from ._errors import BY_STATUS, DamacyError, InvalidArgument, RankMismatch
from ._types import Dtype, Status

_Interval = tuple[int, int]


class Axis(NamedTuple):
    """What metadata say about an axis; "" where they say nothing."""

    name: str
    """For example "z"."""
    type: str
    """For example "space", "time" or "channel"."""
    unit: str
    """For example "micrometer"."""

    def __str__(self) -> str:
        more = ", ".join(part for part in (self.type, self.unit) if part)
        return f"{self.name or '?'} ({more})" if more else self.name or "?"


class Node:
    """An array, a group, an OME-Zarr image, label image, plate or well, or a folder: what open() returns, and what is below it.

    An image, or a label image, has the shape, dtype and so on of its first level, the finest. Nothing here changes, and nothing stays
    open. `uri` is what a Sample wants.

    >>> array = damacy.open(example)
    >>> array.kind, array.shape, array.chunks, array.shards, array.dtype
    ('array', (32, 32), (8, 8), None, Dtype.U16)
    >>> damacy.Sample(array.uri, array.box((0, 8), 3)).aabb
    ((0, 8), (3, 4))
    """

    __slots__ = ("_arrays", "_by_path", "_children", "_facts", "_root")

    def __init__(self, facts: dict[str, Any], root: Node | None = None) -> None:
        self._facts = facts
        self._root = root or self
        self._children = tuple(Node(child, self._root) for child in facts.pop("children"))
        self._by_path: dict[str, Node] | None = None
        self._arrays: dict[str, Node] | None = None

    # --- what every node has ---

    @property
    def kind(self) -> str:
        """ "array", "group", "image", "label", "labels", "plate", "well", "collection" or "folder"."""
        return str(self._facts["kind"])

    @property
    def uri(self) -> str:
        """What a Sample, or open(), wants."""
        return str(self._facts["uri"])

    @property
    def path(self) -> str:
        """From what was opened; "" for that itself."""
        return str(self._facts["path"])

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2] or _core.uri_shown(self.uri).removesuffix("?***").rstrip("/").rpartition("/")[2]

    @property
    def zarr_format(self) -> int | None:
        """2 or 3; None for a folder."""
        return self._facts["zarr_format"] or None

    @property
    def attributes(self) -> dict[str, Any]:
        """The user's attributes."""
        return dict(_parsed(self._facts["attributes"]) or {})

    @property
    def error(self) -> DamacyError | None:
        """Why it cannot be read, as the exception that a batch would raise; None if it can."""
        status = Status(self._facts["status"])
        return BY_STATUS[status](self._facts["message"], uri=_core.uri_shown(self.uri)) if status in BY_STATUS else None

    @property
    def complete(self) -> bool:
        """False: a limit was reached while looking, so there may be more below what was opened."""
        return not self._root._facts["cut"]

    # --- what is below ---

    @property
    def children(self) -> tuple[Node, ...]:
        """What lies directly below, by name; of an image its levels, and its labels."""
        return self._children

    @property
    def arrays(self) -> dict[str, Node]:
        """All arrays at and below this node, by their paths from it; an array itself is ""."""
        if self._arrays is None:
            begin = len(self.path) + 1 if self.path else 0
            self._arrays = {node.path[begin:]: node for node in self.walk() if node.kind == "array"}
        return dict(self._arrays)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, from top to bottom."""
        yield self
        for child in self._children:
            yield from child.walk()

    def __getitem__(self, path: str) -> Node:
        """The node at a path below this one."""
        if self._by_path is None:
            begin = len(self.path) + 1 if self.path else 0
            self._by_path = {node.path[begin:]: node for node in self.walk() if node is not self}
        return self._by_path[path]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)

    def __bool__(self) -> bool:
        return True

    def _linked(self, name: str) -> tuple[Node, ...]:
        paths = self._facts.get(name, ())
        return tuple(self._root if not path else self._root[path] for path in paths)

    # --- OME-Zarr ---

    @property
    def ome_version(self) -> str | None:
        """For example "0.5"; None for what is not of OME-Zarr."""
        return self._facts.get("ome_version") or None

    @property
    def levels(self) -> tuple[Node, ...]:
        """The arrays of an image, finest first; empty for what is no image."""
        return self._linked("levels")

    @property
    def labels(self) -> dict[str, Node]:
        """The label images of an image, by name."""
        return {node.name: node for node in self._linked("labels")}

    @property
    def wells(self) -> dict[str, str]:
        """A plate's wells: for each path ("B/03") the uri to open."""
        return dict(self._facts.get("wells", ()))

    @property
    def fields(self) -> tuple[str, ...]:
        """The paths of a well's images."""
        return tuple(self._facts.get("fields", ()))

    # --- arrays, and images as their first level ---

    def _array(self, what: str) -> dict[str, Any]:
        node = self if "shape" in self._facts else next(iter(self.levels), None)
        if node is None:
            hint = f"; see .arrays ({len(self.arrays)})" if self._children else ""
            raise AttributeError(f"a {self.kind} has no {what}: {_core.uri_shown(self.uri)}{hint}")
        return node._facts

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents; complex numbers have a last axis of 2."""
        return tuple(self._array("shape")["shape"])

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self._array("ndim")["shape"])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk, of an inner one where there are shards; the largest extents of an irregular grid."""
        return tuple(self._array("chunks")["chunks"])

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard; None if it is not sharded."""
        shards = self._array("shards")["shards"]
        return None if shards is None else tuple(shards)

    @property
    def dtype(self) -> Dtype | None:
        """What "native" gives; None where the array cannot be read."""
        dtype = Dtype(self._array("dtype")["dtype"])
        return None if dtype is Dtype.NATIVE else dtype

    @property
    def data_type(self) -> str:
        """The dtype as it is written: "uint16", "<u2", or JSON."""
        return str(self._array("data_type")["data_type"])

    @property
    def nbytes(self) -> int:
        """Bytes of all elements in its dtype."""
        return int(self._array("nbytes")["nbytes"])

    @property
    def codecs(self) -> Any:
        """As written: a list in v3, in v2 a dict of order, filters and compressor."""
        return _parsed(self._array("codecs")["codecs"])

    @property
    def fill_value(self) -> Any:
        """As written, e.g. 0, "NaN" or None."""
        return _parsed(self._array("fill_value")["fill_value"])

    @property
    def chunk_grid(self) -> Any:
        """As written; None in v2."""
        return _parsed(self._array("chunk_grid")["chunk_grid"])

    @property
    def chunk_key_encoding(self) -> Any:
        """As written; in v2 the separator."""
        facts = self._array("chunk_key_encoding")
        return _parsed(facts["chunk_key_encoding"]) if facts["chunk_grid"] else facts["chunk_key_encoding"]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Name, type and unit of each axis."""
        own = self._facts["axes"] or self._array("axes")["axes"]
        return tuple(Axis(*axis) for axis in own)

    @property
    def scale(self) -> tuple[float, ...] | None:
        """Physical size of an element along each axis, in the axes' units; None if nothing is said."""
        return self._array("scale")["scale"]  # type: ignore[no-any-return]

    @property
    def translation(self) -> tuple[float, ...] | None:
        """Where the first element is, in the axes' units; None if nothing is said."""
        return self._array("translation")["translation"]  # type: ignore[no-any-return]

    @property
    def members(self) -> tuple[str, ...]:
        """Of a structured dtype: uri + "#member=" + name reads one of them."""
        return tuple(self._array("members")["members"])

    def box(self, *intervals: Any, **by_name: Any) -> tuple[_Interval, ...]:
        """A box for Sample, in the array's own order of axes; an axis that is not given is whole.

        intervals: for the first axes, in order; by_name: by the axes' names. Each is (begin, end), a slice without a step, or an index.

        >>> damacy.open(example).box(slice(4, 8))
        ((4, 8), (0, 32))
        """
        shape, names, where = self.shape, [axis.name for axis in self.axes], _core.uri_shown(self.uri)
        if len(intervals) > len(shape):
            raise RankMismatch(f"{len(intervals)} intervals for the {len(shape)} axes of {where}", uri=where)
        chosen: dict[int, Any] = dict(enumerate(intervals))
        for name, interval in by_name.items():
            if names.count(name) != 1:
                known = ", ".join(map(repr, filter(None, names))) or "none with a name"
                raise InvalidArgument(f"there is no axis {name!r} in {where}; its axes: {known}", uri=where, found=repr(name))
            if names.index(name) in chosen:
                raise InvalidArgument(f"axis {name!r} is given twice", uri=where)
            chosen[names.index(name)] = interval
        return tuple(_interval(chosen.get(axis), extent, names[axis] or axis, where) for axis, extent in enumerate(shape))

    # --- looking at it ---

    def __repr__(self) -> str:
        lines = [self._headline()]
        if "shape" in self._facts:
            lines += self._array_lines()
        elif self.levels:
            lines.append(f"  axes    {', '.join(map(str, self.axes))}")
            lines += _columns([level._row(number) for number, level in enumerate(self.levels)])
            lines += [f"  label   {name}: {' x '.join(map(str, node.shape))} {node.dtype or node.data_type}" for name, node in self.labels.items()]
        else:
            rows = [node._row(node.path[len(self.path) + bool(self.path) :]) for node in self.walk() if node is not self]
            lines += _columns(rows[:_ROWS_MAX])
            if len(rows) > _ROWS_MAX:
                lines.append(f"  ... and {len(rows) - _ROWS_MAX} more")
        if self.wells:
            lines.append(f"  wells   {', '.join(self.wells)}")
        if self.fields:
            lines.append(f"  fields  {', '.join(self.fields)}")
        if self._facts["message"]:
            lines.append(f"  problem {self._facts['message']}")
        return "\n".join(lines)

    def _headline(self) -> str:
        parts = [self.kind]
        if self.ome_version:
            parts.append(f"OME-Zarr {self.ome_version}")
        if self.zarr_format:
            parts.append(f"Zarr v{self.zarr_format}")
        return f"{_core.uri_shown(self.uri)}: {', '.join(parts)}"

    def _array_lines(self) -> list[str]:
        def extents(shape: tuple[int, ...]) -> str:
            return " x ".join(map(str, shape)) or "-"

        lines = [f"  shape   {extents(self.shape)}", f"  chunks  {extents(self.chunks)}"]
        if self.shards is not None:
            lines.append(f"  shards  {extents(self.shards)}")
        lines.append(f"  dtype   {self.data_type}" + (f", read as {self.dtype}" if self.dtype and str(self.dtype) != self.data_type else ""))
        lines.append(f"  fill    {self._facts['fill_value']}")
        lines.append(f"  codecs  {_codec_names(self.codecs)}")
        if any(any(axis) for axis in self.axes):
            lines.append(f"  axes    {', '.join(map(str, self.axes))}")
        if self.scale is not None:
            lines.append(f"  scale   {', '.join(f'{value:g}' for value in self.scale)}")
        if self.members:
            lines.append(f"  members {', '.join(self.members)}")
        return lines

    def _row(self, name: str | int) -> tuple[str, ...]:
        """A line of a table."""
        if "shape" not in self._facts:
            return (str(name), self.kind, "", "", "", "")
        scale = f"scale {', '.join(f'{value:g}' for value in self.scale)}" if self.scale is not None else ""
        shards = f"shards {' x '.join(map(str, self.shards))}" if self.shards is not None else ""
        chunks = f"chunks {' x '.join(map(str, self.chunks))}"
        return (str(name), str(self.dtype or self.data_type), " x ".join(map(str, self.shape)), chunks, shards, scale)


_ROWS_MAX = 100


def _parsed(text: str) -> Any:
    return json.loads(text) if text else None


def _interval(chosen: Any, extent: int, axis: str | int, uri: str) -> _Interval:
    """One axis of a box."""
    if chosen is None:
        return 0, extent
    if isinstance(chosen, slice):
        if chosen.step not in (None, 1):
            raise InvalidArgument(f"axis {axis!r}: a slice of a box has no step", uri=uri, found=repr(chosen))
        begin = 0 if chosen.start is None else index(chosen.start)
        end = extent if chosen.stop is None else index(chosen.stop)
    else:
        try:
            begin, end = map(index, chosen) if isinstance(chosen, Iterable) else (index(chosen), index(chosen) + 1)
        except (TypeError, ValueError):
            raise TypeError(f"axis {axis!r} of {uri}: {chosen!r}, expected (begin, end), a slice or an index") from None
    if not 0 <= begin <= end <= extent:
        raise RankMismatch(f"axis {axis!r}: [{begin}, {end}) is outside of [0, {extent}) in {uri}", uri=uri, found=repr(chosen))
    return begin, end


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(6)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths) if width).rstrip() for row in rows]


def _codec_names(codecs: Any) -> str:
    """In the order of encoding."""
    if isinstance(codecs, list):
        return ", ".join(_codec_name(codec) for codec in codecs) or "none"
    if isinstance(codecs, dict):  # v2
        listed = [*(codecs.get("filters") or ()), *filter(None, [codecs.get("compressor")])]
        return f"order {codecs.get('order', 'C')}; " + (", ".join(str(codec.get("id", codec)) for codec in listed) or "none")
    return str(codecs)


def _codec_name(codec: Any) -> str:
    if not isinstance(codec, dict):
        return str(codec)
    inner = (codec.get("configuration") or {}).get("codecs") if isinstance(codec.get("configuration"), dict) else None
    return str(codec.get("name")) + (f" [{', '.join(map(_codec_name, inner))}]" if isinstance(inner, list) else "")


def _nanoseconds(timeout: float | None) -> int:
    if timeout is None:
        return 2**64 - 1
    if not isinstance(timeout, Real):
        raise TypeError(f"timeout is {timeout!r}, expected seconds, or None for ever")
    if not timeout > 0:
        raise InvalidArgument(f"timeout is {timeout!r}, expected seconds, or None for ever", stage="config", found=repr(timeout))
    return max(1, int(min(float(timeout) * 1e9, 2.0**63)))  # infinity as well


def open(  # noqa: A001
    uri: str | PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float | None = 60.0,
    shallow: bool = False,
    wells: bool = False,
) -> Node:
    """Say what is at a uri: an array, a group with all below it, an OME-Zarr image, a plate, a well, or a folder of such.

    uri: as for Sample, and also of what cannot be pushed: groups, plates, folders.
    storage_options: as for Config.
    timeout: seconds for the whole call.
    shallow: children are not looked for, except an image's levels and labels.
    wells: look into all wells of plates, too.

    Reads metadata only. An array that is well described but cannot be read is no failure: its `error` says why.

    >>> damacy.open(example).codecs[0]
    {'name': 'bytes', 'configuration': {'endian': 'little'}}
    >>> damacy.open("/nowhere/at/all")
    Traceback (most recent call last):
    damacy._errors.NotFound: ...
    """
    (found,) = _core.open((uri,), storage_options_text(storage_options), _nanoseconds(timeout), shallow, wells)
    if isinstance(found, DamacyError):
        raise found
    return Node(found)


def open_many(
    uris: Iterable[str | PathLike[str]],
    *,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float | None = 60.0,
    shallow: bool = False,
    wells: bool = False,
) -> list[Node | DamacyError]:
    """The same for many uris at once, with requests that overlap: for each its Node, or the exception that says why there is none.

    >>> [found.shape for found in damacy.open_many([example, example])]
    [(32, 32), (32, 32)]
    """
    if isinstance(uris, (str, bytes, PathLike)):
        raise TypeError(f"uris is {uris!r}, expected several of them")
    found = _core.open(tuple(uris), storage_options_text(storage_options), _nanoseconds(timeout), shallow, wells)
    return [item if isinstance(item, DamacyError) else Node(item) for item in found]
