"""``python -m cl_lightning.compare DIR...``: what went wrong in one line, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

WRONG, INTERRUPTED = 2, 130


def main(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code: 2 for what is not possible, 130 after Ctrl-C."""
    try:
        return _carry_out(arguments)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED


def _carry_out(arguments: Sequence[str]) -> int:
    from cl_lightning.compare.command import compare, deliver  # Ctrl-C may come while this is imported
    from cl_lightning.compare.options import parse
    from cl_lightning.errors import UserError

    try:
        options = parse(arguments)
        comparison, notes = compare(options)
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        deliver(comparison, options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {error.filename or 'the output'} cannot be written: {error.strerror}", file=sys.stderr)
        return WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
