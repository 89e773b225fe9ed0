"""The images that a run was evaluated on: as it read them, and refused where they are others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from cl_lightning.config.compose import compose_typed
from cl_lightning.core.errors import UserError
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.own_images import own_images
from cl_lightning.factory.data import build_scenario
from tests.deploy.test_model import model
from tests.integration.commands import write_digits

pytestmark = pytest.mark.slow

DIGITS = tuple(map(str, range(10)))


def learnt(names: tuple[str, ...], sizes: tuple[int, ...]) -> TrainedModel:
    return model(class_names=names, task_sizes=sizes)


def test_of_an_array_the_images_of_the_tasks_learnt_in_the_order_of_the_run() -> None:
    config = compose_typed(["data=digits", "data.order=[9,8,7,6,5,4,3,2,1,0]", "run_dir=run"])
    found = own_images(config, learnt(DIGITS[:5:-1], (2, 2)))
    scenario = build_scenario(config)
    rows = torch.cat([task.test for task in scenario.tasks[:2]])
    assert found.labels.tolist() == scenario.test_labels[rows].tolist()
    assert torch.equal(found.read(7), scenario.test.load_test(int(rows[7]), 8))
    assert found.origin == "test images of digits, the run's own"


def test_of_a_folder_the_files_are_named(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits")
    config = compose_typed(
        [
            "data=image_folder",
            f"data.root={root}",
            "data.image_size=8",
            "data.increment=2",
            "method=icarl",
            "model=resnet8",
            "run_dir=run",
        ]
    )
    found = own_images(config, learnt(DIGITS[:4], (2, 2)))
    assert len(found.labels) == 8
    assert found.read(0).shape == (3, 8, 8)
    assert all(name.is_file() for name in found.names)


def test_images_that_were_not_trained_on_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    config = compose_typed(["data=digits", "run_dir=run"])
    same = dataclasses.replace(learnt(DIGITS, (2,) * 5), trained_on=build_scenario(config).train.fingerprint)
    own_images(config, same)
    assert capsys.readouterr().err == ""
    own_images(config, dataclasses.replace(same, trained_on="other"))
    assert "the images there are not those that the run was trained on" in capsys.readouterr().err


def test_what_is_not_there_is_said_with_what_to_type(tmp_path: Path) -> None:
    typed = "type a folder of pictures behind the run's, with one folder a class$"
    gone = compose_typed(
        ["data=image_folder", f"data.root={write_digits(tmp_path / 'digits')}", "data.increment=2", "run_dir=run"]
    )
    gone.data.root = str(tmp_path / "gone")
    with pytest.raises(UserError, match=rf"the images of .*run are not at hand \(data.root=.*gone\): {typed}"):
        own_images(gone, learnt(DIGITS[:4], (2, 2)))
    with pytest.raises(UserError, match=f"holds other classes than .*run has learnt: {typed}"):
        own_images(compose_typed(["data=digits", "run_dir=run"]), learnt(("cat", "dog"), (2,)))
