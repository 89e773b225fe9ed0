"""Short runs of every method become numbers that can be compared, here and of an older commit."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from cl_lightning.config.compose import compose_typed
from scripts.fingerprint import __main__ as program
from scripts.fingerprint.checkouts import commit_of, resolved, worktree
from scripts.fingerprint.ledger import read_ledger
from scripts.fingerprint.making import Ended, make_ledger
from scripts.fingerprint.numbers import read_run, totals
from scripts.fingerprint.settings import GROUPS, Group, chosen, names

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = (Group(("dytox", "wa"), ("data=digits", "seed=0")), Group(("dytox",), ("data=digits",), suffix="-twice"))


def silent(line: str) -> None:
    """Nobody listens."""


def test_every_method_is_run() -> None:
    methods = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
    assert {name for name in names(GROUPS) if name in methods} == methods
    assert len(set(names(GROUPS))) == len(names(GROUPS))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name(group.methods[0]))
def test_settings_are_possible_for_each_method_alone(group: Group) -> None:
    for method in group.methods:
        config = compose_typed(["run_dir=none", f"method={method}", *group.overrides])
        trainer = config.trainer
        assert (trainer.accelerator, trainer.threads, trainer.log_every) == ("cpu", 1, 1)
        assert (trainer.precision, trainer.devices, config.logger.csv) == ("32-true", 1, True)


def test_parts_are_chosen_and_overrides_replaced() -> None:
    assert chosen(TINY, ("wa",), ["seed=3"]) == [Group(("wa",), ("data=digits", "seed=3"))]
    assert chosen(TINY, ("dytox-twice",)) == [TINY[1]]
    with pytest.raises(ValueError, match="--only lfl is no run: type --only with some of dytox,wa,dytox-twice"):
        chosen(TINY, ("lfl",))


def test_totals_do_not_depend_on_names_but_on_every_number() -> None:
    one, other = torch.tensor([3.0, -4.0]), torch.ones(2, 2)
    assert totals([one, other]) == {"count": 6, "sum": 3.0, "norm": pytest.approx(29**0.5)}
    assert totals([other, one]) == totals([one, other])
    assert totals([one * (1 + 1e-7), other]) != totals([one, other])


class Fake:
    """Stands for ``python -m cl_lightning``: leaves small files of runs, whose one loss is a number of the checkout."""

    def __init__(self, dies: Sequence[str] = (), fails: Sequence[str] = (), commit: str | None = None) -> None:
        self.commands: list[list[str]] = []
        self.folders: list[Path] = []
        self._dies, self._fails, self._commit = dies, fails, commit

    def __call__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ended:
        self.commands.append(list(command))
        self.folders.append(folder)
        assert environment["PYTHONPATH"] == str(folder)
        typed = dict(part.split("=", 1) for part in command[4:])
        for method in typed["method"].split(","):
            if method in self._dies:
                return Ended(139, "it crashed")
            if method not in self._fails:
                self._leave(Path(typed["hydra.sweep.dir"].strip("'")) / method, folder)
        return Ended(1 if self._fails else 0, "error: no such option")

    def _leave(self, place: Path, checkout: Path) -> None:
        number = (checkout / "number").read_text() if (checkout / "number").exists() else "0.5"
        (place / "checkpoints").mkdir(parents=True)
        provenance = {
            "commit": self._commit or commit_of(checkout),
            "phases": [{"task": 0, "phase": "main", "steps": 1}],
        }
        (place / "results.json").write_text(json.dumps({"provenance": provenance}))
        (place / "metrics.csv").write_text(f"epoch,loss/total,step,task,task/index\n0,{number},1,0,\n,,1,,0\n")
        (place / "accuracy_matrix.csv").write_text(
            "protocol,readout,after_task,eval_task,hits,total,accuracy\nclass_incremental,linear,0,0,3,4,0.75\n"
        )
        payload = {"memory": {"lists": [{0: [5, 2]}]}, "network": {"weights": {"w": torch.ones(4)}}, "extra": {}}
        torch.save(payload, place / "checkpoints" / "task_010.pt")
        for earlier in ("task_009.pt", "task_010_item_03.pt"):
            torch.save({}, place / "checkpoints" / earlier)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of two commits: in the older the number is 0.25, in the newer 0.5."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=N", "-c", "user.email=E"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for number in ("0.25", "0.5"):
        (folder / "number").write_text(number)
        (folder / "pyproject.toml").write_text(f'[project]\nversion = "{number}"\n')
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", number], check=True)
    return folder


def test_a_group_is_one_process_in_the_checkout(checkout: Path) -> None:
    fake = Fake()
    ledger = make_ledger(checkout, TINY, silent, fake)
    assert [command[1:5] for command in fake.commands] == [
        ["-m", "cl_lightning", "-m", "method=dytox,wa"],
        ["-m", "cl_lightning", "-m", "method=dytox"],
    ]
    assert fake.folders == [checkout, checkout]
    assert list(ledger.runs) == ["dytox", "wa", "dytox-twice"]
    assert ledger.package == {"version": "0.5", "commit": resolved(checkout, "HEAD")}
    run = ledger.runs["wa"]
    assert (run.steps, run.curves, run.exemplars) == ([1], {"loss/total": [0.5]}, [{"0": [5, 2]}])
    assert run.matrices == {"class_incremental linear": [[(3, 4)]]}
    assert run.weights == {"network": {"count": 4, "sum": 4.0, "norm": 2.0}}


def test_groups_side_by_side_give_the_same(checkout: Path) -> None:
    one, two = (make_ledger(checkout, TINY, silent, Fake(), jobs) for jobs in (1, 2))
    assert list(one.runs.items()) == list(two.runs.items())


def test_a_method_that_crashes_takes_no_other_along(checkout: Path) -> None:
    told: list[str] = []
    ledger = make_ledger(checkout, TINY, told.append, Fake(dies=["dytox"]))
    assert {name: run.failed for name, run in ledger.runs.items()} == {
        "dytox": "exit code 139 and no results.json",
        "wa": None,
        "dytox-twice": "exit code 139 and no results.json",
    }
    assert any("dytox failed, exit code 139" in line and "it crashed" in line for line in told)


def test_what_ctrl_c_ends_is_not_tried_again(checkout: Path) -> None:
    commands: list[str] = []
    begun = Event()

    def call(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ended:
        commands.append(command[4])
        if command[4] == "method=dytox":
            assert begun.wait(20)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.5)  # a process that was told to end, too, and left no results
        return Ended(130, "")

    with pytest.raises(KeyboardInterrupt):
        make_ledger(checkout, TINY[::-1], silent, call, jobs=2)
    assert sorted(commands) == ["method=dytox", "method=dytox,wa"]


def test_files_that_cannot_be_read_are_a_failure_with_a_name_and_no_path(checkout: Path, tmp_path: Path) -> None:
    class Torn(Fake):
        def _leave(self, place: Path, checkout: Path) -> None:
            super()._leave(place, checkout)
            if place.name == "wa":
                (place / "metrics.csv").unlink()
            else:
                torch.save({"network": {}}, place / "checkpoints" / "task_010.pt")

    runs = make_ledger(checkout, TINY[:1], silent, Torn()).runs
    assert runs["wa"].failed == "metrics.csv cannot be read: No such file or directory"
    assert runs["dytox"].failed == "its files cannot be read: KeyError 'memory'"


def test_another_package_than_the_checkouts_is_noticed(checkout: Path) -> None:
    with pytest.raises(ValueError, match="the package that ran is of commit 123456789abc, not "):
        make_ledger(checkout, TINY, silent, Fake(commit="123456789abc"))


def run(arguments: Sequence[str], call: Fake) -> int:
    return program.main(arguments, TINY, call)


def test_an_older_commit_is_made_beside_it_and_taken_away(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "ROOT", checkout)
    monkeypatch.chdir(tmp_path)
    fake = Fake()
    here = ["--checkout", str(checkout)]
    assert run([*here, "--against", "HEAD~1", "--only", "wa"], fake) == 1
    out = capsys.readouterr().out
    old = resolved(checkout, "HEAD~1")
    assert f"older: 0.25, commit {old}; newer: 0.5, commit {resolved(checkout, 'HEAD')}" in out
    assert "DIFFERENT: wa\n  losses     up to 0.25 (loss/total at step 1 (task 1, main))" in out
    assert out.endswith("1 of 1 runs differ\n")
    assert not fake.folders[0].exists()
    worktrees = subprocess.run(["git", "-C", str(checkout), "worktree", "list"], capture_output=True, text=True)
    assert worktrees.stdout.count("\n") == 1
    assert read_ledger(tmp_path / f"fingerprint-{old}.json").runs["wa"].curves == {"loss/total": [0.25]}
    assert read_ledger(tmp_path / "fingerprint-now.json").runs["wa"].curves == {"loss/total": [0.5]}
    assert run([*here, "--against", "HEAD", "seed=3"], fake) == 0
    out = capsys.readouterr().out
    assert "not run alike, wa: seed=0 -> seed=3" in out, "what was typed is a change that is tried out"
    assert out.endswith("no difference in 3 runs\n")


def test_a_worktree_goes_when_its_block_fails(checkout: Path) -> None:
    seen: list[Path] = []

    def stopped() -> None:
        with worktree(checkout, "HEAD") as folder:
            seen.append(folder)
            assert (folder / "number").is_file()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not seen[0].exists()


def test_what_was_written_before_is_compared_and_not_replaced(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    here = ["--checkout", str(checkout)]
    assert run(here, Fake()) == 0
    assert run([*here, "--compare", "fingerprint.json"], Fake()) == 0
    before = Path("fingerprint.json").read_bytes()
    (checkout / "number").write_text("0.75")
    assert run([*here, "--compare", "fingerprint.json"], Fake()) == 1
    assert run([*here, "--compare", "fingerprint.json", "--out", "fingerprint.json"], Fake()) == 2
    assert "would be replaced by what it is compared with" in capsys.readouterr().err
    assert Path("fingerprint.json").read_bytes() == before
    assert run([*here, "--out", "other.json"], Fake(fails=["wa"])) == 1
    assert Path("other.json").is_file()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--against", "nowhere"], "nowhere is no commit of this repository: type AGAINST=HEAD, or a hash or branch"),
        (["--only", "lfl"], "--only lfl is no run"),
        (["--compare", "missing.json"], "missing.json: No such file or directory"),
        (["--compare", "a", "--against", "b"], "not allowed with argument"),
        (["--jobs", "0"], "0 is not a whole number, 1 or more"),
        (["--twice"], "type python -m scripts.fingerprint --help"),
    ],
)
def test_wrong_input_is_a_line(
    typed: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = Fake()
    assert run(typed, fake) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err
    assert not fake.commands


def in_this_process(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ended:
    """Return what the command does, without the seconds that a process takes to import everything."""
    from cl_lightning.__main__ import main

    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(command[2:]))
        try:
            main()
        except SystemExit as ended:
            return Ended(int(ended.code or 0), "")
    return Ended(0, "")


REAL = (
    Group(
        ("dytox", "wa"),
        (
            "data=digits", "data.classes=4", "data.increment=2", "seed=0", "epochs_scale=0.002",
            "batch.size=96", "trainer=cpu", "trainer.threads=1", "trainer.progress=none",
            "trainer.log_every=1", "logger=csv", "verbose=0",
        ),
    ),
)  # fmt: skip


@pytest.mark.long
def test_real_runs_repeat_alone_and_beside_others_and_a_planted_change_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def make(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return program.main([*arguments, "--jobs", "1"], REAL, in_this_process), capsys.readouterr().out

    assert make("--out", "before.json")[0] == 0
    ledger = read_ledger(tmp_path / "before.json")
    dytox, wa = ledger.runs["dytox"], ledger.runs["wa"]
    assert [(task, phase) for task, phase, _ in dytox.phases] == [(0, "main"), (1, "main"), (1, "finetuning")]
    assert dytox.steps == list(range(1, sum(steps for *_, steps in dytox.phases) + 1))
    assert {"loss/classification", "loss/distillation", "loss/divergence", "loss/total", "lr"} == dytox.curves.keys()
    assert [sorted(kept) for kept in dytox.exemplars] == [["0", "1", "2", "3"]]
    assert [len(row) for row in dytox.matrices["class_incremental linear"]] == [1, 2]
    assert wa.weights["network"]["count"] > 10_000
    text = (tmp_path / "before.json").read_text()
    assert str(tmp_path) not in text
    assert str(ROOT) not in text
    assert platform.node() not in text

    code, out = make("--compare", "before.json", "--only", "wa")
    assert (code, out.splitlines()[-1]) == (0, "no difference in 1 runs"), out

    code, out = make("--compare", "before.json", "--only", "wa", "method.temperature=2.1")
    assert code == 1
    assert "not run alike, wa: nothing -> method.temperature=2.1" in out
    assert "DIFFERENT: wa\n  losses     up to " in out
    first = wa.place(wa.phases[0][2] + 1)
    assert f"first at {first}: loss/distillation" in out, "there is no teacher before the second task"
    assert "\n  weights    sum of network " in out
    assert "rates" not in out
    assert out.endswith("1 of 1 runs differ\n")


def test_a_checkpoint_is_read_without_running_code(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit",))

    Fake()._leave(tmp_path / "run", tmp_path)
    assert read_run(tmp_path / "run", []).failed is None
    torch.save({"memory": Code()}, tmp_path / "run" / "checkpoints" / "task_010.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        read_run(tmp_path / "run", [])
