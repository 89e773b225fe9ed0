"""Our side of a recorded run: composed from the words of a command line and carried out by ``Sequence``, with what only
the other side can know put in where it belongs.

Put in are the weights that growth brings and MixUp's ratios. Everything else, from the configuration to the accuracy
matrix, is the package's own. This is the one file that knows where things are in it.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from cl_lightning.build import build_memory, build_method, build_pipeline, build_scenario, flips
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.schema import Config
from cl_lightning.data.loading import Images
from cl_lightning.data.mixup import mix_ratio
from cl_lightning.data.scenario import Scenario
from cl_lightning.journal import Bystander
from cl_lightning.learning.display import Display
from cl_lightning.learning.engine import Engine
from cl_lightning.learning.learner import Learner
from cl_lightning.learning.loggers import silent_curves
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from cl_lightning.methods.base import Method
from cl_lightning.models.network import Network
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.published.weights import GOLDEN, export_dytox
from cl_lightning.rng import Key
from cl_lightning.sequence import Sequence as TaskSequence
from cl_lightning.sequence import Settings
from cl_lightning.state import RunState
from cl_lightning.types import Batch, Features, Fit, Look, Outputs, Phase, PlanItem, Progress, Readout, Task
from scripts.reference.recorded import TERMS, RecordedRun


@dataclass(frozen=True)
class Step:
    """One optimiser step of ours."""

    index: int
    epoch: int
    rows: Tensor
    """(B,) training rows, replica after replica."""
    rate: float
    """Learning rate."""
    passes: tuple[Loss, ...]
    """One, or two where the step is sharpness-aware."""


@dataclass(frozen=True)
class Loss:
    """The terms of one pass, in the order of ``TERMS``; not a number where there is no such term."""

    each: Tensor
    """(replicas, 3), of each replica's images."""
    whole: Tensor
    """(3,), of all of them: what is trained on."""


@dataclass(frozen=True)
class Evaluation:
    """What came of a task."""

    answers: Tensor
    """(n,) classes, of all test images of the classes seen, by row."""
    accuracies: list[float | None]
    """In [0, 1], on each task so far."""
    seen: float | None
    """In [0, 1], on all of them."""
    probe_logits: Tensor
    """(m, C) scores of the probe's images."""


class Watcher(Protocol):
    """Who is told what happens; an exception of theirs ends the run."""

    def on_step(self, task: int, phase: str, step: Step) -> None:
        """A step was taken."""

    def on_phase_end(self, task: int, phase: str, weights: dict[str, Tensor]) -> None:
        """A phase is over; weights are called as in the file."""

    def on_memory(self, task: int, exemplars: dict[int, Tensor]) -> None:
        """Exemplars were chosen: class -> rows by rank."""

    def on_evaluation(self, task: int, found: Evaluation) -> None:
        """A task is over."""

    def on_end(self, weights: dict[str, Tensor]) -> None:
        """The last task of the file is over."""


def replay(
    run: RecordedRun,
    watcher: Watcher,
    *,
    words: Sequence[str] = (),
    alter: Callable[[Phase], Phase] | None = None,
    tasks: int | None = None,
) -> None:
    """Carry out our side of ``run`` on the CPU and tell ``watcher``.

    Args:
        run: the other side.
        watcher: is told what happens, when it happens.
        words: KEY=VALUE of our command line, in place of the recorded ones.
        alter: makes another phase of each phase of ours.
        tasks: how many of the tasks; ``None``: all.

    Raises:
        ValueError: words that our command line does not take, other data, or weights without a place in our network.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet_and_threaded() as use_threads:
        config = _compose([*run.words_with(tuple(words)), f"run_dir={folder}"])
        use_threads(config.trainer.threads)
        _carry_out(run, watcher, config, alter, run.tasks if tasks is None else tasks)


def _carry_out(
    run: RecordedRun, watcher: Watcher, config: Config, alter: Callable[[Phase], Phase] | None, tasks: int
) -> None:
    scenario, key = build_scenario(config), Key(config.seed)
    _check_data(run, scenario)
    replicas = config.batch.replicas or 1
    method = Injected(build_method(config, scenario, key), run, replicas, alter)
    state = RunState(build_memory(config))
    sequence = TaskSequence(scenario, method, state, Settings(key, config.batch.size or 1, replicas, flips(config)))
    display, curves = Display(sequence.forecast(tasks - 1), len(scenario.tasks), "none"), silent_curves()
    engine = Engine(
        scenario,
        build_pipeline(config, scenario, key),
        TrainerOptions(
            "cpu", config.trainer.precision or "32-true", config.trainer.deterministic, Path(config.run_dir)
        ),
        workers=config.trainer.workers,
        evaluation_batch=config.batch.evaluation,
        log_every=config.trainer.log_every,
        display=display,
        curves=curves,
        leaving=Bystander(),
        callbacks=[_LookingOn(run, method, watcher)],
    )
    journal = _MemoryTold(state, method, watcher)
    for task in sequence.run(engine, display, curves, journal):
        watcher.on_evaluation(task.index, _evaluation(run, scenario, method, state, engine, task))
        if task.index == tasks - 1:
            break
    if tasks == run.tasks:
        watcher.on_end(_weights(method.network))


class Injected(Method):
    """A method that is given weights when it grows, and whose losses and scores are kept for the watcher."""

    def __init__(
        self, method: Method, run: RecordedRun, replicas: int, alter: Callable[[Phase], Phase] | None = None
    ) -> None:
        super().__init__(method.network)
        self.protocol, self.couples_images = method.protocol, method.couples_images
        self.losses_of_step: list[Loss] = []
        self.scores: list[Tensor] = []
        """Of the test images of the current task's evaluation, batch by batch."""
        self.task = 0
        self._method = method
        self._run = run
        self._replicas = replicas
        self._alter = alter or (lambda phase: phase)

    def plan(self, task: Task) -> list[PlanItem]:
        """The method's own plan, with its phases altered."""
        items = self._method.plan(task)
        return [Fit(self._alter(item.phase)) if isinstance(item, Fit) else item for item in items]

    def grow(self, task: Task, key: Key, look: Look) -> None:
        """Grow, then put the recorded weights in."""
        before = {} if task.index == 0 else dict(self.network.named_parameters())
        self._method.grow(task, key, look)
        self.network, self.teacher = self._method.network, self._method.teacher
        self.task, self.scores = task.index, []
        _put_in(self._run, task.index, self.network, before)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """The method's own losses, which are kept."""
        terms = self._method.losses(task, phase, batch, outputs)
        whole = _columns(terms)
        each = [whole] if self._replicas == 1 else self._of_each_replica(task, phase, batch, outputs)
        self.losses_of_step.append(Loss(torch.stack(each), whole))
        return terms

    @torch.no_grad()
    def _of_each_replica(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> list[Tensor]:
        size = len(batch.labels) // self._replicas
        parts = [slice(first, first + size) for first in range(0, self._replicas * size, size)]
        return [_columns(self._method.losses(task, phase, *_cut(batch, outputs, part))) for part in parts]

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """The method's own scores; those of the main read-out are kept."""
        scores = self._method.predict(images)
        self.scores.append(next(iter(scores.values())).cpu())
        return scores

    def outputs(self, phase: Phase, images: Tensor, scales: Tensor | None) -> Outputs:
        """The method's own."""
        return self._method.outputs(phase, images, scales)

    def train_mode(self, phase: Phase) -> None:
        """The method's own."""
        self._method.train_mode(phase)

    def embed(self, images: Tensor) -> Tensor:
        """The method's own."""
        return self._method.embed(images)

    def readouts(self) -> dict[str, Readout]:
        """The method's own."""
        return self._method.readouts()

    def act(self, name: str, task: Task, look: Look) -> None:
        """The method's own."""
        self._method.act(name, task, look)

    def after_step(self, progress: Progress) -> None:
        """The method's own."""
        self._method.after_step(progress)

    def gauges(self) -> dict[str, Tensor]:
        """The method's own."""
        return self._method.gauges()


class _LookingOn(Callback):
    """Puts MixUp's ratios in before a step, and tells of it afterwards."""

    def __init__(self, run: RecordedRun, method: Injected, watcher: Watcher) -> None:
        self._run = run
        self._method = method
        self._watcher = watcher

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Have the recorded ratios drawn; our own where none is recorded."""
        assert isinstance(pl_module, Learner)
        ratios = self._run.ratios(pl_module.task.index, pl_module.phase.name, pl_module.steps_done)
        pl_module.mix_ratio = _drawing(ratios)
        self._method.losses_of_step.clear()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Tell of the step."""
        assert isinstance(pl_module, Learner)
        images: Images = args[1]
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        passes = tuple(self._method.losses_of_step)
        step = Step(pl_module.steps_done - 1, int(images.epoch), images.rows.cpu(), rate, passes)
        self._watcher.on_step(pl_module.task.index, pl_module.phase.name, step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the phase."""
        assert isinstance(pl_module, Learner)
        self._watcher.on_phase_end(pl_module.task.index, pl_module.phase.name, _weights(self._method.network))


class _MemoryTold(Bystander):
    """Tells of the memory after the plan item that changed it; keeps nothing."""

    def __init__(self, state: RunState, method: Injected, watcher: Watcher) -> None:
        self._state = state
        self._method = method
        self._watcher = watcher
        self._told = state.memory

    def after_item(self) -> None:
        """Look whether it is another one."""
        if self._state.memory is not self._told:
            self._told = self._state.memory
            self._watcher.on_memory(self._method.task, self._told.exemplars())


def _evaluation(
    run: RecordedRun, scenario: Scenario, method: Injected, state: RunState, engine: Engine, task: Task
) -> Evaluation:
    """What the evaluation of ``task`` has found, and the scores of the probe."""
    order = torch.cat([each.test for each in scenario.tasks[: task.index + 1]]).argsort()
    answers = torch.cat(method.scores).argmax(dim=1)[order]
    matrix = state.matrices[method.protocol][next(iter(method.readouts()))]
    method.scores = []

    def ask(images: Images) -> None:
        method.predict(images.images)

    engine.visit_test(method.network, run.file["probe_rows"].long(), ask)
    return Evaluation(answers, matrix.accuracies()[-1], matrix.seen(task.index), torch.cat(method.scores))


@torch.no_grad()
def _put_in(run: RecordedRun, task: int, network: Network, before: dict[str, Any]) -> None:
    """Every weight that has come into being, and no other, is in the file."""
    parameters = dict(network.named_parameters())
    new = {GOLDEN.theirs(name): value for name, value in parameters.items() if before.get(name) is not value}
    given = run.start(task)
    for name in sorted(new.keys() ^ given.keys()):
        where = "new in our network and not in the file" if name in new else "in the file and not new in our network"
        raise ValueError(f"task{task}/start/{name} is {where}")
    for name, value in given.items():
        if new[name].shape != value.shape:
            shapes = f"{tuple(value.shape)} in the file, {tuple(new[name].shape)} here"
            raise ValueError(f"task{task}/start/{name} is of shape {shapes}")
        new[name].copy_(value)


def _drawing(ratios: Sequence[float]) -> Callable[[Key, float], float]:
    """Draws ``ratios`` in turn, one a replica, and goes on with our own."""
    left = iter(ratios)

    def draw(key: Key, alpha: float) -> float:
        recorded = next(left, None)
        return mix_ratio(key, alpha) if recorded is None else recorded

    return draw


def _weights(network: Network) -> dict[str, Tensor]:
    assert isinstance(network, TaskNetwork)
    return export_dytox(network, GOLDEN)


def _columns(terms: dict[str, Tensor]) -> Tensor:
    nothing = torch.tensor(float("nan"))
    return torch.stack([terms.get(name, nothing).detach().cpu().float() for name in TERMS])


def _cut(batch: Batch, outputs: Outputs, part: slice) -> tuple[Batch, Outputs]:
    features = Features(outputs.features.embeddings[part])
    auxiliary = None if outputs.auxiliary is None else outputs.auxiliary[part]
    images = Batch(batch.images[part], batch.labels[part], batch.targets[part])
    return images, Outputs(outputs.logits[part], features, auxiliary)


def _compose(words: Sequence[str]) -> Config:
    try:
        return compose_typed(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"our command line does not take the words of the file: {error}") from error


def _check_data(run: RecordedRun, scenario: Scenario) -> None:
    """Refuse other pixels than those of the recorded run, where the file has their checksum."""
    expected = run.settings.get("digits_sha256")
    if expected is None:
        return
    found = hashlib.sha256()
    for source in (scenario.train, scenario.test):
        for values in (source.pixels[:, 0], source.labels):  # type: ignore[attr-defined]
            found.update(values.contiguous().numpy().tobytes())
    if found.hexdigest() != expected:
        raise ValueError(f"{run.file.path} was made on other digits than this scikit-learn's")


@contextmanager
def _quiet_and_threaded() -> Iterator[Callable[[int | None], None]]:
    """Lightning's remarks are left out, and the number of threads is taken back."""
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            quieten_lightning()
            yield lambda count: torch.set_num_threads(count or threads)
    finally:
        torch.set_num_threads(threads)
