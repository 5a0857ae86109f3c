"""What goes to stderr."""

from __future__ import annotations

from typing import Literal

from . import _core
from ._errors import InvalidArgument

_LEVELS = ("error", "warn", "info", "debug")


def set_log_level(level: Literal["error", "warn", "info", "debug"]) -> None:
    """What goes to stderr, for the whole process; "warn" at first. DAMACY_LOG=store,plan raises single rooms to "debug".

    >>> damacy.set_log_level("error")
    """
    if level not in _LEVELS:
        raise InvalidArgument(f"log level {level!r} is none of {', '.join(_LEVELS)}", stage="config", found=repr(level))
    _core.set_log_level(_LEVELS.index(level))
