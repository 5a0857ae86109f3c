"""The command `damacy`, and `python -m damacy`: the same program as the C library's."""

from __future__ import annotations

import sys

from . import _core


def main() -> int:
    """Run the command with this process's arguments."""
    return _core.command(("damacy", *sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
