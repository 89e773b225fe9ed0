"""A phase that sees its images as evaluation does, in a run that augments."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from cl_lightning.data.augmentation.pipeline import Augmentation
from cl_lightning.learning.trainer import quieten_lightning
from tests.learning.a_phase import CLEAN, IMAGES, LIST, PHASE, TASKS, Bench, toy


def seen(bench: Bench, *, augmented: bool) -> torch.Tensor:
    """The images of the first epoch, in stored order."""
    method = toy(2)
    phase = dataclasses.replace(PHASE, sampling=LIST, epochs=1, augmented=augmented)
    bench.fit(method, TASKS[0], phase)
    return torch.cat([batch.images for batch in method.batches])


def test_a_clean_phase_sees_what_evaluation_sees(tmp_path: Path) -> None:
    quieten_lightning()
    augmentation = Augmentation(crop_padding=2, brightness=0.5)
    bench = Bench(tmp_path, pipeline=dataclasses.replace(CLEAN, augmentation=augmentation))
    images = IMAGES[TASKS[0].train]
    assert torch.equal(seen(bench, augmented=False), images)
    assert not torch.equal(seen(bench, augmented=True), images)
