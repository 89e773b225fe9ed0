"""The images that a run was evaluated on, read as it read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cl_lightning.config.schema import Config
from cl_lightning.core.cli import say
from cl_lightning.core.errors import InvalidFileError, InvalidSettingError, UserError
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource, FolderSource, ImageSource
from cl_lightning.data.sources.decoding import Scaling
from cl_lightning.deploy.evaluation import LabelledImages
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.preprocessing import scaling
from cl_lightning.factory.scenario import all_at_hand


def own_images(config: Config, model: TrainedModel) -> LabelledImages:
    """Return the test (or validation) images of the run's tasks that the model has learnt, in the order in which the
    run evaluates them. Nothing is downloaded.

    Raises:
        UserError: they are not at hand, or are those of other classes.
    """
    scenario = _scenario(config)
    if scenario.class_names[: len(model.class_names)] != model.class_names:
        raise UserError(f"data.root={config.data.root} holds other classes than {config.run_dir} has learnt: {_TYPE}")
    if model.trained_on not in (None, scenario.train.fingerprint):
        say(
            "the images there are not those that the run was trained on: some that it has learnt from may be among "
            "those that are evaluated"
        )
    rows = torch.cat([task.test for task in scenario.tasks[: len(model.task_sizes)]])
    if len(rows) == 0:
        raise UserError(f"no {scenario.evaluates_on} image of {config.run_dir} is at hand: {_TYPE}")
    names = [_name(scenario.test, row) for row in rows.tolist()]
    read = _reader(scenario, scaling(config.data))
    origin = f"{scenario.evaluates_on} images of {config.data.name}, the run's own"
    return LabelledImages(names, scenario.test_labels[rows], lambda number: read(int(rows[number])), origin)


_TYPE = "type a folder of pictures behind the run's, with one folder a class"


def _scenario(config: Config) -> Scenario:
    if config.extends is None and not all_at_hand(config.data):
        raise UserError(f"the images of {config.run_dir} are not at hand (data.root={config.data.root}): {_TYPE}")
    try:
        return build_scenario(config)
    except (UserError, InvalidFileError, InvalidSettingError, OSError) as error:
        reason = str(error).partition(": type ")[0]
        raise UserError(f"the images of {config.run_dir} cannot be used ({reason}): {_TYPE}") from error


def _reader(scenario: Scenario, way: Scaling) -> Callable[[int], Tensor]:
    source, size = scenario.test, scenario.read_size
    if isinstance(source, ArraySource):
        return lambda row: source.pixels[row]
    return lambda row: source.load_test(row, size, way)


def _name(source: ImageSource, row: int) -> Path:
    return source.root / source.paths[row] if isinstance(source, FolderSource) else Path(str(source.key(row)))
