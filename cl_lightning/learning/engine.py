"""All uses of Lightning by the items of a plan, without method, memory or file: fit a phase, map a function over
images, each shared among the processes of the run.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from cl_lightning.core.errors import LostWorkerError
from cl_lightning.core.quantities import bytes_text
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Embed, Phase, PhaseCheckpoint, Task
from cl_lightning.data.datamodule import TaskData
from cl_lightning.data.loading import Chunks, Images, Pipeline
from cl_lightning.data.phase_views import without
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.data.workers import reason_of_end
from cl_lightning.learning.callbacks import CheckpointCallback, CheckpointHook, ProgressCallback
from cl_lightning.learning.display import Display
from cl_lightning.learning.early_stopping import EarlyStopping, check_kept
from cl_lightning.learning.feature_files import FeatureFiles
from cl_lightning.learning.feature_module import FeatureModule, evaluation_mode_restored
from cl_lightning.learning.feature_store import FeatureStore, is_as_in_evaluation, vectors_of
from cl_lightning.learning.finite_check import ScoresCheck
from cl_lightning.learning.inputs import ImageInputs, Inputs, images_of
from cl_lightning.learning.lightning_module import Learner, PhaseLength
from cl_lightning.learning.loggers import Curves
from cl_lightning.learning.stopping_rule import StoppingRule, StoppingState
from cl_lightning.learning.trainer import TrainerOptions, interruptible, make_trainer
from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.methods.base import Method
from cl_lightning.models.network import Network

T = TypeVar("T")

log = logging.getLogger(__name__)
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Fitted:
    """Cost of a fitted phase."""

    steps: int
    images: int
    """Images since the phase was last resumed; ``seconds`` counts from there too."""
    seconds: float
    stopping: StoppingState | None = None
    """Checks of early stopping; None where the phase could not end early."""


@dataclass(frozen=True)
class Judges:
    """Images that decide when a phase ends early."""

    rule: StoppingRule
    rows: Tensor
    """(n,) int64 rows of ``Scenario.validation``, at least one."""


@dataclass(frozen=True)
class Observers:
    """Observers of what an engine does."""

    display: Display
    curves: Curves
    leaving: CheckpointHook
    callbacks: tuple[Callback, ...] = ()
    """Further observers of the steps of every phase; each sees a step before the run may stop there."""


@dataclass(frozen=True)
class EngineOptions:
    """Options of loading images and taking steps: none changes a number beyond rounding."""

    workers: int
    evaluation_batch: int
    log_every: int
    """Steps between two points of the curves."""
    trunks: TrunkCompiler = field(default_factory=lambda: TrunkCompiler(False))
    cuda_graphs: bool = True
    features_limit: int = 0
    """Largest size in bytes of what a frozen trunk has made of a source's images, which then pass it once; 0: they pass
    it each time.
    """
    feature_files: FeatureFiles | None = None
    """Files of such features; None: they are kept in memory alone."""


class Engine:
    """Training and evaluation of networks on the images of one scenario."""

    def __init__(
        self,
        scenario: Scenario,
        pipeline: Pipeline,
        trainer: TrainerOptions,
        options: EngineOptions,
        observers: Observers,
    ) -> None:
        self.observers = observers
        """Those who follow the training; a caller may report more to them."""
        self._scenario = scenario
        self._pipeline = pipeline
        self._trainer = trainer
        self.options = options
        self.images = images_of(scenario, pipeline)
        """Images of each part of the scenario: ``train``, ``test``, perhaps ``validation``."""
        self._features = FeatureStore()

    @property
    def precision(self) -> str:
        """Precision in which phases are trained."""
        return self._trainer.precision

    def fit(
        self,
        method: Method,
        task: Task,
        phase: Phase,
        draws: PhaseSampler,
        key: Key,
        checkpoint: PhaseCheckpoint | None = None,
        class_weights: Tensor | None = None,
        judges: Judges | None = None,
    ) -> Fitted:
        """Train ``method`` for all steps of ``phase``, or for the rest after ``checkpoint``; ``key`` names the phase's
        random stream, ``class_weights`` (C,) weigh each image by its class. With ``judges`` it may end early, and the
        network is the best one at the end of an epoch.
        """
        processes = self._trainer.processes
        images_per_step = draws.batch * draws.replicas
        length = PhaseLength(draws.steps_per_epoch, phase.epochs, images_per_step, draws.images // phase.epochs)
        before = 0 if checkpoint is None else checkpoint.steps
        learner = Learner(
            method, task, phase, length, draws.replicas, key,
            processes=processes, resume_from=checkpoint, point_every=self.options.log_every,
            cuda_graphs=self.options.cuda_graphs, class_weights=class_weights,
        )  # fmt: skip
        inputs = self._training_inputs(learner, phase, torch.cat(list(draws.rows)).unique())
        pipeline = self._pipeline if phase.augmented and inputs is self.images["train"] else inputs.clean
        data = inputs.data(
            draws.of(learner.replicas),
            pipeline=pipeline.of_phase(key, phase.sampling),
            workers=self.options.workers,
            wanted=range(before, draws.total_steps),
            scales=learner.scales,
        )
        look_on = self.observers
        monitor = ProgressCallback(look_on.display, look_on.curves, processes)
        stoppers = [] if judges is None else [self._early_stopping(learner, judges)]
        callbacks = [monitor, *look_on.callbacks, *stoppers, CheckpointCallback(look_on.leaving)]
        trainer = make_trainer(self._trainer, callbacks)
        started = time.monotonic()
        networks = [method.network] if method.teacher is None else [method.network, method.teacher]
        compiled = self.options.trunks.compiled(networks, draws.batch * len(learner.replicas))
        with interruptible(trainer), _worker_errors_reported(), compiled, closing(learner):
            trainer.fit(learner, datamodule=data)
        stopping = learner.stopping
        if stopping is None:
            assert learner.steps_done == draws.total_steps, "a phase must take all its steps"
        else:
            method.network.load_state_dict(stopping.weights, strict=False)  # what is settled is not among them
        self._check_answers(method, learner, draws.rows[0][: self.options.evaluation_batch])
        images = draws.images * (learner.steps_done - before) // draws.total_steps
        return Fitted(learner.steps_done, images, time.monotonic() - started, stopping)

    def _early_stopping(self, learner: Learner, judges: Judges) -> EarlyStopping:
        """Return the callback that ends the learner's phase early."""
        processes = self._trainer.processes
        chunks = Chunks.of(judges.rows, self.options.evaluation_batch)
        inputs = self._inputs(learner.network, "validation", judges.rows)
        data = inputs.data(chunks, workers=self.options.workers, wanted=processes.share(chunks.total_steps))
        learner.stopping = learner.stopping or StoppingState()
        check_kept(learner.stopping, learner.network)
        return EarlyStopping(judges.rule, data, processes)

    def _check_answers(self, method: Method, learner: Learner, rows: Tensor) -> None:
        """Raise ``FloatingPointError`` if the network's outputs for some training images are not finite: finite weights
        may still be too large. No stop request is answered here: the phase is over.
        """
        broken: list[str] = []

        def look(images: Images) -> None:
            watch, pending = ScoresCheck(), method.pending_readouts()
            watch.look({"features": method.embed(images.images)})
            scores = method.predict(images.images)
            watch.look({f"{name} scores": scores[name] for name in scores if name not in pending})
            broken.extend(watch.broken())

        data = self._inputs(method.network, "train", rows).data(Chunks([rows]))
        with evaluation_mode_restored(method.network):
            trainer = make_trainer(self._trainer, precision="32-true")
            with interruptible(trainer):
                trainer.predict(FeatureModule(method.network, look), datamodule=data, return_predictions=False)
        names = [name for each in self.gather(broken) for name in each]
        if names:
            raise learner.diverged(f"one of the {names[0]}", math.nan)

    def embed(self, network: Network, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        """Return embeddings (n, F) float32, on the CPU, of clean training images, on every process."""
        processes = self._trainer.processes
        chunks = Chunks.of(rows, self.options.evaluation_batch)
        wanted = processes.share(chunks.total_steps)
        inputs = self.images["train"] if flip else self._inputs(network, "train", rows)
        parts = self._embeddings(network, inputs, chunks, wanted, embed, replace(inputs.clean, flip=flip))
        return torch.cat(processes.gather_shares(parts))

    def map_groups(
        self,
        network: Network,
        groups: Sequence[Tensor],
        embed: Embed,
        function: Callable[[Tensor], T],
        *,
        key: Key | None = None,
    ) -> list[T]:
        """Return ``function`` of the embeddings (n, F) of each group of training rows; augmented as in training if a
        ``key`` is given.

        A group never shares a batch with another, and is one process's work: the results do not depend on the number of
        processes. Only the values of ``function`` are exchanged.
        """
        processes = self._trainer.processes
        mine = [groups[index] for index in processes.share(len(groups))]
        split = [rows.split(self.options.evaluation_batch) for rows in mine]
        chunks = Chunks([chunk for pieces in split for chunk in pieces])
        if key is None and groups:
            inputs = self._inputs(network, "train", torch.cat(list(groups)))
            pipeline = inputs.clean
        else:
            inputs, pipeline = self.images["train"], replace(self._pipeline, key=key or self._pipeline.key)
        parts = iter(self._embeddings(network, inputs, chunks, range(chunks.total_steps), embed, pipeline))
        values = [function(torch.cat([next(parts) for _ in pieces])) for pieces in split]
        return processes.gather_shares(values)

    def visit_test(self, network: Network, rows: Tensor, visit: Callable[[Images], None]) -> None:
        """Call ``visit`` with clean evaluation images, batch by batch, each image once over all processes;
        :meth:`gather` collects the results of each process's share.
        """
        processes = self._trainer.processes
        chunks = Chunks.of(rows, self.options.evaluation_batch)
        inputs = self._inputs(network, "test", rows)
        data = inputs.data(chunks, workers=self.options.workers, wanted=processes.share(chunks.total_steps))
        self._map(network, data, visit)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, on each of them; tensors in them must be on the CPU."""
        return self._trainer.processes.gather(value)

    def _training_inputs(self, learner: Learner, phase: Phase, rows: Tensor) -> Inputs:
        """Return what a phase trains on: vectors, if nothing of the frozen trunk depends on draw, step or mode."""
        images, trunk = self.images["train"], learner.network.frozen_trunk()
        clean = not phase.augmented or self._pipeline.augmentation is None
        if trunk is None or not clean or phase.mixing is not None:
            return images
        learner.method.train_mode(phase)
        if not is_as_in_evaluation(trunk):
            return images
        trained = {id(p) for name in phase.trains for p in learner.network.parts()[name]}
        noisy = learner.scales(torch.zeros(1, dtype=torch.int64), 0)
        if noisy or any(id(p) in trained for p in trunk.parameters()):
            return images
        return self._inputs(learner.network, "train", rows)

    def _inputs(self, network: Network, part: str, rows: Tensor) -> Inputs:
        """Return what a network reads of clean ``rows``: vectors where it has a frozen trunk, else images."""
        images, trunk = self.images[part], network.frozen_trunk() if self.options.features_limit else None
        if trunk is None:
            return images
        width: Any = trunk.dim
        size = _FLOAT_BYTES * len(images.labels) * int(width)
        if size > self.options.features_limit:
            _say_once(f"features of {images.source.name} would take {bytes_text(size)}: they are computed each time")
            return images

        def compute(weights: str, groups: Sequence[Tensor]) -> list[Tensor]:
            return self._vectors(trunk, images, weights, groups)

        return images.as_features(self._features.of(trunk, images.source, images.labels, rows, compute))

    def _vectors(self, trunk: nn.Module, images: ImageInputs, weights: str, groups: Sequence[Tensor]) -> list[Tensor]:
        """Return the vectors of each group of rows, from files that are there, or through the trunk; a group is one
        process's work.
        """
        processes, files = self._trainer.processes, self.options.feature_files
        mine = [groups[index] for index in processes.share(len(groups))]
        paths = [None if files is None else files.path(weights, images.source, images.clean, rows) for rows in mine]
        read = [None if path is None or files is None else files.read(path) for path in paths]
        new = [rows for rows, vectors in zip(mine, read, strict=True) if vectors is None]
        split = [rows.split(self.options.evaluation_batch) for rows in new]
        chunks = Chunks([chunk for pieces in split for chunk in pieces])

        def embed(given: Tensor) -> Tensor:
            return vectors_of(trunk, given)

        parts = iter(self._embeddings(trunk, images, chunks, range(chunks.total_steps), embed, images.clean))
        made = iter([torch.cat([next(parts) for _ in pieces]) for pieces in split])
        found = [next(made) if vectors is None else vectors for vectors in read]
        for path, known, vectors in zip(paths, read, found, strict=True):
            if path is not None and files is not None and known is None:
                files.write(path, vectors)
        return processes.gather_shares(found)

    def _embeddings(
        self, network: nn.Module, inputs: Inputs, chunks: Chunks, wanted: range, embed: Embed, pipeline: Pipeline
    ) -> list[Tensor]:
        data = inputs.data(chunks, pipeline=pipeline, workers=self.options.workers, wanted=wanted)
        # Cloned: tensors of inference mode could not take part in a later loss.
        return self._map(network, data, lambda images: embed(images.images).float().cpu().clone())

    def _map(self, network: nn.Module, data: TaskData, function: Callable[[Images], T]) -> list[T]:
        """Apply a function to batches in float32, whatever the precision of training: scores in half precision tie, and
        ties go to the older class; herding would choose by rounding.
        """
        values: list[T] = []

        def visit(images: Images) -> None:
            self.observers.leaving.raise_if_stopped()
            values.append(function(images))

        trainer = make_trainer(self._trainer, precision="32-true")
        with interruptible(trainer), _worker_errors_reported():
            trainer.predict(FeatureModule(network, visit), datamodule=data, return_predictions=False)
        return values


@cache
def _say_once(line: str) -> None:
    log.warning(line)


@contextmanager
def _worker_errors_reported() -> Iterator[None]:
    """Raise ``RunAbortedError`` for a worker of a loader that has died."""
    try:
        yield
    except RuntimeError as error:
        reason = reason_of_end(" ".join(_chain(error)))
        if reason is None:
            raise
        raise LostWorkerError(f"a process that loads images has ended ({reason})") from error


def _chain(error: BaseException | None) -> Iterator[str]:
    """Yield the messages of an error and of its causes: Lightning's clean-up can fail too, and hide the cause."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


class EngineDataAccess:
    """A method's access to data between phases (``types.DataAccess``)."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        scenario: Scenario,
        exemplars: dict[int, Tensor],
        held_out: dict[int, Tensor],
        held_rows: Tensor,
        flips: bool,
    ) -> None:
        self._engine = engine
        self._network = network
        self._scenario = scenario
        self.exemplars = exemplars
        self.held_out = held_out
        self._held_rows = held_rows
        self.flips = flips

    def rows_of(self, label: int) -> Tensor:
        """Return the training rows of a class of the current task, without those that are held out."""
        return without(self._scenario.class_rows(label), self._held_rows)

    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        """Return embeddings of clean training images; (n, F) float32 on the CPU."""
        return self._engine.embed(self._network, rows, embed, flip=flip)
