"""The progress display: what it says, when, and that it guesses the time left from what it has seen."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest

from cl_lightning.learning import display as module
from cl_lightning.learning.display import Display, PhaseSpan, clock

MAIN_1, TUNE_1 = PhaseSpan(0, 1, "main", 4, 5, 400), PhaseSpan(0, 3, "finetuning", 2, 5, 100)
MAIN_2, TUNE_2 = PhaseSpan(1, 1, "main", 4, 5, 600), PhaseSpan(1, 3, "finetuning", 2, 5, 200)
LEGS = [MAIN_1, TUNE_1, MAIN_2, TUNE_2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the display's clock."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def set_clock(seconds: float) -> None:
        now.seconds = 1000.0 + seconds

    return set_clock


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


# ---- lines -------------------------------------------------------------------------------------------------------


def test_a_line_tells_task_phase_epoch_speed_and_time_left(at: Callable[[float], None]) -> None:
    stream = io.StringIO()
    display = Display(LEGS, 2, "lines", stream)
    display.start(MAIN_1)
    at(10)
    display.advance(100, steps_done=7)
    # 10 images a second: 300 + 600 images of main; fine-tuning has not been seen yet and counts alike, 100 + 200.
    assert lines(stream) == ["task 1/2 | main | epoch 2/4 | 10 images/s | 2:00 left"]


def test_lines_come_at_intervals(at: Callable[[float], None]) -> None:
    stream = io.StringIO()
    display = Display(LEGS, 2, "lines", stream)
    display.start(MAIN_1)
    for second in range(1, 36):
        at(second)
        display.advance(4, steps_done=second)
    assert len(lines(stream)) == 3
    assert [re.search(r"epoch (\d)", line).group(1) for line in lines(stream)] == ["2", "4", "4"]  # type: ignore[union-attr]


def test_the_last_step_of_an_epoch_belongs_to_it(at: Callable[[float], None]) -> None:
    told = []
    for step in range(1, 21):
        stream = io.StringIO()
        display = Display(LEGS, 2, "lines", stream)
        display.start(MAIN_1)
        at(20 * step)
        display.advance(20, steps_done=step)
        told.append(int(re.search(r"epoch (\d)/4", lines(stream)[-1]).group(1)))  # type: ignore[union-attr]
    assert told == [epoch for epoch in (1, 2, 3, 4) for _ in range(5)]


def test_a_long_run_tells_more_seldom(at: Callable[[float], None]) -> None:
    """Every ten seconds, then after a tenth of the time that has passed, at most five minutes."""
    stream, hours = io.StringIO(), 10
    leg = PhaseSpan(0, 1, "main", 500, 1000, 10**9)
    display = Display([leg], 1, "lines", stream)
    display.start(leg)
    told: list[int] = []
    for second in range(1, hours * 3600, 5):
        at(second)
        before = len(lines(stream))
        display.advance(128, steps_done=second)
        told += [second] * (len(lines(stream)) - before)
    gaps = [b - a for a, b in pairwise(told)]
    assert gaps == sorted(gaps)
    assert gaps[0] in range(10, 16)
    assert gaps[-1] in range(300, 306)
    assert len(told) < 160


@pytest.mark.parametrize("colours", [True, False])
def test_colours_are_off_where_they_are_not_wanted(
    at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, colours: bool
) -> None:
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    display = Display(LEGS, 2, "live", stream)
    display.start(MAIN_1)
    display.advance(100, steps_done=7)
    display.close()
    coloured = re.findall(r"\x1b\[(?:[0-9]+;)*(?:3[0-7]|38;5;[0-9]+|9[0-7])m", stream.getvalue())
    assert bool(coloured) is colours


def test_the_speed_is_that_of_the_phase_alone(at: Callable[[float], None]) -> None:
    stream = io.StringIO()
    display = Display(LEGS, 2, "lines", stream)
    display.start(MAIN_1)
    at(40)
    display.advance(400, steps_done=20)
    display.finish()
    display.start(TUNE_1)
    at(60)
    display.advance(50, steps_done=5)
    # Fine-tuning: 50 images in 20 s. Ahead: 50 + 200 images of it, and 600 of main at 10 images a second.
    assert lines(stream)[-1] == "task 1/2 | finetuning | epoch 1/2 | 2 images/s | 2:40 left"


def test_the_last_step_of_the_last_phase_has_nothing_left(at: Callable[[float], None]) -> None:
    stream = io.StringIO()
    display = Display([TUNE_2], 2, "lines", stream)
    display.start(TUNE_2)
    at(3700)
    display.advance(200, steps_done=10)
    assert lines(stream) == ["task 2/2 | finetuning | epoch 2/2 | 0 images/s | 0:00 left"]


def test_large_numbers_stay_on_one_line(at: Callable[[float], None]) -> None:
    stream = io.StringIO()
    long = PhaseSpan(8, 1, "a phase with quite a long name [of its own]", 500, 390, 10**9)
    display = Display([long], 10, "lines", stream)
    display.start(long)
    at(10)
    display.advance(123_456, steps_done=40_000)
    assert lines(stream) == [
        "task 9/10 | a phase with quite a long name [of its own] | epoch 103/500 | 12,346 images/s | 22:29:51 left"
    ]


def test_a_step_in_no_time_is_no_division_by_zero(at: Callable[[float], None]) -> None:
    display = Display(LEGS, 2, "live", Terminal())
    display.start(MAIN_1)
    display.advance(10, steps_done=1)
    display.finish()
    display.start(TUNE_1)
    display.finish()  # a phase of which no step was shown
    display.close()


@pytest.mark.parametrize(("width", "speed"), [(120, True), (80, True), (60, False)])
def test_a_narrow_terminal_has_the_time_left_rather_than_the_speed(
    at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, width: int, speed: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    display = Display([TUNE_2, TUNE_2], 2, "live", stream)
    display.start(TUNE_2)
    at(50)
    display.advance(100, steps_done=5)
    display.close()
    assert "epoch 1/2 | " in stream.getvalue()
    assert "2:30 left" in stream.getvalue()
    assert (" images/s" in stream.getvalue()) is speed


def test_what_is_told_may_be_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    display = Display([], 2, "lines", stream)
    display.say("data      digits: 1,442 training and 355 test images", indent=10)
    display.say("a line that is not folded, however long it may be")
    assert lines(stream) == [
        "data      digits: 1,442 training and 355",
        "          test images",
        "a line that is not folded, however long it may be",
    ]


# ---- modes -------------------------------------------------------------------------------------------------------


def run(mode: str, stream: io.StringIO, at: Callable[[float], None]) -> str:
    at(0)
    display = Display([MAIN_1], 2, mode, stream)
    display.say("hello [b]there[/b]")
    display.start(MAIN_1)
    for step in range(1, 21):
        at(2 * step)
        display.advance(20, step)
    display.finish()
    display.close()
    return stream.getvalue()


def test_auto_writes_lines_without_a_terminal(at: Callable[[float], None]) -> None:
    written = run("auto", io.StringIO(), at)
    assert written == run("lines", io.StringIO(), at)
    assert "\x1b" not in written
    assert written.splitlines()[0] == "hello [b]there[/b]"
    assert len(written.splitlines()) == 5


def test_auto_is_live_on_a_terminal(at: Callable[[float], None]) -> None:
    written = run("auto", Terminal(), at)
    assert "\x1b" in written, "the line is drawn again in place"
    assert "hello [b]there[/b]" in written
    assert "task 1/2 | main | epoch 4/4" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert "\x1b" not in run("lines", Terminal(), at), "unless lines are asked for"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_none_prints_nothing(stream: io.StringIO, at: Callable[[float], None]) -> None:
    assert run("none", stream, at) == ""


def test_close_may_come_twice_and_before_anything(at: Callable[[float], None]) -> None:
    for mode in ("live", "lines", "none"):
        display = Display([], 1, mode, Terminal())
        display.close()
        display.close()


class Closed(Terminal):
    """A terminal that has been closed, or a full device."""

    number = errno.EIO

    def write(self, text: str) -> int:
        raise OSError(self.number, "no more")


@pytest.mark.parametrize("mode", ["live", "lines"])
def test_a_terminal_that_is_closed_in_between_ends_no_run(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ``nohup`` no signal tells of it, and the run goes on."""
    detached: list[bool] = []
    monkeypatch.setattr(module, "detach_terminal", lambda: detached.append(True))
    display = Display(list(LEGS), 2, mode, Closed())
    display.start(MAIN_1)
    display.advance(100, 1)
    display.say("after task 1")
    display.finish()
    display.close()
    assert detached
    full = Closed()
    full.number = errno.ENOSPC
    with pytest.raises(OSError, match="no more"):
        Display([], 1, "lines", full).say("a full device is told")


TOLD = {
    0: "0:00",
    0.4: "0:00",
    9: "0:09",
    59.6: "1:00",
    123: "2:03",
    3599.7: "1:00:00",
    3723: "1:02:03",
    360_000: "100:00:00",
}


@pytest.mark.parametrize("seconds", TOLD)
def test_clock(seconds: float) -> None:
    assert clock(seconds) == TOLD[seconds]
