"""Paths as they are typed, kept and told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cl_lightning.core.errors import UserError
from cl_lightning.core.paths import absolute, display_path, to_type, typed_path, writing


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pics", "/a/b/pics"),
        ("./pics/", "/a/b/pics"),
        ("../pics", "/a/pics"),
        ("../../../pics", "/pics"),
        ("link/../pics", "/a/b/link/../pics"),
        ("/x/../y", "/x/../y"),
        ("~/pics", "/there/me/pics"),
        ("~nobody-of-this-name/pics", "/a/b/~nobody-of-this-name/pics"),
        (".", "/a/b"),
    ],
)
def test_a_path_is_absolute_from_where_it_was_typed(typed: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``..`` behind a name stays: where that is a link, it leads elsewhere than to the folder that the link is in."""
    monkeypatch.setenv("HOME", "/there/me")
    assert str(absolute(typed, Path("/a/b"))) == meant


def test_a_path_is_shown_as_it_would_be_typed_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_path(tmp_path / "runs" / "0") == Path("runs/0")
    assert display_path(tmp_path) == tmp_path, "resume=. would be true from one folder alone"
    assert display_path(tmp_path.parent / "other") == tmp_path.parent / "other"


@pytest.mark.parametrize(
    ("path", "typed"),
    [
        ("/tmp/run", "resume=/tmp/run"),
        ("a b", "'resume=a b'"),
        ("drei tür", "'resume=drei tür'"),
        ("$x", "'resume=$x'"),
    ],
)
def test_what_is_to_be_typed_is_one_word_of_the_shell(path: str, typed: str) -> None:
    assert to_type("resume", Path(path)) == typed


def test_arguments_of_commands_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/there/me")
    assert typed_path("~/found.csv") == Path("/there/me/found.csv")
    assert typed_path("a~b") == Path("a~b")


def test_what_cannot_be_written_is_named_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"^file/run cannot be written \(Not a directory\): type run_dir=DIR$"),
        writing(tmp_path / "file" / "run", "type run_dir=DIR"),
    ):
        (tmp_path / "file" / "run").mkdir(parents=True)
    full = OSError(28, "No space left on device")
    with (
        pytest.raises(UserError, match=r"^run cannot be written \(No space left on device\)"),
        writing(Path("run"), ""),
    ):
        raise full


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_are_opened_on_nothing(closed: tuple[int, ...], tmp_path: Path) -> None:
    """The next file would take their number, and get what is printed; Python has no stream there at all."""
    said = (
        "import os, sys; from cl_lightning.core.paths import let_any_name_be_printed; let_any_name_be_printed()\n"
        "file = os.open('file', os.O_CREAT | os.O_WRONLY)\n"
        "print('out'); print('err', file=sys.stderr); os.write(1, b'x'); os.write(2, b'x')\n"
        "sys.exit(0 if file > 2 else 5)"
    )

    def close() -> None:
        for number in closed:
            os.close(number)

    assert subprocess.call([sys.executable, "-c", said], cwd=tmp_path, preexec_fn=close) == 0
    assert (tmp_path / "file").read_bytes() == b""
