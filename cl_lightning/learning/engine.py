"""Everything that a plan item needs of Lightning, with no method, memory or file in it: fit a phase, map a function
over images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cl_lightning.data.draws import Draws
from cl_lightning.data.loading import Chunks, Images, Pipeline, PixelStore
from cl_lightning.data.module import TaskData
from cl_lightning.data.scenario import Scenario
from cl_lightning.learning.callbacks import Monitor
from cl_lightning.learning.display import Display
from cl_lightning.learning.learner import Learner, Length
from cl_lightning.learning.loggers import Curves
from cl_lightning.learning.probe import Probe
from cl_lightning.learning.trainer import TrainerOptions, interruptible, make_trainer
from cl_lightning.methods.base import Method
from cl_lightning.models.network import Network
from cl_lightning.rng import Key
from cl_lightning.types import Embed, Phase, Task


@dataclass(frozen=True)
class Fitted:
    """What a phase took."""

    steps: int
    images: int
    seconds: float


class Engine:
    """Runs networks over the images of one scenario."""

    def __init__(
        self,
        scenario: Scenario,
        pipeline: Pipeline,
        options: TrainerOptions,
        *,
        workers: int,
        evaluation_batch: int,
        log_every: int,
        display: Display,
        curves: Curves,
    ) -> None:
        self._scenario = scenario
        self._pipeline = pipeline
        self._clean = replace(pipeline, augmentation=None)
        self._options = options
        self._workers = workers
        self._evaluation_batch = evaluation_batch
        self._log_every = log_every
        self._display = display
        self._curves = curves
        self._train_pixels = PixelStore(scenario.train)
        self._test_pixels = self._train_pixels if scenario.test is scenario.train else PixelStore(scenario.test)

    def fit(self, method: Method, task: Task, phase: Phase, draws: Draws, key: Key) -> Fitted:
        """Train ``method`` for all steps of ``phase``; ``key`` names the phase's random stream."""
        images_per_step = draws.batch * draws.replicas
        length = Length(draws.steps_per_epoch, phase.epochs, images_per_step)
        learner = Learner(method, task, phase, length, draws.replicas, key)
        data = TaskData(
            self._scenario.train,
            self._scenario.train_labels,
            draws,
            replace(self._pipeline, key=key),
            self._train_pixels,
            workers=self._workers,
        )
        trainer = make_trainer(self._options, [Monitor(self._display, self._curves, self._log_every)])
        started = time.monotonic()
        with interruptible(trainer):
            trainer.fit(learner, datamodule=data)
        assert learner.steps_done == draws.total_steps, "a phase must take all its steps"
        return Fitted(learner.steps_done, draws.images, time.monotonic() - started)

    def embed(
        self, network: Network, rows: Tensor, embed: Embed, *, flip: bool = False, key: Key | None = None
    ) -> Tensor:
        """Embeddings (n, F) float32, on the CPU, of training images; augmented as in training if a ``key`` is given."""
        pipeline = replace(self._clean, flip=flip) if key is None else replace(self._pipeline, key=key, flip=flip)
        data = TaskData(
            self._scenario.train,
            self._scenario.train_labels,
            Chunks(rows, self._evaluation_batch),
            pipeline,
            self._train_pixels,
            workers=self._workers,
        )
        parts = self._map(network, data, lambda images: embed(images.images).float().cpu(), precision="32-true")
        return torch.cat(parts).clone()

    def map_test(self, network: Network, rows: Tensor, function: Callable[[Images], Any]) -> list[Any]:
        """``function`` of each batch of clean evaluation images, in order, each image once."""
        data = TaskData(
            self._scenario.test,
            self._scenario.test_labels,
            Chunks(rows, self._evaluation_batch),
            self._clean,
            self._test_pixels,
            workers=self._workers,
        )
        return self._map(network, data, function)

    def _map(
        self, network: Network, data: TaskData, function: Callable[[Images], Any], precision: str | None = None
    ) -> list[Any]:
        found: list[Any] = []
        probe = Probe(network, lambda images: found.append(function(images)))
        trainer = make_trainer(self._options, precision=precision)
        with interruptible(trainer):
            trainer.predict(probe, datamodule=data, return_predictions=False)
        return found


class DataLook:
    """What a method may see of data between phases (``types.Look``)."""

    def __init__(
        self, engine: Engine, network: Network, scenario: Scenario, exemplars: dict[int, Tensor], flips: bool
    ) -> None:
        self._engine = engine
        self._network = network
        self._scenario = scenario
        self.exemplars = exemplars
        self.flips = flips

    def rows_of(self, label: int) -> Tensor:
        """Training rows of a class of the current task."""
        return self._scenario.class_rows(label)

    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        """Clean training images, embedded; (n, F) float32 on the CPU."""
        return self._engine.embed(self._network, rows, embed, flip=flip)
