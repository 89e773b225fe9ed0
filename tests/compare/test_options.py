"""The command line of a comparison: what may be typed together, and each mistake in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.compare.options import parse
from cl_lightning.core.errors import UserError


def test_all_that_can_be_typed(tmp_path: Path) -> None:
    found = parse(
        [
            "a", "b", f"--out={tmp_path}/x.csv", "--figure", f"{tmp_path}/x.PNG", "--only", "method=wa", "--only",
            "method=der", "--only", "memory=a=b", "--across", "data", "--across", "tasks", "--across", "data",
            "--leave-out", "c", "--unfinished", "--baseline", "wa", "--readout", "nme",
        ]
    )  # fmt: skip
    assert found.paths == (Path("a"), Path("b"))
    assert (found.form, found.out, found.figure) == ("csv", tmp_path / "x.csv", tmp_path / "x.PNG")
    assert found.only == {"method": ("wa", "der"), "memory": ("a=b",)}
    assert (found.across, found.leave_out, found.unfinished) == (("data", "tasks"), (Path("c"),), True)
    assert (found.baseline, found.readout, found.evaluation) == ("wa", "nme", None)


@pytest.mark.parametrize(
    ("typed", "form"), [([], "table"), (["--out=x.md"], "markdown"), (["--out=x.odd", "--format=csv"], "csv")]
)
def test_the_form_is_typed_or_of_the_suffix(
    typed: list[str], form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(["a", *typed]).form == form


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ([], "nothing to compare: type python -m cl_lightning.compare DIR, a folder with runs"),
        (["a", "--outt=x.csv"], "unrecognized arguments: --outt=x.csv (did you mean --out?): python -m cl_lightning"),
        (["a", "--format=xml"], "--format xml does not exist: type --format table, "),
        (["a", "--out=x.xml"], "--out x.xml has none of the suffixes "),
        (["a", "--figure=x.xml"], "--figure x.xml has none of the suffixes "),
        (["a", "--out=no/x.csv"], "--out no/x.csv cannot be written, as no is no folder: type a file in a folder th"),
        (["a", "--out=there.csv"], "--out there.csv is a folder: type a file in a folder that exists"),
        (["a", "--only=wa"], "--only wa cannot be read: type --only KEY=VALUE, such as --only method=dytox"),
        (["a", "--only==wa"], "--only =wa cannot be read"),
        (["a", "--only"], "argument --only: expected one argument: python -m cl_lightning.compare --help lists"),
    ],
)
def test_a_mistake_is_one_line(typed: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").mkdir()
    with pytest.raises(UserError) as refused:
        parse(typed)
    assert str(refused.value).startswith(line)
