"""Running, going on with, showing and keeping a table, on runs that take seconds."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from cl_lightning.config.identity import differences
from cl_lightning.core.errors import UserError
from cl_lightning.published import tables
from cl_lightning.published.tables import Table, parse_table
from scripts import reproduce

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "title": "Tiny",
    "about": "Runs of seconds.",
    "overrides": ["data=digits", "debug=smoke", "data.increment=5", "trainer.threads=1", "trainer.progress=none"],
    "columns": {"2": {"title": "2 steps", "overrides": []}},
    "runs": {"seed0": ["seed=0"], "seed1": ["seed=1"]},
    "rows": {
        "banded": {
            "title": "DyTox",
            "overrides": ["method=dytox"],
            "protocol": "somebody's",
            "source": "somewhere",
            "cells": {"2": {"published": {"avg": 99.0, "last": 98.0}, "band": {"avg": [98, 100], "last": [97, 99]}}},
        },
        "plain": {"title": "without memory", "overrides": ["method=finetune", "memory=none"]},
    },
    "contrasts": {
        "c": {"question": "Why?", "more": "banded", "less": "plain", "expected": {"last": [0, 50]}, "source": "us"}
    },
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Table:
    """Our table is the only one, and the page and its results are elsewhere."""
    table = parse_table("tiny", TINY)
    for name, value in (
        ("load_table", lambda name: table if name == "tiny" else tables.load_table(name)),
        ("table_names", lambda: ["tiny"]),
        ("RESULTS", tmp_path / "kept"),
        ("PAGE", tmp_path / "PAGE.md"),
        ("COMPARED", ()),
        ("ROOT", tmp_path),
    ):
        monkeypatch.setattr(reproduce, name, value)
    (tmp_path / "PAGE.md").write_text(
        "before\n\n<!-- overview --><!-- /overview -->\n\n<!-- table:tiny -->\nold\n<!-- /table:tiny -->\n\nafter\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return table


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = reproduce.main(arguments)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def in_this_process(command: list[str], console: Any) -> int:
    """What ``python -m cl_lightning ...`` does, without the seconds that a process takes to import everything."""
    from cl_lightning.__main__ import main

    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command[2:])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


@pytest.mark.long
def test_a_table_from_nothing_to_its_page(
    tiny: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs, finds them again, goes on with one that was cut off, keeps them, and the page says what they are worth."""
    code, out, err = told(capfd, "table=tiny", "jobs=2", "runs=seed0")
    assert code == 0, err
    monkeypatch.setattr(reproduce, "call", in_this_process)
    assert "0 of 2 runs are finished, 2 to go" in out
    assert "partial (1 of 2 runs)" in out

    cut = tmp_path / "outputs/reproduce/tiny/banded/2/seed0"
    whole = json.loads((cut / "results.json").read_text())
    unfinish(cut)
    code, out, err = told(capfd, "table=tiny")
    assert code == 0, err
    assert "1 of 4 runs are finished, 3 to go" in out
    assert "tiny/banded/2/seed0: goes on" in out
    assert "tiny/banded/2/seed1: starts" in out
    again = json.loads((cut / "results.json").read_text())
    for results in (whole, again):
        del results["provenance"]
    assert again == whole

    code, out, err = told(capfd, "table=tiny")
    assert (code, err) == (0, "")
    assert "4 of 4 runs are finished, 0 to go" in out
    assert "outside its band" in out
    assert "; 2 pairs)" in out

    assert told(capfd, "keep", "table=tiny")[0] == 0
    page = (tmp_path / "PAGE.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "\nold\n" not in page
    assert "- **without memory**: Ours (reference): `method=finetune" in page
    assert "Ours: `method=dytox`" in page
    assert re.search(
        r"\| DyTox \| 2 steps \| 99.00 / 98.00 \| 98 to 100 / 97 to 99 \| .* \| 2 of 2 \| \*\*outside", page
    )
    assert str(tmp_path) not in page + "".join(p.read_text() for p in (tmp_path / "kept").rglob("*.json"))
    assert told(capfd, "docs")[0] == 0
    assert (tmp_path / "PAGE.md").read_text() == page, "the page comes from what is kept alone"


def unfinish(folder: Path) -> None:
    """As if the run had been killed before its second task was done."""
    (folder / "checkpoints" / "task_001.pt").unlink()
    results = json.loads((folder / "results.json").read_text())
    results["tasks"].pop()
    (folder / "results.json").write_text(json.dumps(results))


def made(folder: Path, *accuracies: float, config: str = "") -> None:
    """Write what a run of two tasks leaves in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    task = [{"accuracy": {"e": {"r": one}}, "top5": {"e": {"r": one}}} for one in accuracies]
    protocol = {"evaluation": "e", "readout": "r", "tasks": [5, 5], "precision": "32-true"}
    (folder / "results.json").write_text(json.dumps({"protocol": protocol, "tasks": task, "provenance": {}}))
    (folder / "config.yaml").write_text(f"seed: 0\n{config}")


def test_a_run_that_fails_is_named_and_the_others_go_on(
    tiny: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "call", lambda command, console: 2 if "method=dytox" in command else 0)
    monkeypatch.setattr(reproduce.Runs, "read", lambda self, jobs: {})
    monkeypatch.setattr(reproduce.Runs, "told", lambda self, job: "done")
    code, out, err = told(capfd, "table=tiny", "runs=seed1")
    assert code == 1
    assert "tiny/banded/2/seed1: failed with exit code 2" in err
    assert "tiny/plain/2/seed1: done" in out
    assert err.splitlines()[-1] == err.splitlines()[0], "again behind the table"


def test_the_error_of_a_run_whose_output_is_in_a_file_is_told(
    tiny: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], console: Any) -> int:
        console.write("after task 1/2\nerror: it diverged\n")
        return 1

    monkeypatch.setattr(reproduce, "call", fails)
    code, _, err = told(capfd, "table=tiny", "runs=seed1", "rows=plain", "jobs=2")
    assert code == 1
    line = "tiny/plain/2/seed1: failed with exit code 1, see outputs/reproduce/tiny/plain/2/seed1: error: it diverged\n"
    assert err == 2 * line


def test_missing_data_are_one_error_before_the_first_run(
    tiny: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(reproduce, "call", lambda command, console: begun.append(command) or 0)
    code, out, err = told(capfd, "table=imagenet", "data.root=nowhere")
    assert (code, begun, err.count("\n")) == (2, [], 1)
    assert err.startswith(f"error: data.root={tmp_path}/nowhere")
    assert "starts" not in out


def test_a_part_of_a_table_is_shown_and_stored_results_are_mentioned(
    tiny: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for row, run in (("banded", "seed0"), ("banded", "seed1"), ("plain", "seed0")):
        made(tmp_path / f"outputs/reproduce/tiny/{row}/2/{run}", 0.99, 0.98)
    code, out, _ = told(capfd, "show", "table=tiny", "rows=banded", "runs=seed0")
    assert code == 0
    assert "DyTox" in out
    assert "without memory" not in out
    assert "1 of 2" in out
    assert "verified" not in out, "some of the runs verify nothing"
    assert "Why?" not in out, "the contrast needs both rows"
    assert "stored" not in out
    assert told(capfd, "keep", "table=tiny")[0] == 0
    out = told(capfd, "show", "table=tiny", "out=other")[1]
    assert out.endswith("\nThese are the runs in other. 3 stored results: PAGE.md\n")


def test_other_overrides_than_those_of_the_runs_are_refused(
    tiny: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "outputs/reproduce/tiny/banded/2/seed0"
    made(folder, 0.5, config="lr_scale: 3.0\n")
    code, _, err = told(capfd, "table=tiny", "rows=banded")
    assert code == 2
    assert err.count("\n") == 1
    assert "holds a run with lr_scale=3.0 (not 4.0): type the same overrides as then, or out=ANOTHER_FOLDER" in err


def kept(tmp_path: Path) -> float:
    stored = json.loads((tmp_path / "kept/tiny/banded/2/seed0.json").read_text())
    return float(stored["tasks"][-1]["accuracy"]["e"]["r"])


def test_a_good_result_is_not_replaced_by_a_worse_one(
    tiny: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, typed = tmp_path / "outputs/reproduce/tiny/banded/2/seed0", ("keep", "table=tiny")
    made(folder, 0.9, 0.8)
    assert told(capfd, *typed)[0] == 0
    for worse, why in (
        (((0.3, 0.2), "lr_scale: 3.0\n"), "it was made with lr_scale=3.0 (not 4.0), the stored one as the table says"),
        (((0.7,), ""), "1 of 2 tasks are done, the stored one is finished"),
    ):
        made(folder, *worse[0], config=worse[1])
        code, out, err = told(capfd, *typed)
        assert (code, kept(tmp_path)) == (1, 0.8)
        assert err == f"not kept tiny/banded/2/seed0: {why}; type force=true as well to replace it\n"
        assert "kept tiny" not in out
    assert told(capfd, *typed, "force=true")[0] == 0
    assert kept(tmp_path) == 0.7
    made(folder, 0.3, 0.2, config="lr_scale: 3.0\n")
    assert told(capfd, *typed, "force=true")[0] == 0
    made(folder, 0.4, 0.1, config="lr_scale: 3.0\n")
    assert told(capfd, *typed)[0] == 0, "one that deviates may take the place of another that does"
    assert kept(tmp_path) == 0.1
    made(folder, 0.9, 0.8)
    assert told(capfd, *typed)[0] == 0
    assert kept(tmp_path) == 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel"], "tabel is no command of this script: type one of run, show, keep, docs"),
        (["show", "cifar100"], "cifar100 cannot be read: type key=value"),
        (["table=cifar"], "table=cifar does not exist: type table= one of ablation"),
        (["table=cifar100", "rows=dytx"], "rows=dytx is not in table cifar100"),
        (["table=digits", "jobs=0"], "jobs=0 is not possible: type jobs=1 or more"),
        (["table=digits", "dry_run=yes"], "dry_run=yes is not possible"),
        (["table=cifar100", "row=dytox_global"], "row=dytox_global is no option of this script or of a run (did you"),
        (["table=cifar100", "row=dytox_global"], "(did you mean rows=?)"),
        (["tabel=cifar100"], "tabel=cifar100 is no option of this script or of a run (did you mean table=?)"),
        (["data.root=DIR"], "data.root=DIR says nothing without a table: type table=NAME as well"),
        (["rows=dytox"], "rows=dytox says nothing without a table"),
        (["show"], "show says nothing without a table"),
        (["keep"], "keep says nothing without a table"),
        (["docs", "table=digits"], "table=digits is not read by docs, only by run or show or keep: leave it out"),
        (["docs", "seed=1"], "docs is about all tables: leave out seed=1"),
        (["show", "table=digits", "jobs=2"], "jobs=2 is not read by show, only by run: leave it out"),
        (["keep", "table=digits", "dry_run=true"], "dry_run=true is not read by keep, only by run: leave it out"),
        (["table=digits", "force=true"], "force=true is not read by run, only by keep: leave it out"),
        (["keep", "table=digits", "seed=1"], "seed=1 is for runs, and keep makes none: leave it out"),
        (["table=digits", "run_dir=x"], "run_dir=x would be one folder for all runs: type out=DIR"),
        (["table=digits", "sed=1"], "sed is not an option (did you mean seed?)"),
        (["table=digits", "method=dytx"], "method=dytx does not exist (did you mean method=dytox?)"),
        (["table=digits", "lr_scale=fast"], "lr_scale=fast is not possible: type lr_scale= a number"),
        (["table=digits", "seed=0,1"], "seed=0,1 are several values: type one, which is given to every run"),
        (["table=cifar100", "rows=wa", "columns=joint"], "no run of table cifar100 is in all of the rows, columns"),
    ],
)
def test_wrong_commands_are_one_line(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capfd, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("typed", [["--help"], ["-h"], ["help"], ["show", "table=digits", "--help"]])
def test_the_usage_is_printed(typed: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert told(capfd, *typed) == (0, reproduce.__doc__, "")


def test_dry_run_prints_commands_that_can_be_typed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nothing has been run here
    code, out, _ = told(capfd, "table=digits", "rows=finetune", "runs=seed2", "trainer=cpu", "dry_run=true")
    assert code == 0
    expected = [
        sys.executable, "-m", "cl_lightning", "data=digits", "method=finetune", "memory=none", "seed=2", "trainer=cpu",
        "hydra.run.dir=outputs/reproduce/digits/finetune/5/seed2",
    ]  # fmt: skip
    assert out.split() == expected


def test_going_on_repeats_only_the_overrides_that_a_begun_run_may_be_given(tmp_path: Path) -> None:
    """The same command is typed again: what made the run is in the run, `resume=` would refuse it."""
    typed = ["table=digits", "rows=finetune", "runs=seed2", f"out={tmp_path}", "trainer=cpu", "report.page=false"]
    request = reproduce.parse([*typed, "trainer.precision=bf16-mixed", "epochs_scale=0.1"])
    runs = reproduce.Runs(request, tables.load_table("digits"))
    (job,) = runs.jobs
    assert runs.command(job)[-2:-1] == ["epochs_scale=0.1"]
    (runs.folder(job) / "checkpoints").mkdir(parents=True)
    (runs.folder(job) / "checkpoints" / "task_000.pt").touch()
    assert runs.command(job)[3:] == [f"resume={runs.folder(job)}", "trainer=cpu", "report.page=false"]
    (runs.folder(job) / "config.yaml").write_text("epochs_scale: 0.2\n")
    with pytest.raises(UserError, match="holds a run with epochs_scale=0.2"):
        runs.wanted()


def test_without_a_table_they_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capfd)
    assert code == 0
    assert all(f"table={name}" in out for name in tables.table_names())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "run"), [("dual_attention", "seed3"), ("cifar100", "order2"), ("meat_sequence", "seed4")]
)
def test_a_cell_is_composed_once_for_all_of_its_runs(name: str, run: str) -> None:
    jobs = [job for job in tables.load_table(name).jobs() if job.run == run][:2]
    assert jobs
    for job in jobs:
        assert reproduce.expected(job) == reproduce.asked(job, ())


def test_a_job_is_given_what_it_reads_and_a_request_that_nothing_reads_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table gives all of its rows a memory's size; the row without memory is run without it, as it was."""
    monkeypatch.chdir(tmp_path)
    typed = ["table=cifar20_contrasts", "rows=whole,no_memory", "runs=seed0", "dry_run=true"]
    code, out, _ = told(capfd, *typed, "method.finetuning.momentum=0.5", "method.finetuning.optimiser=sgd")
    assert code == 0
    whole, without = out.splitlines()
    for override in ("memory.size=400", "balanced_epochs_scale=1", "method.finetuning.momentum=0.5"):
        assert f" {override} " in whole
        assert f" {override} " not in without
    code, _, err = told(capfd, *typed, "data.test_share=0.5")
    assert code == 2
    assert "data.test_share=0.5 is read by none of the runs: type data=image_folder as well, or leave it out" in err
    made = reproduce.expected(tables.load_table("cifar20_contrasts").jobs(["no_memory"])[0])
    assert differences(made | {"memory.size": 0}, made) == [], "what nobody reads is no difference"


@pytest.mark.slow
def test_the_page_is_what_the_kept_results_give() -> None:
    """docs/REPRODUCIBILITY.md: type `python scripts/reproduce.py docs` if this fails."""
    text = reproduce.PAGE.read_text(encoding="utf-8")
    assert reproduce.with_blocks(text) == text


@pytest.mark.slow
@pytest.mark.parametrize("path", reproduce.COMPARED, ids=lambda path: path.name)
def test_the_comparison_is_what_the_kept_results_give(path: Path) -> None:
    """README.md: type `python scripts/reproduce.py docs` if this fails."""
    text = path.read_text(encoding="utf-8")
    assert reproduce.with_comparison(text) == text
