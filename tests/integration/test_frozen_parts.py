"""Runs whose checkpoints refer to parts: resumed, taught more, bundled, asked, copied, and without a part."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.checkpoint import parts
from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint, save_whole
from cl_lightning.deploy.run_model import open_run
from cl_lightning.models.weights_file import read_weights
from tests.integration.commands import outcome, typed, write_digits

pytestmark = pytest.mark.slow

DER = ["method=der", "model=resnet8", "data=digits", "data.increment=2", "data.classes=6", "epochs_scale=0.005",
       "balanced_epochs_scale=0.02", "trainer.progress=none", "logger=none"]  # fmt: skip


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALLEST_PART", 1000)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as small:
        small.setattr(parts, "SMALLEST_PART", 1000)
        assert typed(*DER, f"run_dir={run_dir}") == 0
    return run_dir


def last(run_dir: Path) -> Path:
    return list_checkpoints(run_dir / "checkpoints")[-1]


def part_files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "checkpoints" / "parts").glob("*.pt"))


def weights(path: Path) -> dict[str, Any]:
    return {name: value.tolist() for name, value in load_checkpoint(path)["network"]["weights"].items()}


@pytest.mark.long
def test_one_file_for_each_earlier_task_and_the_numbers_of_a_run_without(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = torch.load(last(finished), weights_only=True)
    assert sorted(on_disk["network"]["parts"].values()) == [file.stem for file in part_files(finished)]
    assert len(part_files(finished)) == 2
    monkeypatch.setattr(parts, "SMALLEST_PART", 1 << 40)
    assert typed(*DER, f"run_dir={tmp_path / 'whole'}") == 0
    assert not (tmp_path / "whole" / "checkpoints" / "parts").exists()
    made, whole = outcome(finished), outcome(tmp_path / "whole")
    for result in (made, whole):
        del result["results"]["costs"]
    assert made == whole


@pytest.mark.long
def test_a_run_in_two_parts_is_the_run_in_one(finished: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "two"
    assert typed(*DER, f"run_dir={run_dir}", "trainer.stop_after_task=1") == 0
    written = {file.name: file.stat().st_mtime_ns for file in part_files(run_dir)}
    assert len(written) == 1
    assert typed(f"resume={run_dir}") == 0
    made, whole = outcome(run_dir), outcome(finished)
    for result in (made, whole):
        del result["results"]["costs"]
    assert made == whole
    now = {file.name: file.stat().st_mtime_ns for file in part_files(run_dir)}
    assert written.items() <= now.items(), "nothing was written again"


@pytest.mark.long
def test_a_run_in_the_format_of_before_goes_on_and_refers_from_then_on(finished: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "old"
    assert typed(*DER, f"run_dir={run_dir}", "trainer.stop_after_task=1") == 0
    for path in list_checkpoints(run_dir / "checkpoints"):
        save_whole(path, load_checkpoint(path))
    shutil.rmtree(run_dir / "checkpoints" / "parts")
    assert typed(f"resume={run_dir}") == 0
    assert weights(last(run_dir)) == weights(last(finished))
    assert [file.name for file in part_files(run_dir)] == [file.name for file in part_files(finished)]


@pytest.mark.long
def test_a_torn_part_leads_back_to_a_checkpoint_without_it(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest part is needed since the last task began, not at the end of the task before."""
    run_dir = tmp_path / "torn"
    shutil.copytree(finished, run_dir)
    end_before = run_dir / "checkpoints" / "task_001.pt"
    assert typed(*DER, f"run_dir={tmp_path / 'short'}", "trainer.stop_after_task=1") == 0
    shutil.copy(last(tmp_path / "short"), end_before)
    (new,) = set(part_files(run_dir)) - {run_dir / "checkpoints/parts" / f.name for f in part_files(tmp_path / "short")}
    new.write_bytes(new.read_bytes()[:-9])
    assert typed(f"resume={run_dir}") == 0
    assert f"its part {new.name}" in (run_dir / "run.log").read_text()
    assert weights(last(run_dir)) == weights(last(finished))


def test_without_its_parts_nothing_is_begun_anew(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "without"
    shutil.copytree(finished, run_dir, ignore=shutil.ignore_patterns("parts"))
    before = {path.name: path.read_bytes() for path in list_checkpoints(run_dir / "checkpoints")}
    assert typed(f"resume={run_dir}") == 2
    told = capfd.readouterr().err.splitlines()[-1]
    assert "is missing or altered, and no checkpoint can be used without it" in told
    assert f"{run_dir}/checkpoints/parts/" in told
    assert {path.name: path.read_bytes() for path in list_checkpoints(run_dir / "checkpoints")} == before


def test_a_copied_run_predicts_and_gives_its_weights(finished: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "copy"
    shutil.copytree(finished, run_dir)
    own = open_run(finished).network.state_dict()
    copied = open_run(run_dir).network.state_dict()
    assert all(torch.equal(copied[name], own[name]) for name in own)
    read = read_weights(last(run_dir))
    assert read.keys() == own.keys()
    assert all(torch.equal(read[name], own[name]) for name in own)
    part_files(run_dir)[0].unlink()
    with pytest.raises(ValueError, match=f"is missing: put it into {run_dir}/checkpoints/parts"):
        read_weights(last(run_dir))


@pytest.mark.long
def test_it_is_taught_more_from_its_folder_and_from_a_bundle(finished: Path, tmp_path: Path) -> None:
    file, sent = tmp_path / "run.clbundle", tmp_path / "sent"
    assert bundle(["export", str(finished), str(file)]) == 0
    assert bundle(["import", str(file), str(sent)]) == 0
    assert weights(last(sent)) == weights(last(finished))
    assert not part_files(sent), "a bundle is one file, and its checkpoint too"
    write_digits(tmp_path / "digits")
    folder = tmp_path / "more"
    for label in (2, 3):  # under other names than those that are known
        shutil.copytree(tmp_path / "digits" / str(label), folder / f"like_{label}")
    for before, after in ((finished, "a"), (sent, "b")):
        assert typed(f"learn={before}", f"data.new={folder}", f"run_dir={tmp_path / after}") == 0
        assert len(part_files(tmp_path / after)) == 3
    assert weights(last(tmp_path / "a")) == weights(last(tmp_path / "b"))
