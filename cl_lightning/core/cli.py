"""What the commands beside ``python -m cl_lightning`` have in common: one line and an exit code for what goes wrong.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from cl_lightning.core.errors import UserError
from cl_lightning.core.exit_codes import DONE, INTERRUPTED, PARTLY, WRONG_INPUT
from cl_lightning.core.paths import let_any_name_be_printed
from cl_lightning.core.printable import printable, printable_lines

_MOST = 10**6
"""Of images at a time, of guesses ..."""


class Parser(argparse.ArgumentParser):
    """Arguments whose mistakes are told in one line."""

    def __init__(self, command: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"python -m cl_lightning.{command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """One line on stderr, exit code 2."""
        self.exit(WRONG_INPUT, f"error: {printable(' '.join(message.split()))}: type {self.prog} --help\n")


def carried_out(command: Callable[[], int]) -> int:
    """The exit code of ``command``; what the user can mend is told in one line."""
    let_any_name_be_printed()
    try:
        return command()
    except UserError as error:
        say(f"error: {printable(str(error))}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        say("\nstopped")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        say(f"error: {where}{error.strerror or error}")
        return PARTLY


def say(line: str) -> None:
    """To stderr: stdout is for results."""
    sys.stderr.write(printable_lines(line) + "\n")
    sys.stderr.flush()


def positive(text: str) -> int:
    """Return a whole number from 1 to what nobody goes beyond, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a whole number from 1 to {_MOST}")
    return number
