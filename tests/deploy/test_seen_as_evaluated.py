"""A file is seen by ``predict`` as evaluation sees it, to the bit, whatever preprocessing a run has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import load_learnt
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.deploy.exported import DESCRIPTION, WEIGHTS, load_exported
from cl_lightning.deploy.own_images import own_images
from cl_lightning.deploy.run_model import open_run, preprocessing_of
from cl_lightning.export import main as export
from cl_lightning.factory.data import build_pipeline, build_scenario
from tests.deploy.runs import CNN, write_run
from tests.deploy.test_model import model
from tests.integration.commands import write_digits

pytestmark = pytest.mark.slow

OF_ARRAYS = [
    ["data.preprocess.size=20"],
    ["data.preprocess.size=20", "data.preprocess.resize=crop", "data.preprocess.interpolation=bilinear"],
    ["data.preprocess.size=6", "data.preprocess.normalise=none"],
    [],
]


def first_rows(scenario: Scenario) -> torch.Tensor:
    return torch.cat([task.test for task in scenario.tasks])[:12]


@pytest.mark.parametrize("options", OF_ARRAYS, ids=" ".join)
def test_a_file_of_the_size_of_stored_images(options: list[str], tmp_path: Path) -> None:
    write_run(tmp_path / "run", "method=wa", *CNN, *options)
    config, learnt = load_learnt(tmp_path / "run"), open_run(tmp_path / "run")
    scenario = build_scenario(config)
    assert isinstance(scenario.test, ArraySource)
    rows = first_rows(scenario)
    evaluated = dataclasses.replace(build_pipeline(config, scenario, Key(0)), augmentation=None)
    seen = evaluated.on_device(scenario.test.pixels[rows], torch.arange(len(rows)), 0)
    for row, image in zip(rows.tolist(), scenario.test.pixels[rows], strict=True):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{row}.png")
    read = torch.stack([learnt.preprocessing.read(tmp_path / f"{row}.png") for row in rows.tolist()])
    assert torch.equal(learnt.preprocessing.normalised(read), seen)
    assert seen.shape[-1] == config.data.preprocess.size == learnt.preprocessing.network_size
    found = own_images(config, model(class_names=scenario.class_names[:4], task_sizes=(2, 2)))
    assert torch.equal(torch.stack([found.read(number) for number in range(12)]), read), "so does evaluate"


@pytest.mark.parametrize(
    "options",
    [
        ["data.preprocess.size=12"],
        ["data.image_size=8", "data.preprocess.resize=whole", "data.preprocess.interpolation=bilinear"],
        ["data.image_size=8", "data.preprocess.crop_share=1"],
        ["data.image_size=8"],
    ],
    ids=" ".join,
)
def test_a_file_of_a_folder(options: list[str], tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits", each=6)
    for number, file in enumerate(sorted(root.rglob("*.png"))):  # oblong, or whole and cropped would be the same
        Image.open(file).resize((12 + number % 5, 16)).save(file)
    config = compose_typed(
        ["data=image_folder", f"data.root={root}", "data.increment=2", "method=wa", *CNN, "run_dir=run", *options]
    )
    scenario = build_scenario(config)
    preprocessing = preprocessing_of(config, scenario)
    found = own_images(config, model(class_names=scenario.class_names, task_sizes=(2, 2)))
    assert len(found.labels)
    for number, name in enumerate(found.names):
        assert torch.equal(preprocessing.read(name), found.read(number))
    assert found.read(0).shape[-1] == config.data.preprocess.size


def test_an_export_sees_as_its_run(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "method=wa", *CNN, "data.preprocess.size=20", "data.preprocess.resize=crop")
    assert (
        export([str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--formats", "safetensors", "torch_export"]) == 0
    )
    described = json.loads((tmp_path / "out" / DESCRIPTION).read_text())
    assert described["preprocessing"]["resize"] == {"size": 20, "short_side": 22, "interpolation": "bicubic"}
    assert described["graph"]["input"]["shape"] == ["batch", 1, 20, 20]
    assert (tmp_path / "out" / WEIGHTS).is_file()
    exported, live = load_exported(tmp_path / "out"), open_run(tmp_path / "run")
    assert exported.preprocessing == live.preprocessing
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(exported.scores(images, "linear"), live.scores(images, "linear"))
