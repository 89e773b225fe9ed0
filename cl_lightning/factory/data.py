"""From the configuration to data: the tasks of a run, its memory and the augmentation of its training images."""

from __future__ import annotations

import dataclasses

import torch

from cl_lightning.config.early_stopping import evaluates_share
from cl_lightning.config.option_names import MEMORY
from cl_lightning.config.schema import Config, DataConfig, SetConfig
from cl_lightning.core.errors import UserError, worded
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, RandAugment
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.added_task import extended_scenario
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory

_PUBLISHED_BRIGHTNESS = 63 / 255
"""Brightness jitter of the PODNet and DER code bases."""


def build_scenario(config: Config) -> Scenario:
    """Return the tasks of ``config.data``, and those that were added to a finished run."""
    if config.extends is not None:
        return extended_scenario(config)
    return dataset_scenario(config.data, evaluate_share=evaluates_share(config))


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
    """Return the augmentation and normalisation of training images."""
    data = config.data
    mean, std = (tuple(v) if v is not None else (0.5,) * scenario.channels for v in (data.mean, data.std))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != scenario.channels:
            raise UserError(
                f"data.{name}={list(values)} needs {scenario.channels} values, one a channel: type data.{name}=null"
            )
    if not data.sets:
        augmentation = _augmentation(data.augmentation, data.crop_padding, data.flip)
        return Pipeline(scenario.image_size, mean, std, augmentation, key)
    each = tuple(_augmentation_of(entry, data) for entry in data.sets)
    set_of_class = torch.tensor(scenario.set_of_class, dtype=torch.int64)  # empty where no data are at hand
    no_flip = torch.tensor([not entry.flip for entry in data.sets])[set_of_class]
    return Pipeline(scenario.image_size, mean, std, PerDataset(each, set_of_class), key, no_flip=no_flip)


def _augmentation_of(entry: SetConfig, data: DataConfig) -> Augmentation | None:
    """Return the augmentation of one of several sets; what it leaves open is as in ``data``."""
    padding = data.crop_padding if entry.crop_padding is None else entry.crop_padding
    return _augmentation(entry.augmentation or data.augmentation, padding, entry.flip)


def _augmentation(name: str, crop_padding: int, flip: bool) -> Augmentation | None:
    basic = Augmentation(crop_padding=crop_padding, flip=flip)
    return {
        "none": None,
        "basic": basic,
        "brightness": dataclasses.replace(basic, brightness=_PUBLISHED_BRIGHTNESS),
        "randaugment": dataclasses.replace(basic, randaugment=RandAugment()),
    }[name]
