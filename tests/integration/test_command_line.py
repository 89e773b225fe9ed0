"""What a user sees for a wrong command: one line, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from cl_lightning.__main__ import main

WRONG = {
    "method=dytx": ["method=dytx", "did you mean method=dytox", "finetune"],
    "method.temprature=2": ["method.temprature", "did you mean method.temperature"],
    "seed=abc": ["seed=abc", "whole number"],
    "data=image_folder": ["data.root", "data.increment"],
    "batch.size=0": ["batch.size=0", "at least 1"],
    "memory.budget=all": ["memory.budget=all", "memory.budget=per_class"],
    "model.dim=64": ["model=auto has no options", "model=convit_tiny"],
    "+method.foo=3": ["method.foo", "leave out"],
    "trainer.devices=2": ["trainer.devices=2", "trainer.devices=1"],
    "method.sam.rho=3": ["method.sam is null"],
    "method=[": ["method=[", "cannot be read"],
    "model=resnet32": ["model=resnet32", "model=convit_tiny"],
}
"""Seen in the configuration alone."""

WRONG_WITH_DATA = {
    "data.increment=3": ["data.increment=3", "data.increment=1, 2, 5"],
    "data.initial=12": ["12", "10 classes"],
    "data.order=[0,1,2,3,3,5,6,7,8,9]": ["data.order", "3", "4"],
    "memory.size=7": ["memory.size=7", "memory.size=10"],
    "data.image_size=16": ["data.image_size=16", "data.image_size=8"],
    "recipe=erratum_2022_06 memory=none data.increment=1": ["would take no step", "recipe=clean"],
    "data=image_folder data.root=missing data.increment=2": ["data.root=missing"],
    "data.order=4": ["data.order=4", "identity", "seed:"],
    "model=timm model.name=swin_tiny_patch4_window7_224": ["model.name=swin_tiny", "vit_tiny_patch16_224"],
    "method=icarl memory=none": ["memory=total"],
}
"""Seen when the data are there, before anything is trained."""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return tmp_path


def complaint(arguments: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that the program prints for wrong arguments."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["cl_lightning", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capfd.readouterr().err
    assert ended.value.code == 2, told
    lines = [line for line in told.splitlines() if line.strip()]
    assert len(lines) == 1, told
    return lines[0]


@pytest.mark.parametrize("arguments", WRONG | WRONG_WITH_DATA)
def test_what_is_wrong_is_one_line(
    arguments: str, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = complaint(arguments, monkeypatch, capfd)
    for fragment in (WRONG | WRONG_WITH_DATA)[arguments]:
        assert fragment in line


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.slow
def test_a_process_ends_with_code_2_and_without_a_traceback(tmp_path: Path) -> None:
    for start in (
        [sys.executable, "-m", "cl_lightning"],
        [sys.executable, "-c", "from cl_lightning.__main__ import main; main()"],
    ):
        done = run([*start, "method=dytx"], tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert not done.stdout


@pytest.mark.slow
def test_help_names_the_choices_and_the_options(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "cl_lightning", "--help"], tmp_path)
    assert done.returncode == 0
    for fragment in ("data=cifar100_10steps", "dytox_plusplus", "erratum_2022_06", "epochs_scale"):
        assert fragment in done.stdout


@pytest.mark.slow
def test_the_configuration_can_be_printed(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "cl_lightning", "method=wa", "--cfg", "job"], tmp_path)
    assert done.returncode == 0
    assert "name: wa" in done.stdout
    assert not list(tmp_path.iterdir()), "printing a configuration must write nothing"
