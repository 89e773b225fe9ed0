"""A phase with noisy gradients and copies of images, through the real Trainer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.gradient_noise import GradientNoise
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Optimiser, Order, PhaseCheckpoint, Sampling
from cl_lightning.data.augmentation.pipeline import Augmentation
from cl_lightning.learning.engine import Fitted
from cl_lightning.learning.trainer import quieten_lightning
from cl_lightning.optim.optimiser import make_optimiser
from tests.learning.a_phase import CLEAN, IMAGES, PHASE, TASKS, Bench, Toy, flat, toy

NOISE = GradientNoise(0.3, 0.55, first_epoch=5)
NOISY = dataclasses.replace(PHASE, gradient_noise=NOISE, optimiser=Optimiser("sgd", 0.1, momentum=0.0))
BATCH = 16
VARIANTS = dataclasses.replace(CLEAN, augmentation=Augmentation(crop_padding=1, variants=True))


def test_a_step_s_noise_is_that_of_its_number_for_the_mean_over_its_images(bench: Bench) -> None:
    """Plain SGD: the difference of the first steps is the rate times the noise."""
    plain, noisy = toy(2), toy(2)
    bench.fit(plain, TASKS[0], PHASE)
    _, draws = bench.fit(noisy, TASKS[0], NOISY)
    key = Key(0).fold(0, "main").fold("gradient noise")
    numbers = len(plain.weights[0])
    expected = rng.normal(key, torch.tensor([0]), torch.arange(numbers)) * NOISE.deviation(0, draws.batch)
    found = (plain.weights[0] - noisy.weights[0]) / 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert draws.batch == 4


def test_noise_shrinks_with_the_epoch(bench: Bench) -> None:
    """Without a gradient of its own a network moves by the noise alone."""
    method = toy(2)
    method.broken = 0.0
    start = flat(method.network)
    _, draws = bench.fit(method, TASKS[0], NOISY)
    moves = torch.stack([start, *method.weights]).diff(dim=0) / 0.1
    for step, move in enumerate(moves):
        deviation = NOISE.deviation(step // draws.steps_per_epoch, 4)
        assert abs(move.std().item() / deviation - 1) < 0.1


def seen(method: Toy, fitted: Fitted) -> Tensor:
    """The images that were trained on, by epoch and in an order of their own."""
    images = torch.cat([batch.images for batch in method.batches]).view(PHASE.epochs, -1, 64)
    assert fitted.steps * BATCH == images.shape[0] * images.shape[1]
    return torch.stack([epoch[torch.argsort((epoch * torch.arange(64)).sum(1))] for epoch in images])


def test_fixed_copies_are_the_same_images_in_each_epoch(tmp_path: Path) -> None:
    quieten_lightning()
    variants = Bench(tmp_path, pipeline=VARIANTS)
    for fixed in (True, False):
        sampling = Sampling(Order.SHUFFLED, copies=12, fixed=fixed)
        method = toy(2)
        fitted, draws = variants.fit(method, TASKS[0], dataclasses.replace(PHASE, sampling=sampling), batch=BATCH)
        assert draws.steps_per_epoch * BATCH == 12 * len(TASKS[0].train)
        first, *others = seen(method, fitted)
        assert all(torch.equal(epoch, first) == fixed for epoch in others)
        clean = IMAGES[TASKS[0].train].flatten(1)
        for image in clean:
            assert (first == image).all(1).sum() >= 2, "the image itself is among its variants, here twice"


def test_a_phase_that_is_resumed_has_the_same_noise_and_the_same_copies(tmp_path: Path) -> None:
    phase = dataclasses.replace(NOISY, sampling=Sampling(Order.SHUFFLED, copies=12, fixed=True))
    quieten_lightning()
    variants = Bench(tmp_path, pipeline=VARIANTS)
    whole = toy(2)
    _, draws = variants.fit(whole, TASKS[0], phase, batch=BATCH)
    done = draws.steps_per_epoch + 5
    rest = toy(2)
    parameters = list(rest.network.parameters())
    for parameter, value in zip(
        parameters, whole.weights[done - 1].split([p.numel() for p in parameters]), strict=True
    ):
        parameter.data.copy_(value.view_as(parameter))
    state = make_optimiser(phase.optimiser, parameters, 0.1).state_dict()
    variants.fit(rest, TASKS[0], phase, checkpoint=PhaseCheckpoint(done, state, {}), batch=BATCH)
    assert len(rest.weights) == draws.total_steps - done
    assert torch.equal(rest.weights[-1], whole.weights[-1])
    assert torch.equal(rest.batches[0].images, whole.batches[done].images)
