"""Small phases through the real Trainer, and what is seen of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Batch,
    Optimiser,
    Order,
    Outputs,
    Phase,
    PhaseCheckpoint,
    PlanItem,
    Progress,
    Sampling,
    Schedule,
    Task,
    View,
)
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.learning.display import Display, PhaseSpan
from cl_lightning.learning.engine import Engine, EngineOptions, Fitted, Judges, Observers
from cl_lightning.learning.loggers import Curves
from cl_lightning.learning.trainer import TrainerOptions
from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network

SIZES = (2, 1, 2)
A_CLASS = 12
LABELS = torch.arange(5 * A_CLASS) % 5
PIXELS = rng.integers(Key(0), torch.arange(60 * 64), 256).to(torch.uint8).view(60, 1, 8, 8)
SOURCE = ArraySource("toy", PIXELS, LABELS, tuple("abcde"))
CLEAN = Pipeline(8, (0.5,), (0.5,), None)
IMAGES = CLEAN.on_device(PIXELS, torch.arange(60), 0)
CONVIT = {"kind": "convit", "image_size": 8, "channels": 1, "patch_size": 4, "dim": 8, "num_heads": 2, "depth": 1}
PARTS = ("backbone", "classifier")
PHASE = Phase("main", View.NEW, 3, Optimiser("sgd", 0.1, momentum=0.0), Schedule("constant"), PARTS)
LIST = Sampling(Order.SEQUENTIAL)


def tasks() -> tuple[Task, ...]:
    made, start = [], 0
    for index, size in enumerate(SIZES):
        classes = tuple(range(start, start + size))
        rows = torch.cat([torch.nonzero(torch.eq(LABELS, label)).flatten() for label in classes])
        made.append(Task(index, classes, tuple(map(str, classes)), rows, rows))
        start += size
    return tuple(made)


TASKS = tasks()


class Toy(Method):
    """Softmax classification that remembers what it was shown."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.batches: list[Batch] = []
        self.scales: list[Tensor | None] = []
        self.training: list[bool] = []
        self.progress: list[Progress] = []
        self.weights: list[Tensor] = []
        self.broken = 1.0

    def plan(self, task: Task) -> list[PlanItem]:
        raise AssertionError("nobody asks")

    def outputs(self, phase: Phase, images: Tensor, scales: Tensor | None) -> Outputs:
        self.scales.append(scales)
        self.training.append(self.network.training)
        return super().outputs(phase, images, scales)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        self.batches.append(batch)
        return {"classification": self.broken * cross_entropy(outputs.logits, batch.targets, batch.weights)}

    def after_step(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.weights.append(flat(self.network))


def flat(network: Network) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def toy(*sizes: int, drop_path: float = 0.0, resnet: bool = False) -> Toy:
    encoder = {**CONVIT, "drop_path": drop_path}
    backbone = (
        {"kind": "cifar_resnet", "depth": 8, "channels": 1} if resnet else {"kind": "class_token", "encoder": encoder}
    )
    structure = {"kind": "embedding_network", "backbone": backbone, "bias": True, "classes": list(sizes)}
    return Toy(build_network(structure, Key(0)))


class Record(Curves):
    """Curves that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[dict[str, float]] = []

    def log(self, scalars: dict[str, float], step: int) -> None:  # type: ignore[override]
        self.points.append({**scalars, "step": step})


class Bench:
    """An engine over the images above."""

    def __init__(
        self,
        folder: Path,
        *,
        on_gpu: bool = False,
        half: bool = False,
        trunks: TrunkCompiler | None = None,
        callbacks: Sequence[Callback] = (),
        set_aside: Tensor | None = None,
        pipeline: Pipeline = CLEAN,
    ) -> None:
        source = SOURCE
        scenario = Scenario("toy", source, source, TASKS, tuple("abcde"), tuple(range(5)), LABELS, LABELS, 8, 1, "test")
        if set_aside is not None:
            labels = torch.where(torch.isin(torch.arange(len(LABELS)), set_aside), LABELS, -1)
            scenario = dataclasses.replace(scenario, validation=source, validation_labels=labels)
        self.curves, self.display = Record(), Display([], len(TASKS), "none")
        precision = "bf16-mixed" if on_gpu or half else "32-true"
        options = TrainerOptions("gpu" if on_gpu else "cpu", precision, deterministic=False, run_dir=folder)
        self.engine = Engine(
            scenario,
            pipeline,
            options,
            EngineOptions(workers=0, evaluation_batch=7, log_every=1, trunks=trunks or TrunkCompiler(False)),
            Observers(self.display, self.curves, NoCheckpoints(), tuple(callbacks)),
        )

    def fit(
        self,
        method: Method,
        task: Task,
        phase: Phase,
        rows: list[Tensor] | None = None,
        batch: int = 4,
        seed: int = 0,
        class_weights: Tensor | None = None,
        checkpoint: PhaseCheckpoint | None = None,
        judges: Judges | None = None,
    ) -> tuple[Fitted, PhaseSampler]:
        """Train on the task's images, or on ``rows`` of each replica."""
        key = Key(seed).fold(task.index, phase.name)
        draws = PhaseSampler(rows or [task.train], phase.sampling, phase.epochs, batch, key)
        self.display.start(PhaseSpan(task.index, 1, phase.name, phase.epochs, draws.steps_per_epoch, 0))
        fitted = self.engine.fit(method, task, phase, draws, key, checkpoint, class_weights, judges)
        self.display.finish()
        return fitted, draws
