"""Runs that were never trained: networks as they are drawn, kept by the program's own writer in the time of a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.checkpoint.state import Cursor, RunState
from cl_lightning.config.compose import compose_typed
from cl_lightning.core import rng
from cl_lightning.core.records import TaskRecord
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import normalise
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.factory.data import build_memory
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.base import Method
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.run.run_dir import RunDirectory

TRANSFORMER = ("model=convit_tiny", "model.dim=16", "model.depth=1", "model.patch_size=4")
CNN = ("model=resnet8",)
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NOTHING: Any = None  # growth of these methods looks at no data


def write_run(run_dir: Path, *overrides: str, finished: int = 2, within: bool = False) -> Method:
    """A run on images of the digits' shape in five tasks of two classes, kept after ``finished`` of them, or
    ``within`` the next one; returns its method.
    """
    config = compose_typed([f"run_dir={run_dir}", "data=digits", *overrides])
    scenario = without_images("digits", NAMES, [2] * 5, config.data.image_size, 1)
    method = build_method(config, scenario, Key(0))
    state = RunState(build_memory(config))
    run_dir.mkdir(parents=True)
    writer = RunDirectory(config, scenario, method, run_dir)
    writer.start()
    for task in scenario.tasks[:finished]:
        method.grow(task, Key(1).fold(task.index), NOTHING)
        _settle(method, task.num_seen)
        state.records.append(TaskRecord(task.index, task.classes, task.names, 1.0, 1.0, 1))
    rows = [[[1, 1, 2]] * (after + 1) for after in range(finished)]
    state.matrices = {method.protocol: {name: AccuracyMatrix.from_plain(rows) for name in method.readouts()}}
    if finished:
        writer.save_checkpoint(state)
    if within:
        method.grow(scenario.tasks[finished], Key(2), NOTHING)
        state.cursor = Cursor(items=1)
        writer.save_checkpoint(state)
    method.network.eval()
    return method


def _settle(method: Method, classes: int) -> None:
    """Class means, where the method has some, and scores that differ enough to be told apart."""
    with rng.torch_seeded(Key(3)):
        if hasattr(method, "class_means"):
            method.class_means = F.normalize(torch.randn(classes, method.class_means.shape[1]), dim=-1)
        for name, parameter in method.network.named_parameters():
            if "head" in name or "classifier" in name:
                parameter.data.normal_()


def pictures(count: int, side: int = 8) -> Tensor:
    """(count, 1, side, side) uint8, all different."""
    draws = rng.uniform(Key(4), torch.arange(count)[:, None], torch.arange(side * side))
    return (draws * 256).to(torch.uint8).view(count, 1, side, side)


def save_pictures(folder: Path, images: Tensor) -> list[Path]:
    """As PNG files, named by number."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{index:03d}.png" for index in range(len(images))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image[0].numpy()).save(file)
    return files


def live_scores(method: Method, images: Tensor, readout: str) -> Tensor:
    """What evaluation makes of digits."""
    with torch.inference_mode():
        return method.predict(normalise(images, (0.3053,), (0.376,)))[readout]


__all__ = ["CNN", "NAMES", "TRANSFORMER", "live_scores", "pictures", "save_pictures", "write_run"]
