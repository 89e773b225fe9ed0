"""Parts that the commands beside ``python -m cl_lightning`` share: one line and an exit code for every error.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cl_lightning.core.errors import UserError
from cl_lightning.core.exit_codes import DONE, INTERRUPTED, PARTLY, WRONG_INPUT
from cl_lightning.core.paths import let_any_name_be_printed
from cl_lightning.core.printable import printable, printable_lines

_MOST = 10**6
"""Largest count that an option accepts: images of a batch, guesses of an image."""


class Parser(argparse.ArgumentParser):
    """Argument parser that reports a mistake in one line."""

    def __init__(self, command: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"python -m cl_lightning.{command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Print one line to stderr and exit with code 2."""
        told = f"{' '.join(message.split())}{nearest_option(self, message)}"
        self.exit(WRONG_INPUT, f"error: {printable(told)}: type {self.prog} --help\n")


def nearest_option(parser: argparse.ArgumentParser, message: str) -> str:
    """Return a question where argparse's ``message`` is about an option that does not exist but nearly does, else an
    empty text.
    """
    _, unknown, typed = message.partition("unrecognized arguments: ")
    strange = next((word for word in typed.split() if word.startswith("-")), None) if unknown else None
    known = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(strange.partition("=")[0], known, 1) if strange else []
    return f" (did you mean {near[0]}?)" if near else ""


def discard_output() -> None:
    """Send the rest of the output nowhere: whoever read it (``head``, ``less``) has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def carried_out(command: Callable[[], int]) -> int:
    """Return the exit code of ``command``; report what the user can mend in one line."""
    let_any_name_be_printed()
    try:
        return command()
    except UserError as error:
        say(f"error: {printable(str(error))}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        say("\nstopped")
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return DONE
    except OSError as error:
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        say(f"error: {where}{error.strerror or error}")
        return PARTLY


def say(line: str) -> None:
    """Print a line to stderr: stdout is for results."""
    sys.stderr.write(printable_lines(line) + "\n")
    sys.stderr.flush()


def make_room(out: Path) -> None:
    """Make the folder of an output file before anything is computed. Raises ``UserError`` if that fails."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: type the name of a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}): type another file") from error


def positive(text: str) -> int:
    """Return a whole number from 1 to a million, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a whole number from 1 to {_MOST}")
    return number
