"""The width of lines: of a terminal, elsewhere, and as somebody has set it."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from cl_lightning.core.terminal import ELSEWHERE, folded, text_width


@pytest.mark.parametrize(
    ("columns", "width"), [("60", 60), ("1", 40), ("500", 500), ("", ELSEWHERE), ("0", ELSEWHERE), ("wide", ELSEWHERE)]
)
def test_what_is_set_holds_elsewhere_too(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert text_width(io.StringIO()) == width


def test_a_terminal_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    main, side = pty.openpty()
    try:
        for columns, width in ((72, 72), (20, 40), (0, ELSEWHERE)):  # some terminals do not know their size
            fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            with os.fdopen(os.dup(side), "w") as stream:
                assert text_width(stream) == width
    finally:
        os.close(main)
        os.close(side)


def test_a_closed_stream_has_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    stream.close()
    assert text_width(stream) == ELSEWHERE


def test_lines_are_folded_between_words_and_a_path_stays_whole() -> None:
    path = "/a/very-long/path/that/is/longer-than-a-line/run.log"
    assert folded(f"files  written to {path} now", 20, indent=7).splitlines() == [
        "files  written to",
        f"       {path}",
        "       now",
    ]
