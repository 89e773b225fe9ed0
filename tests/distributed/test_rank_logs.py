"""The log of a rank gives the line that says what went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.distributed.rank_logs import RankLog


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Traceback (most recent call last):\n  File\n    line\nKeyError: 3\nwarning: leaked\n", "KeyError: 3"),
        ("[rank1]: Traceback (most recent call last):\n[rank1]:   File\n[rank1]: OSError: full\n", "OSError: full"),
        ("Traceback (x):\n  y\nKeyError: 1\n\nDuring ...\n\nTraceback (x):\n  y\nValueError: 2\n", "ValueError: 2"),
        ("error: first\nerror: second\nbye\n\n", "second"),
        ("", None),
    ],
)
def test_a_log_gives_the_line_that_says_what_went_wrong(tmp_path: Path, said: str, told: str | None) -> None:
    log = tmp_path / "rank_1.log"
    log.write_text("error: an earlier run\n" + said)
    assert RankLog(log, len("error: an earlier run\n")).error() == told
