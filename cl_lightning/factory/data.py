"""From the configuration to data: the tasks of a run, its memory and the augmentation of its training images."""

from __future__ import annotations

import dataclasses

import torch

from cl_lightning.config.early_stopping import evaluates_share
from cl_lightning.config.option_names import MEMORY
from cl_lightning.config.schema import Config, DataConfig, SetConfig
from cl_lightning.core.errors import worded
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, RandAugment
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.added_task import extended_scenario
from cl_lightning.factory.preprocessing import as_seen, mean_and_std, read_size, resizing, scaling
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory

_PUBLISHED_BRIGHTNESS = 63 / 255
"""Brightness jitter of the PODNet and DER code bases."""
_PUBLISHED_ROTATION = 10.0
"""Degrees of RPS-Net's recipe."""


def build_scenario(config: Config) -> Scenario:
    """Return the tasks of ``config.data``, and those that were added to a finished run, as the network sees them."""
    if config.extends is not None:
        scenario = extended_scenario(config)
    else:
        scenario = dataset_scenario(config.data, evaluate_share=evaluates_share(config))
    return as_seen(scenario, config.data)


def build_memory(config: Config) -> RehearsalMemory:
    """Return an empty memory."""
    memory = config.memory
    with worded(MEMORY):
        return RehearsalMemory(Budget(memory.budget, memory.size), memory.scope, config.batch.replicas)


def flips(config: Config) -> bool:
    """Return whether training mirrors any images."""
    data = config.data
    return any(entry.flip for entry in data.sets) if data.sets else data.flip


def build_pipeline(config: Config, scenario: Scenario, key: Key) -> Pipeline:
    """Return the augmentation, resizing and normalisation of training images."""
    data = config.data
    mean, std = mean_and_std(data, scenario.channels)
    clean = Pipeline(read_size(data), mean, std, None, key, scaling=scaling(data), resize=resizing(data))
    if not data.sets:
        augmentation = _augmentation(data.augmentation, data.crop_padding, data.flip, data.cutout)
        return dataclasses.replace(clean, augmentation=augmentation)
    each = tuple(_augmentation_of(entry, data) for entry in data.sets)
    set_of_class = torch.tensor(scenario.set_of_class, dtype=torch.int64)  # empty where no data are at hand
    no_flip = torch.tensor([not entry.flip for entry in data.sets])[set_of_class]
    return dataclasses.replace(clean, augmentation=PerDataset(each, set_of_class), no_flip=no_flip)


def _augmentation_of(entry: SetConfig, data: DataConfig) -> Augmentation | None:
    """Return the augmentation of one of several sets; what it leaves open is as in ``data``."""
    padding = data.crop_padding if entry.crop_padding is None else entry.crop_padding
    cutout = data.cutout if entry.cutout is None else entry.cutout
    return _augmentation(entry.augmentation or data.augmentation, padding, entry.flip, cutout)


def _augmentation(name: str, crop_padding: int, flip: bool, cutout: int) -> Augmentation | None:
    basic = Augmentation(crop_padding=crop_padding, flip=flip, cutout=cutout)
    return {
        "none": None,
        "basic": basic,
        "brightness": dataclasses.replace(basic, brightness=_PUBLISHED_BRIGHTNESS),
        "rotation": dataclasses.replace(basic, rotation=_PUBLISHED_ROTATION),
        "randaugment": dataclasses.replace(basic, randaugment=RandAugment()),
        "variants": dataclasses.replace(basic, variants=True),
    }[name]
