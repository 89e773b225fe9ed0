"""The rule that no assert guards a user."""

from __future__ import annotations

from pathlib import Path

from scripts.check_asserts import violations

PACKAGE = Path(__file__).parents[2] / "cl_lightning"


def test_no_assert_of_ours_guards_a_user() -> None:
    assert violations(PACKAGE) == []


def test_one_that_does_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "losses").mkdir()
    text = "assert isinstance(a, int)\nassert a is not None\nassert a > 0, 'a file says so'\n"
    for name in ("data/kept.py", "losses/mse.py"):
        (tmp_path / name).write_text(text)
    (line,) = violations(tmp_path)
    assert line.startswith(f"{tmp_path}/data/kept.py:3: asserts a > 0")
