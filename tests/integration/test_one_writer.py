"""A run's folder has one writer at a time, and what is written there stays there, whoever sent the folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cl_lightning.distributed.run_lock import only_writer
from tests.integration.commands import SHORT, outcome, typed

pytestmark = pytest.mark.slow

FAST = ["method=finetune", "model=resnet8", *(word for word in SHORT if not word.startswith("balanced"))]
PROGRAM = [sys.executable, "-m", "cl_lightning"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("one_writer") / "run"
    assert typed(*FAST, f"run_dir={run_dir}") == 0
    return run_dir


@pytest.fixture
def sent(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run that can be gone on with, as ``run`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ["run_dir=run"],
        ["hydra.run.dir=run"],
        ["run_dir=run", "if_exists=resume"],
        ["run_dir=run", "trainer=ddp_cpu", "batch.replicas=2"],
        ["resume=run"],
        ["-m", "hydra.sweep.dir=.", "hydra.sweep.subdir=run", "seed=1"],
    ],
    ids=" ".join,
)
def test_the_second_ends_at_once_and_touches_nothing(
    words: list[str], sent: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with only_writer(sent):
        before = contents(sent)
        assert typed(*words, *([] if words[0] == "resume=run" else [*FAST, "report.page=false"])) == 2
        assert contents(sent) == before
    told = capfd.readouterr().err
    assert f"error: run is being written by process {os.getpid()} on " in told
    assert told.count("\n") == 1, told


@pytest.mark.long
def test_the_first_goes_on_when_a_scheduler_has_started_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*FAST, "run_dir=run", "if_exists=resume", "trainer.stop_after_task=0", "epochs_scale=0.05", "-q"]
    with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.DEVNULL) as first:
        while not (tmp_path / "run" / ".lock").exists():
            assert first.poll() is None
            time.sleep(0.05)
        assert typed(*words) == 2
        assert f"run is being written by process {first.pid} on " in capfd.readouterr().err
        assert first.wait(200) == 0
    assert (tmp_path / "run" / "results.json").is_file()
    assert typed(*words) == 0, "it is there, and complete"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["trainer.workers=2"], marks=pytest.mark.long, id="workers"),
        pytest.param(["trainer=ddp_cpu", "batch.replicas=2"], marks=pytest.mark.slow, id="processes"),
    ],
)
def test_a_run_that_was_killed_is_resumed_at_once(words: list[str], tmp_path: Path) -> None:
    """Neither workers nor ranks that take a moment to notice keep the lock."""
    command = [*PROGRAM, *FAST, "run_dir=run", "epochs_scale=1", "trainer.checkpoint_steps=5", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("run/checkpoints/*.pt")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    # Only so far that it is seen to begin: the signal stops it, which it tells with a code of its own.
    with subprocess.Popen(
        [*PROGRAM, "resume=run"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as again:
        time.sleep(4)
        again.send_signal(signal.SIGTERM)
        _, told = again.communicate(timeout=120)
    assert "is being written by" not in told
    assert again.returncode in (75, 143, -signal.SIGTERM), told


LINKS = (".config.yaml.part", ".results.json.part", "config.yaml.part", "wandb_id")
LINKED_FILES = ("run.log", ".lock", ".hydra", "report", "checkpoints")


@pytest.mark.parametrize(
    "name",
    [
        *LINKED_FILES,
        *(pytest.param(name, marks=pytest.mark.slow) for name in LINKS),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("images.csv.gz", "metrics.csv", "accuracy_matrix.csv")
        ),
    ],
)
def test_a_run_that_was_sent_writes_to_no_other_place(
    name: str, sent: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A link in it, to a file or a folder of its receiver."""
    mine = tmp_path / "mine"
    if name in ("checkpoints", "report", ".hydra"):
        mine.mkdir()
        for path in sent.glob("checkpoints/*"):
            shutil.copy(path, mine)
    else:
        mine.write_text("the receiver's own")
    before = contents(tmp_path) if mine.is_file() else contents(mine)
    link = sent / name
    shutil.rmtree(link, ignore_errors=True)
    link.unlink(missing_ok=True)
    link.symlink_to(mine)
    if name == ".hydra":
        (sent / "results.json").unlink()
        shutil.rmtree(sent / "checkpoints")
        words = ["hydra.run.dir=run", *FAST, "report.page=false"]
    else:
        words = ["resume=run", "report.page=true"]
    code = typed(*words)
    assert code in (0, 1, 2)
    if mine.is_file():
        assert mine.read_text() == "the receiver's own"
    else:
        assert contents(mine) == before
    told = capfd.readouterr().err
    assert "Traceback" not in told
    if name in LINKED_FILES:
        assert code == 2, told
        assert f"run/{name} cannot be written (it is a link, and nothing is written through links)" in told


def test_a_folder_of_the_run_that_is_a_link_itself_is_allowed(sent: Path, tmp_path: Path) -> None:
    """It was typed by who goes on; a way to keep runs on a larger disk."""
    (tmp_path / "elsewhere").mkdir()
    shutil.move(sent, tmp_path / "elsewhere" / "run")
    sent.symlink_to(tmp_path / "elsewhere" / "run")
    (tmp_path / "elsewhere" / "run" / "results.json").unlink()
    assert typed("resume=run") == 0
    assert (tmp_path / "elsewhere" / "run" / "results.json").is_file()


def test_a_configuration_that_was_taken_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from cl_lightning.run import run_dir

    keep = run_dir.write_checkpoint

    def taken_away(folder: Path, *rest: object) -> Path:
        (tmp_path / "run" / "config.yaml").unlink(missing_ok=True)
        return keep(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run_dir, "write_checkpoint", taken_away)
    assert typed(*FAST, f"run_dir={tmp_path}/run") == 0
    assert "config.yaml was taken away, and is written again" in capfd.readouterr().err
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_a_clock_that_is_put_back_changes_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, calls = time.time(), iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: now - 3600.0 * next(calls))
    assert typed(*FAST, f"run_dir={tmp_path / 'run'}") == 0
    monkeypatch.undo()
    assert outcome(tmp_path / "run") == outcome(finished)
    provenance = json.loads((tmp_path / "run" / "results.json").read_text())["provenance"]
    assert 0 < provenance["seconds"] < 600


EDITS = {"seed: 0": "seed: 1", "- 0.3053": "- 0.4", "momentum: 0.9": "momentum: 0.8", "flip: false": "flip: true"}


@pytest.mark.parametrize("said", EDITS)
def test_an_edited_configuration_is_refused(said: str, sent: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = sent / "config.yaml"
    assert said in file.read_text()
    file.write_text(file.read_text().replace(said, EDITS[said], 1))
    for words in (["resume=run"], ["learn=run", f"data.new={sent}"]):
        assert typed(*words) == 2
        assert "as its config.yaml says now: put back what it said" in capfd.readouterr().err
