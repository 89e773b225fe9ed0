"""What the commands beside the program itself share: every error is one line and an exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from cl_lightning.core.cli import Parser, carried_out, positive
from cl_lightning.core.errors import UserError


def ends(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (lambda: 0, 0, ""),
        (lambda: 7, 7, ""),
        (ends(UserError("run is\nnot there: type a folder")), 2, "error: run is\\nnot there: type a folder\n"),
        (ends(KeyboardInterrupt()), 130, "\nstopped\n"),
        (ends(OSError(28, "No space left on device", "a\nb")), 1, "error: a\\nb: No space left on device\n"),
        (ends(OSError("odd")), 1, "error: odd\n"),
    ],
    ids=["done", "its own", "mistake", "ctrl-c", "disk", "odd"],
)
def test_how_a_command_ends(
    command: Callable[[], int], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carried_out(command) == code
    assert capsys.readouterr().err == told


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        carried_out(ends(ZeroDivisionError()))


@pytest.mark.parametrize("typed", [["--batch", "0"], ["--batc", "3"], ["--batch", "x"], ["more"]])
def test_a_mistake_is_one_line_with_code_2(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("predict", "Predict.", "")
    parser.add_argument("--batch", type=positive, default=1)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(typed)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("error: ")
    assert line.endswith(": type python -m cl_lightning.predict --help")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--topp", "3"], "unrecognized arguments: --topp 3 (did you mean --top?)"),
        (["--topp=3"], "unrecognized arguments: --topp=3 (did you mean --top?)"),
        (["more", "--topp=3"], "unrecognized arguments: more --topp=3 (did you mean --top?)"),
        (["--xyz"], "unrecognized arguments: --xyz"),
        (["--top", "x"], "argument --top: x is not a whole number from 1 to 1000000"),
    ],
)
def test_an_option_that_is_nearly_there_is_named(
    typed: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Parser("predict", "Predict.", "")
    parser.add_argument("--top", type=positive, default=1)
    with pytest.raises(SystemExit):
        parser.parse_args(typed)
    assert capsys.readouterr().err == f"error: {told}: type python -m cl_lightning.predict --help\n"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "1000001"])
def test_counts_are_whole_numbers_from_1_to_a_million(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 1 to 1000000"):
        positive(text)
    assert [positive(each) for each in ("1", "1000000")] == [1, 1000000]
