"""Codecs of the user's own, in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _core

DecodeFunction = Callable[[bytes, Any, int], Any]


def register_codec(name: str, function: DecodeFunction, *, array_to_bytes: bool = False) -> None:
    """Let a Python function decode a codec that damacy does not know, for arrays opened from now on.

    name: as in v3 metadata; v2's {"id": "x"} is "numcodecs.x". A name that is built in, or registered, is refused.
    function: called as function(data, configuration, size) for each chunk: `data` are the stored bytes, `configuration` is the codec's
        configuration (None if it has none; v2: without "id"), `size` is how many bytes are expected, or at most, where another codec
        stands between this one and the elements. It returns bytes, or anything contiguous, such as a NumPy array.
    array_to_bytes: it stands in the place of "bytes" in the list of codecs, and gives the elements in C order, this machine's byte order.

    This is the slow path: the function runs with the interpreter's lock, one chunk at a time, while other codecs run on all cores. A
    codec that matters belongs into C (damacy_codec_register). What the function raises becomes the DecodeError of the samples that
    need the chunk. Register before making a pipeline that reads such arrays. The function may be called from any thread at any time,
    and must not use damacy itself.

    >>> damacy.register_codec("example.reversed", lambda data, configuration, size: data[::-1])
    >>> damacy.unregister_codec("example.reversed")
    """
    if not callable(function):
        raise TypeError(f"function is {function!r}, expected something to call")
    _core.register_codec(name, function, array_to_bytes)


def unregister_codec(name: str) -> None:
    """Forget a codec that register_codec() made known; arrays that are open go on using it.

    >>> damacy.unregister_codec("example.unknown")
    Traceback (most recent call last):
    damacy._errors.NotFound: ...
    """
    _core.unregister_codec(name)
