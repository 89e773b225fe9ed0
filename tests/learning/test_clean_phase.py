"""A phase that sees its images as evaluation does, in a run that augments."""

from __future__ import annotations

import dataclasses

import torch

from cl_lightning.data.augmentation.pipeline import Augmentation
from cl_lightning.learning.engine import Engine
from tests.learning.a_phase import CLEAN, IMAGES, LIST, PHASE, TASKS, Bench, toy


def seen(bench: Bench, *, augmented: bool) -> torch.Tensor:
    """The images of the first epoch, in stored order."""
    method = toy(2)
    phase = dataclasses.replace(PHASE, sampling=LIST, epochs=1, augmented=augmented)
    bench.fit(method, TASKS[0], phase)
    return torch.cat([batch.images for batch in method.batches])


def test_a_clean_phase_sees_what_evaluation_sees(bench: Bench) -> None:
    pipeline = dataclasses.replace(CLEAN, augmentation=Augmentation(crop_padding=2, brightness=0.5))
    known = bench.engine
    bench.engine = Engine(known._scenario, pipeline, known._trainer, known.options, known.observers)
    images = IMAGES[TASKS[0].train]
    assert torch.equal(seen(bench, augmented=False), images)
    assert not torch.equal(seen(bench, augmented=True), images)
