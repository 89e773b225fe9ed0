"""From the configuration to preprocessing: what happens to a clean image between its source and the network."""

from __future__ import annotations

import dataclasses

from cl_lightning.config.schema import DataConfig
from cl_lightning.core.errors import UserError
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.decoding import USUAL, Scaling
from cl_lightning.factory.scenario import only_arrays


def as_seen(scenario: Scenario, data: DataConfig) -> Scenario:
    """Return the scenario with the size at which its network sees the images, and that at which they are read."""
    size, stored = data.preprocess.size, read_size(data)
    return dataclasses.replace(scenario, image_size=size, stored_size=None if stored == size else stored)


def read_size(data: DataConfig) -> int:
    """Return the side at which images are read and augmented: their own of arrays, the network's of files."""
    return data.image_size if only_arrays(data) else data.preprocess.size


def scaling(data: DataConfig) -> Scaling:
    """Return the way in which images that are read one by one become squares; arrays are stored in one way whatever
    the network sees.
    """
    return USUAL if only_arrays(data) else _given(data)


def _given(data: DataConfig) -> Scaling:
    given = data.preprocess
    return Scaling(given.resize == "whole", given.crop_share, given.interpolation)


def resizing(data: DataConfig) -> Resize:
    """Return the resizing of images in batches; those of the network's size stay as they are."""
    given = data.preprocess
    short = given.size if given.resize == "whole" else _given(data).short_side(given.size)
    return Resize(given.size, short, given.interpolation)


def mean_and_std(data: DataConfig, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation of each channel by which images are normalised.

    Weights that were trained on colours have one for each: grey images take the mean of the three. Raises ``UserError``
    for another number of values.
    """
    if data.preprocess.normalise == "none":
        return (0.0,) * channels, (1.0,) * channels
    given = {name: tuple(values or (0.5,) * channels) for name, values in (("mean", data.mean), ("std", data.std))}
    if data.preprocess.normalise == "weights" and channels == 1:
        given = {name: (sum(values) / len(values),) for name, values in given.items()}
    for name, values in given.items():
        if len(values) != channels:
            raise UserError(f"data.{name}={list(values)} needs {channels} values, one a channel: type data.{name}=null")
    return given["mean"], given["std"]
