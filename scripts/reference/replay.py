"""The replay of a recorded run by our code: composed from a command line and run by ``TaskLoop``, with what only
the other side can know put in.

Put in are the weights that growth brings and MixUp's ratios. Everything else, from the configuration to the accuracy
matrix, is the package's own. This file and ``injected.py`` alone know where things are in it.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.checkpoint.state import RunState
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import InvalidFileError, UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Phase, Task
from cl_lightning.data.augmentation.mixup import mix_ratio
from cl_lightning.data.loading import Images
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.data import build_memory, build_pipeline, build_scenario, flips
from cl_lightning.factory.methods import build_method
from cl_lightning.learning.display import Display
from cl_lightning.learning.engine import Engine, EngineOptions, Observers
from cl_lightning.learning.lightning_module import Learner
from cl_lightning.learning.loggers import silent_curves
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from cl_lightning.models.network import Network
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.published.weights import GOLDEN, export_dytox
from cl_lightning.run.task_loop import LoopOptions
from cl_lightning.run.task_loop import TaskLoop as TaskSequence
from scripts.reference.events import Evaluation, Observer, Step
from scripts.reference.injected import InjectedMethod
from scripts.reference.recorded import RecordedRun


def replay(
    run: RecordedRun,
    observer: Observer,
    *,
    words: Sequence[str] = (),
    change_phase: Callable[[Phase], Phase] | None = None,
    tasks: int | None = None,
) -> None:
    """Run our side of ``run`` on the CPU and report events to ``observer``.

    Args:
        run: the other side.
        observer: receives the events.
        words: KEY=VALUE of our command line, in place of the recorded ones.
        change_phase: changes each phase of ours.
        tasks: number of tasks; ``None``: all.

    Raises:
        UserError, InvalidFileError: words that our command line does not take, other data, or weights that our
            network does not have.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet_and_threaded() as use_threads:
        config = _compose([*run.words_with(tuple(words)), f"run_dir={folder}"])
        use_threads(config.trainer.threads)
        _carry_out(run, observer, config, change_phase, run.tasks if tasks is None else tasks)


def _carry_out(
    run: RecordedRun, observer: Observer, config: Config, change_phase: Callable[[Phase], Phase] | None, tasks: int
) -> None:
    scenario, key = build_scenario(config), Key(config.seed)
    _check_data(run, scenario)
    replicas = config.batch.replicas or 1
    method = InjectedMethod(build_method(config, scenario, key), run, replicas, change_phase)
    state = RunState(build_memory(config))
    sequence = TaskSequence(scenario, method, state, LoopOptions(key, config.batch.size or 1, replicas, flips(config)))
    display, curves = Display(sequence.forecast(tasks - 1), len(scenario.tasks), "none"), silent_curves()
    engine = Engine(
        scenario,
        build_pipeline(config, scenario, key),
        TrainerOptions(
            "cpu", config.trainer.precision or "32-true", config.trainer.deterministic, Path(config.run_dir)
        ),
        EngineOptions(config.trainer.workers, config.batch.evaluation, config.trainer.log_every),
        Observers(
            display,
            curves,
            _MemoryObserver(state, method, observer),
            (_StepObserver(run, method, observer),),
        ),
    )
    for task in sequence.run(engine):
        observer.on_evaluation(task.index, _evaluation(run, scenario, method, state, engine, task))
        if task.index == tasks - 1:
            break
    if tasks == run.tasks:
        observer.on_end(_weights(method.network))


class _StepObserver(Callback):
    """A callback that puts MixUp's ratios in before a step, and reports the step afterwards."""

    def __init__(self, run: RecordedRun, method: InjectedMethod, observer: Observer) -> None:
        self._run = run
        self._method = method
        self._observer = observer

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Draw the recorded ratios; our own where none is recorded."""
        assert isinstance(pl_module, Learner)
        ratios = self._run.ratios(pl_module.task.index, pl_module.phase.name, pl_module.steps_done)
        pl_module.mix_ratio = _drawing(ratios)
        self._method.losses_of_step.clear()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Report the step."""
        assert isinstance(pl_module, Learner)
        images: Images = args[1]
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        passes = tuple(self._method.losses_of_step)
        step = Step(pl_module.steps_done - 1, int(images.epoch), images.rows.cpu(), rate, passes)
        self._observer.on_step(pl_module.task.index, pl_module.phase.name, step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the phase."""
        assert isinstance(pl_module, Learner)
        self._observer.on_phase_end(pl_module.task.index, pl_module.phase.name, _weights(self._method.network))


class _MemoryObserver(NoCheckpoints):
    """A reporter of the memory after the plan item that changed it; saves nothing."""

    def __init__(self, state: RunState, method: InjectedMethod, observer: Observer) -> None:
        self._state = state
        self._method = method
        self._observer = observer
        self._reported = state.memory

    def after_item(self) -> None:
        """Report the memory if it has changed."""
        if self._state.memory is not self._reported:
            self._reported = self._state.memory
            self._observer.on_memory(self._method.task, self._reported.exemplars())


def _evaluation(
    run: RecordedRun, scenario: Scenario, method: InjectedMethod, state: RunState, engine: Engine, task: Task
) -> Evaluation:
    """Return the evaluation of ``task``, with the scores of the probe."""
    order = torch.cat([each.test for each in scenario.tasks[: task.index + 1]]).argsort()
    scores = torch.cat(method.scores)[-len(order) :]  # what went before are the engine's looks at a phase's end
    answers = scores.argmax(dim=1)[order]
    matrix = state.matrices[method.protocol][next(iter(method.readouts()))]
    method.scores = []

    def ask(images: Images) -> None:
        method.predict(images.images)

    engine.visit_test(method.network, run.file["probe_rows"].long(), ask)
    return Evaluation(answers, matrix.accuracies()[-1], matrix.seen(task.index), torch.cat(method.scores))


def _drawing(ratios: Sequence[float]) -> Callable[[Key, float], float]:
    """Return a draw of ``ratios`` in turn, one a replica, and of our own after them."""
    left = iter(ratios)

    def draw(key: Key, alpha: float) -> float:
        recorded = next(left, None)
        return mix_ratio(key, alpha) if recorded is None else recorded

    return draw


def _weights(network: Network) -> dict[str, Tensor]:
    assert isinstance(network, TaskNetwork)
    return export_dytox(network, GOLDEN)


def _compose(words: Sequence[str]) -> Config:
    try:
        return compose_typed(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(
            f"our command line does not take the words of the file: {' '.join(str(error).split())}"
        ) from error


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
        raise InvalidFileError(run.file.path, "was made on other digits than this scikit-learn's")


@contextmanager
def _quiet_and_threaded() -> Iterator[Callable[[int | None], None]]:
    """Silence Lightning's messages, and restore the number of threads."""
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            quieten_lightning()
            yield lambda count: torch.set_num_threads(count or threads)
    finally:
        torch.set_num_threads(threads)
