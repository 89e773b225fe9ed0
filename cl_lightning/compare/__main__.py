"""The command ``python -m cl_lightning.compare DIR...``: errors in one line, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cl_lightning.core.cli import carried_out, say
from cl_lightning.core.exit_codes import DONE


def main(arguments: Sequence[str]) -> int:
    """Execute a command line; returns the exit code: 2 for what is not possible, 1 where a disk failed."""
    return carried_out(lambda: _carry_out(arguments))


def _carry_out(arguments: Sequence[str]) -> int:
    from cl_lightning.compare.command import compare, deliver  # Ctrl-C may come while this is imported
    from cl_lightning.compare.options import parse

    options = parse(arguments)
    comparison, notes = compare(options)
    for note in notes:
        say(f"note: {note}")
    deliver(comparison, options)
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
