"""Verification of an exported file against the run's own model, on real images where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from cl_lightning.config.option_names import DATA
from cl_lightning.config.schema import DataConfig
from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidFileError, InvalidSettingError, UnreadableImageError, UserError, worded
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.sources.datasets import ARRAY_CHANNELS, PUBLISHED, load_sources
from cl_lightning.data.sources.image_folder import evaluated_part, find_parts
from cl_lightning.deploy.formats import Scores
from cl_lightning.deploy.image_files import image_files
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.factory.scenario import all_at_hand, dataset_scenario

T = TypeVar("T")

TOLERANCE = 1e-4
"""Largest difference of two scores, relative to the largest score: float32 in another order of operations."""
_COUNT = 64
_SIZES = (1, 7)
"""Batch sizes tried besides one of all images: a graph traced with one size may fail with others."""


@dataclass(frozen=True)
class Sample:
    """The images to compare on."""

    images: Tensor
    """(n, channels, side, side) uint8."""
    origin: str
    """Description of where they are from."""


@dataclass(frozen=True)
class Comparison:
    """The difference of an exported file and the model."""

    difference: float
    """Largest difference of a score."""
    scale: float
    """Largest absolute score."""
    changed: int
    """Number of images with another predicted class."""

    @property
    def agrees(self) -> bool:
        """True if the file may be used; scores that are not numbers never agree."""
        return self.difference <= TOLERANCE * self.scale and self.changed == 0


def sample(model: TrainedModel, data: DataConfig, typed: Sequence[str]) -> Sample:
    """Return images that the user names; else evaluation images of ``data`` (the run's own), if available without a
    download; else random ones.
    """
    if typed:
        images = _read(model, _spread(image_files(typed, model.preprocessing.files)))
        if len(images) == 0:
            raise UserError(f"--images {' '.join(typed)}: none could be read as an image, type others or leave it out")
        return Sample(images, f"{len(images)} images of --images")
    with worded(DATA):
        return _of_data(model, data) or _random(model)


def compare(model: TrainedModel, readout: str, scores: Scores, images: Tensor) -> Comparison:
    """Compare the file with the model: all images in one batch, and in small ones. ``model`` is on the CPU."""
    normalised = model.preprocessing.normalised(images)
    with torch.inference_mode():
        live = model.predict(normalised)[readout]
    with torch.no_grad():
        pieces = [normalised, *(normalised[:size] for size in _SIZES)]
        exported = [scores(piece) for piece in pieces]
    differences = [(those - live[: len(those)]).abs().max() for those in exported]
    changed = (exported[0].argmax(dim=1) != live.argmax(dim=1)).sum()
    return Comparison(float(torch.stack(differences).max()), float(live.abs().max()), int(changed))


def _of_data(model: TrainedModel, data: DataConfig) -> Sample | None:
    if not all_at_hand(data):
        return None
    if data.sets or data.name in PUBLISHED:
        try:
            source = dataset_scenario(data).test
        except (UserError, OSError):  # the folder exists, not all that it should hold
            return None
        size = model.preprocessing.image_size
        images = torch.stack([source.load_test(row, size) for row in _spread(range(len(source)))])
        return Sample(images, f"{len(images)} images of {data.name}")
    if data.name not in ARRAY_CHANNELS:
        root = Path(data.root).expanduser()
        try:
            parts = find_parts(root, data.evaluate_on)
            folder = root / parts[evaluated_part(root, parts, data.evaluate_on)] if parts else root
            images = _read(model, _spread(image_files([str(folder)], model.preprocessing.files)))
        except (
            UserError,
            InvalidFileError,
            InvalidSettingError,
            OSError,
        ):  # the folder exists, its contents do not
            return None
        return Sample(images, f"{len(images)} images of {data.name}") if len(images) else None
    train, test = load_sources(data.name, data.root, with_test=not data.validation)
    array = test or train
    assert isinstance(array, ArraySource)
    images = array.pixels[_spread(range(len(array)))]
    return Sample(images, f"{len(images)} images of {array.name}")


def _random(model: TrainedModel) -> Sample:
    side, channels = model.preprocessing.image_size, model.preprocessing.channels
    draws = rng.uniform(rng.Key(0).fold("export"), torch.arange(_COUNT)[:, None], torch.arange(channels * side * side))
    pixels = (draws * 256).to(torch.uint8).view(_COUNT, channels, side, side)
    return Sample(
        pixels, f"{_COUNT} random images, because the run's data are not at hand (type --images for real ones)"
    )


def _read(model: TrainedModel, files: Sequence[Path]) -> Tensor:
    """Return the images of those files that can be read."""
    images = []
    for file in files:
        try:
            images.append(model.preprocessing.read(file))
        except UnreadableImageError:
            continue
    return torch.stack(images) if images else torch.empty(0)


def _spread(items: Sequence[T]) -> list[T]:
    """Return at most ``_COUNT`` of them, at equal distances."""
    step = max(1, len(items) // _COUNT)
    return list(items[::step][:_COUNT])
