"""The command line: what is printed, written and refused, and with which exit code."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from cl_lightning.compare.__main__ import main
from tests.compare.made import write_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods, two seeds each, below the working directory."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write_run(Path("runs") / f"d{seed}", 8 + seed, seed=seed)
        write_run(Path("runs") / f"f{seed}", 2, seed=seed, method="finetune", memory="none")
    return tmp_path


def typed(*arguments: object) -> int:
    return main(list(map(str, arguments)))


def test_prints_a_table_and_says_the_rest_elsewhere(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "runs" / "begun", 5, seed=3, done=1)
    assert typed("runs") == 0
    told = capsys.readouterr()
    lines = [line.split() for line in told.out.splitlines()]
    assert ["dytox", "2", "94.17", "±", "2.75"] in [line[:5] for line in lines]
    assert ["finetune", "2", "-25.28", "±", "2.75", "-49.98"] in [line[:6] for line in lines]
    assert told.err.splitlines() == [
        "note: runs/begun is left out: 1 of 3 tasks are done (--unfinished keeps it)",
        "note: no config.yaml beside the results of runs/d0, runs/d1 (4 runs): options of networks and images are not "
        "known of them",
    ]


@pytest.mark.parametrize(("suffix", "begins"), [(".md", "Class-"), (".tex", "% needs"), (".csv", "group,")])
def test_the_suffix_says_the_format(runs: Path, suffix: str, begins: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = runs / f"table{suffix}"
    assert typed("runs", "--out", file) == 0
    assert file.read_text(encoding="utf-8").startswith(begins)
    told = capsys.readouterr()
    assert told.out == ""
    assert f"wrote {file}" in told.err
    assert typed("runs", "--out", file, "--format", "csv", "--baseline", "finetune") == 0
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert [(row["baseline"], row["pairs"]) for row in rows] == [("finetune", "2"), ("finetune", "")]


def test_only_comes_before_what_is_asked_of_the_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "runs" / "icarl", 5, method="icarl", readouts=("nme",))
    assert typed("runs", "--readout", "linear") == 2
    assert capsys.readouterr().err == "error: runs/icarl has no linear: type --readout nme\n"
    assert typed("runs", "--readout", "linear", "--only", "method=dytox", "--only", "method=finetune") == 0
    assert typed("runs", "--evaluation", "task_incremental", "--format", "csv") == 0
    assert ",task_incremental,nme," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to compare: type python -m cl_lightning.compare DIR, a folder with runs"),
        (["missing"], "missing does not exist: type the folder of a run or of several"),
        (["runs", "--format", "xml"], "--format xml does not exist: type --format table, markdown, latex, csv"),
        (["runs", "--out", "a.doc"], "--out a.doc has none of the suffixes .txt, .md, .tex, .csv: type one of them"),
        (["runs", "--out", "no/a.md"], "--out no/a.md cannot be written, as no is no folder: type a file in a folder"),
        (["runs", "--figure", "a.gif"], "--figure a.gif has none of the suffixes .png, .svg, .pdf: type one of them"),
        (["runs", "--only", "seed"], "--only seed cannot be read: type --only KEY=VALUE"),
        (["runs", "--formt", "csv"], "unrecognized arguments: --formt csv (did you mean --format?): python -m"),
        (["runs", "--baseline", "fintune"], '--baseline "fintune" is none of the groups (did you mean finetune?)'),
        (["runs", "--out"], "argument --out: expected one argument: python -m cl_lightning.compare --help"),
    ],
)
def test_mistakes_are_one_line(runs: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {told}")
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in runs.iterdir()) == ["runs"]


def test_mixed_protocols_are_refused_and_nothing_is_written(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "runs" / "other", 5, evaluates_on="validation")
    assert typed("runs", "--out", "a.md", "--figure", "a.svg") == 2
    assert capsys.readouterr().err == (
        "error: these runs are not comparable: evaluates_on is test in runs/d0 (4 runs) and validation in runs/other: "
        "type --only evaluates_on=test (or the other) to choose, or --across evaluates_on to have them in one table\n"
    )
    assert sorted(path.name for path in runs.iterdir()) == ["runs"]
    assert typed("runs", "--only", "evaluates_on=validation") == 0
    assert typed("runs", "--across", "evaluates_on") == 0
    assert typed("runs", "--leave-out", "runs/other", "--figure", "a.svg") == 0
    assert (runs / "a.svg").is_file()


def test_ctrl_c_ends_with_its_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cl_lightning.compare.command.collect", interrupted)
    assert typed("anywhere") == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, cl_lightning.compare.command; print([name for name in "
        "('torch', 'matplotlib', 'scipy', 'hydra', 'pandas', 'numpy') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_accuracy_over_a_setting_is_told_drawn_and_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for size in (20, 100):
        for seed in (0, 1):
            config = {"memory": {"size": size}}
            write_run(Path(f"runs/{size}_{seed}"), size // 20 + seed, seed=seed, memory=f"{size}", config=config)
    assert typed("runs", "--over", "memory.size", "--figure", "over.svg") == 0
    told = capsys.readouterr().out
    assert "Last over memory.size:" in told
    assert ["memory.size", "20", "100"] in [line.split() for line in told.splitlines()]
    assert Path("over.svg").read_bytes().startswith(b"<?xml")
    assert typed("runs", "--over", "memory.size", "--out", "over.csv") == 0
    rows = list(csv.DictReader(Path("over.csv").read_text(encoding="utf-8").splitlines()))
    assert sorted(row["memory.size"] for row in rows) == ["100", "20"]
