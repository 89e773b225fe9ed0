"""What a user sees for a wrong command: one line, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
    "method=[": ["method"],
    "model=resnet32": ["model=resnet32", "model=convit_tiny"],
}
"""Seen in the configuration alone."""

WRONG_WITH_DATA = {
    "data.increment=3": ["data.increment=3", "data.increment=1, 2, 5"],
    "data.initial=12": ["12", "10 classes"],
    "data.order=[0,1,2,3,3,5,6,7,8,9]": ["data.order", "3", "4"],
    "memory.size=7": ["memory.size=7", "memory.size=10"],
    "data.image_size=16": ["data.image_size=16", "data.image_size=8"],
    "recipe=erratum_2022_06 memory=none": ["would take no step", "recipe=clean"],
    "data=image_folder data.root=missing data.increment=2": ["data.root=missing"],
    "data=cifar100_10steps data.order=4": ["data.order=4", "1"],
    "model=timm model.name=swin_tiny_patch4_window7_224": ["model.name=swin_tiny", "vit_tiny_patch16_224"],
    "method=icarl memory=none": ["memory=total"],
}
"""Seen when the data are there, before anything is trained."""


def run(arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cl_lightning", *arguments.split()]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=250, check=False)


def expect_one_line(done: subprocess.CompletedProcess[str], fragments: list[str]) -> None:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    for fragment in fragments:
        assert fragment in lines[0], lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_configuration_is_one_line(arguments: str, tmp_path: Path) -> None:
    expect_one_line(run(arguments, tmp_path), WRONG[arguments])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", WRONG_WITH_DATA)
def test_wrong_for_the_data_is_one_line(arguments: str, tmp_path: Path) -> None:
    if "cifar" in arguments:
        (tmp_path / "data").mkdir()
    expect_one_line(run(arguments, tmp_path), WRONG_WITH_DATA[arguments])


def test_help_names_the_choices_and_the_options(tmp_path: Path) -> None:
    done = run("--help", tmp_path)
    assert done.returncode == 0
    for fragment in ("data=cifar100_10steps", "dytox_plusplus", "erratum_2022_06", "epochs_scale"):
        assert fragment in done.stdout


def test_the_configuration_can_be_printed(tmp_path: Path) -> None:
    done = run("method=wa --cfg job", tmp_path)
    assert done.returncode == 0
    assert "name: wa" in done.stdout
    assert not list(tmp_path.iterdir()), "printing a configuration must write nothing"
