"""The same global batches give the same weights on one, two and four processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.core.gradient_noise import GradientNoise
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Batch,
    Mixing,
    Optimiser,
    Outputs,
    Phase,
    Sampling,
    Sharpness,
    Task,
)
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.distributed.process_group import SINGLE_PROCESS, ProcessGroup, process_group
from cl_lightning.learning.display import Display, PhaseSpan
from cl_lightning.learning.engine import Engine, EngineOptions, Observers
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from tests.integration.distributed.forked import in_processes
from tests.learning.a_phase import CLEAN, LABELS, PHASE, PIXELS, TASKS, Record, Toy, flat, toy

REPLICAS = 4
ROWS = [TASKS[0].train[start::4][:5].repeat(4) for start in range(4)]
"""Twenty images for each replica: 20 steps of one image each, or 5 steps of four."""


class Double(Toy):
    """In double precision, so that what differs is not rounding."""

    def outputs(self, phase: Phase, images: Tensor, scales: Tensor | None) -> Outputs:
        return super().outputs(phase, images.double(), scales)

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images.double())

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return super().predict(images.double())

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        return {"classification": -(batch.targets * outputs.logits.log_softmax(-1)).sum(-1).mean()}


class Coupled(Double):
    """A loss that compares the images of a batch with each other."""

    couples_batch = True

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        embeddings = outputs.features.embeddings[:, 0]
        spread = 0.3 * torch.cdist(embeddings, embeddings).max()
        return {**super().losses(task, phase, batch, outputs), "spread": spread}


def trained(processes: ProcessGroup, folder: Path, phase: Phase, kind: str) -> dict[str, Any]:
    """Weights, running statistics and curves after the phase."""
    source = ArraySource("toy", PIXELS, LABELS, tuple("abcde"))
    scenario = Scenario("toy", source, source, TASKS, tuple("abcde"), tuple(range(5)), LABELS, LABELS, 8, 1, "test")
    curves, display = Record(), Display([], len(TASKS), "none")
    options = TrainerOptions("cpu", "64-true", deterministic=False, run_dir=folder, processes=processes)
    engine = Engine(scenario, CLEAN, options, EngineOptions(0, 7, 3), Observers(display, curves, NoCheckpoints()))
    network = toy(2, drop_path=0.2, resnet=kind == "resnet").network
    method = Coupled(network) if kind == "coupled" else Double(network)
    draws = PhaseSampler(ROWS, phase.sampling, phase.epochs, 5, Key(0))
    display.start(PhaseSpan(0, 1, phase.name, phase.epochs, draws.steps_per_epoch, 0))
    fitted = engine.fit(method, TASKS[0], phase, draws, Key(0))
    rows = torch.arange(23)
    looks = engine.embed(method.network, rows, method.embed)
    groups = engine.map_groups(method.network, [rows[:9], rows[9:11], rows[11:]], method.embed, lambda f: f.sum(0))
    own: list[list[int]] = []
    engine.visit_test(method.network, rows, lambda images: own.append(images.rows.tolist()))
    seen = processes.gather_shares(own)
    buffers = [b.float().flatten() for b in method.network.buffers()]
    return {
        "steps": fitted.steps,
        "images": fitted.images,
        "weights": flat(method.network),
        "buffers": torch.cat(buffers) if buffers else torch.zeros(0),
        "points": curves.points,
        "looks": looks,
        "groups": torch.stack(groups),
        "seen": seen,
    }


PHASES = {
    "plain": (PHASE, "transformer"),
    "mixing and sharpness": (
        dataclasses.replace(PHASE, mixing=Mixing(0.8), sharpness=Sharpness(0.5), optimiser=Optimiser("adamw", 1e-3)),
        "transformer",
    ),
    "batch norm": (dataclasses.replace(PHASE, optimiser=Optimiser("sgd", 0.05, momentum=0.9)), "resnet"),
    "coupled": (PHASE, "coupled"),
    "clamped gradients": (dataclasses.replace(PHASE, gradient_clamp=1e-3), "transformer"),
    "noisy gradients, decay by the norm, copies": (
        dataclasses.replace(
            PHASE,
            gradient_noise=GradientNoise(0.3, 0.55),
            optimiser=Optimiser("sgd", 0.05, weight_decay=1e-3, decay_by_norm=True),
            sampling=Sampling(copies=2, fixed=True),
        ),
        "transformer",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PHASES)
def test_one_two_and_four_processes_take_the_same_steps(case: str, tmp_path: Path) -> None:
    phase, kind = PHASES[case]
    phase = dataclasses.replace(phase, epochs=20)

    def work(rank: int, world: int) -> dict[str, Any]:
        quieten_lightning()
        if world == 1:
            return trained(SINGLE_PROCESS, tmp_path, phase, kind)
        with process_group(rank, world, rank, world, "cpu") as processes:
            return trained(processes, tmp_path, phase, kind)

    (alone,) = in_processes(1, work)
    assert alone["steps"] >= 20
    for world in (2, 4):
        together = in_processes(world, work)
        for one in together:
            assert (one["steps"], one["images"]) == (alone["steps"], alone["images"])
            assert torch.equal(one["weights"], together[0]["weights"]), "processes must not drift apart"
            assert torch.equal(one["buffers"], together[0]["buffers"])
            assert (one["weights"] - alone["weights"]).abs().max() < 1e-10
            torch.testing.assert_close(one["buffers"], alone["buffers"], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one["looks"], alone["looks"], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(one["groups"], alone["groups"], atol=1e-3, rtol=1e-4)
            assert one["seen"] == alone["seen"], "each image once, in order"
        points = together[0]["points"]
        assert [p["step"] for p in points] == [p["step"] for p in alone["points"]]
        for mine, theirs in zip(points, alone["points"], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)


def test_a_step_that_is_spoilt_on_one_process_is_applied_on_none(tmp_path: Path) -> None:
    def work(rank: int, world: int) -> tuple[str, Tensor]:
        quieten_lightning()
        method = toy(2)
        with process_group(rank, world, rank, world, "cpu") as processes:
            if rank == 1:
                method.broken = float("inf")
            before = flat(method.network)
            options = TrainerOptions("cpu", "32-true", deterministic=False, run_dir=tmp_path, processes=processes)
            source = ArraySource("toy", PIXELS, LABELS, tuple("abcde"))
            scenario = Scenario(
                "toy", source, source, TASKS, tuple("abcde"), tuple(range(5)), LABELS, LABELS, 8, 1, "test"
            )
            display = Display([], 1, "none")
            engine = Engine(
                scenario, CLEAN, options, EngineOptions(0, 7, 50), Observers(display, Record(), NoCheckpoints())
            )
            display.start(PhaseSpan(0, 1, "main", 3, 5, 0))
            draws = PhaseSampler(ROWS, PHASE.sampling, 3, 5, Key(0))
            try:
                engine.fit(method, TASKS[0], PHASE, draws, Key(0))
            except FloatingPointError as error:
                return str(error), flat(method.network) - before
        raise AssertionError("nothing was noticed")

    told = in_processes(2, work)
    assert "the gradient is nan" in told[0][0]
    assert "classification loss is inf at task 1, phase main, step 1" in told[1][0]
    for _, moved in told:
        assert moved.abs().max() == 0
