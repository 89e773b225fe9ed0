"""The loop over tasks: each method's plan is carried out item by item.

Growth happens before any Trainer exists, each fit has a Trainer of its own, and what the loop knows (memory, counts,
steps, its position) lives outside of them, in a state that is saved after every item and within phases. Before the
first step all phases are forecast: sizes of memory and phases follow from counts alone, so a phase that would take no
step is refused at once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_lightning.checkpoint.state import Cursor, RunState
from cl_lightning.core.errors import UserError
from cl_lightning.core.records import PhaseRecord, TaskRecord
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Evaluate,
    Fit,
    Grow,
    Herd,
    HoldOut,
    Phase,
    PlanItem,
    Task,
    View,
)
from cl_lightning.data.class_balance import ClassDraws, class_counts, class_weights, is_even
from cl_lightning.data.loading import Images
from cl_lightning.data.phase_views import ViewKey, balanced_held_out, view_rows
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.learning.display import PhaseSpan
from cl_lightning.learning.engine import Engine, EngineDataAccess, Judges
from cl_lightning.learning.feature_module import evaluation_mode_restored
from cl_lightning.learning.finite_check import ScoresCheck, broken_network, broken_state
from cl_lightning.learning.stopping_rule import ACCURACY, StoppingRule, StoppingState
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.metrics.accuracy import AccuracyMatrix, Cell, Counts
from cl_lightning.metrics.class_balance import ClassCounts
from cl_lightning.metrics.confusion import Answers, Tally
from cl_lightning.report.results import PhaseAccuracy
from cl_lightning.resources.costs import forget_peaks, multiply_adds, peak_gpu_memory, peak_memory
from cl_lightning.run.evaluation import Counted, evaluate_all, evaluate_ready, first_classes
from cl_lightning.run.memory_items import choose_exemplars, foreseen, hold_out, refuse_small

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopOptions:
    """The options of the loop, beside the method."""

    key: Key
    batch: int
    replicas: int
    flips: bool
    """True if a mirrored image is one of the same class."""
    balance: str = "none"
    """Balance of the classes of a phase: ``none``, by the ``loss`` or by ``sampling``."""
    stopping: StoppingRule | None = None
    """Rule by which a phase may end early; None: no phase does."""


AfterPhase = Callable[[PhaseAccuracy], None]
"""Function that is called with a phase's accuracy, before the state that holds it is saved."""


class TaskLoop:
    """One run through the tasks of a scenario."""

    def __init__(self, scenario: Scenario, method: Method, state: RunState, settings: LoopOptions) -> None:
        self.scenario = scenario
        self.method = method
        self.state = state
        self._settings = settings

    def forecast(self, last: int | None = None) -> list[PhaseSpan]:
        """Return the phases ahead up to task ``last`` (``None``: all), with lengths. Raises ``UserError`` for one that
        would take no step.
        """
        memory, spans = self.state.memory, []
        start = self.state.position
        tasks = self.scenario.tasks if last is None else self.scenario.tasks[: last + 1]
        refuse_small(memory, self.method.plan(tasks[0]), tasks[-1].num_seen)
        for task in tasks[start.tasks :]:
            for index, item in enumerate(self.method.plan(task)):
                if (task.index, index) < (start.tasks, start.items):
                    continue
                memory = foreseen(memory, item, task, self.scenario, self._settings.key)
                if isinstance(item, Fit):
                    sampler = self._sampler(task, item.phase, memory)
                    _refuse_empty(task, item.phase, sampler)
                    spans.append(self._span(task, index, item.phase, sampler))
        return spans

    def run(self, engine: Engine, after_phase: AfterPhase | None = None) -> Iterator[Task]:
        """Learn the tasks that the state does not have yet; yield each one when its plan is done and its counts are in
        the state. With ``after_phase``, all classes seen are evaluated after each phase too.

        The engine's observers are notified of phases and items.
        """
        cursor, checkpoints = self.state.cursor, engine.observers.leaving
        forget_peaks()
        for task in self.scenario.tasks[len(self.state.records) :]:
            plan = self.method.plan(task)
            while cursor.items < len(plan):
                if after_phase is not None:
                    self._evaluate_phase(plan, task, engine, after_phase)
                item, begun = plan[cursor.items], time.monotonic()
                self._carry_out(item, task, engine)
                log.debug("task %d: %s took %.1f s", task.index + 1, _name(item), time.monotonic() - begun)
                cursor.items += 1
                cursor.left = None
                if cursor.items < len(plan):
                    checkpoints.after_item()
            self.state.records.append(self._record(task, cursor, engine))
            cursor = self.state.cursor = Cursor()
            checkpoints.after_item()
            yield task

    def _carry_out(self, item: PlanItem, task: Task, engine: Engine) -> None:
        match item:
            case Grow():
                if task.index == 0:
                    self.method.begin()
                self.method.grow(task, self._key(task, "grow"), self._data_access(engine, task))
                self._check_finite(item, task)
            case Fit(phase):
                self._fit(task, phase, engine)
            case HoldOut():
                self.state.memory = hold_out(self.state.memory, item, task, self.scenario, self._settings.key)
            case Herd():
                self.state.memory = choose_exemplars(
                    self.state.memory, item, task, self.scenario, self.method, engine, self._key(task, "herd")
                )
            case Act(name):
                self.method.act(name, task, self._data_access(engine, task))
                self._check_finite(item, task)
            case Evaluate():
                self._evaluate(engine, task)

    def _check_finite(self, item: PlanItem, task: Task) -> None:
        """Raise ``FloatingPointError`` if the method is not finite after an item."""
        broken = broken_network(self.method.network) or broken_state(self.method.extra_state(), "state")
        if broken is None and self.method.teacher is not None:
            broken = broken_network(self.method.teacher)
        if broken is not None:
            raise _diverged(str(broken), task, item)

    def _fit(self, task: Task, phase: Phase, engine: Engine) -> None:
        state, cursor = self.state, self.state.cursor
        display, curves = engine.observers.display, engine.observers.curves
        sampler = self._sampler(task, phase, state.memory)
        done = 0 if cursor.left is None else cursor.left.steps
        display.start(self._span(task, cursor.items, phase, sampler), done)
        curves.offset = state.step_offset
        entry = (task.index, phase.name, engine.precision)
        if entry not in state.precisions[-1:]:
            state.precisions.append(entry)
        key, weights = self._key(task, phase.name), self._class_weights(task, sampler)
        judges = self._judges(task, phase)
        fitted = engine.fit(self.method, task, phase, sampler, key, cursor.left, weights, judges)
        display.finish()
        if fitted.stopping is not None and judges is not None:
            line = _stopped_line(task, phase, fitted.stopping, judges)
            display.say(line)
            log.info(line, extra={"displayed": True})
        state.step_offset += fitted.steps
        state.phases.append(PhaseRecord(task.index, phase.name, fitted.steps, fitted.images, fitted.seconds))
        curves.offset = state.step_offset
        cursor.images += fitted.images
        cursor.fit_seconds += fitted.seconds

    def _record(self, task: Task, cursor: Cursor, engine: Engine) -> TaskRecord:
        network = self.method.network
        peaks, gpu_peaks = zip(*engine.gather((peak_memory(), peak_gpu_memory())), strict=True)
        return TaskRecord(
            task.index,
            task.classes,
            task.names,
            cursor.seconds,
            cursor.images / max(cursor.fit_seconds, 1e-9),
            parameters=sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in network.training_only()),
            multiply_adds=multiply_adds(network, self.scenario.image_size, self.scenario.channels),
            peak_memory=max(peaks),
            peak_gpu_memory=max((peak for peak in gpu_peaks if peak is not None), default=None),
        )

    def _key(self, task: Task, purpose: str) -> Key:
        return self._settings.key.fold("task", task.index, purpose)

    def _sampler(self, task: Task, phase: Phase, memory: RehearsalMemory) -> PhaseSampler:
        key = self._key(task, phase.name)
        tasks = self.scenario.tasks[: task.index + 1]
        view_key = ViewKey(self._settings.key, phase.name)
        rows = [
            view_rows(phase.view, tasks, memory, self.scenario.train_labels, replica, view_key)
            for replica in range(self._settings.replicas)
        ]
        shortest = min(len(r) for r in rows)
        rows = [r[:shortest] for r in rows]
        counts = self._uneven_counts("sampling", task, rows)
        classes = None if counts is None else ClassDraws.of(rows, self.scenario.train_labels)
        return PhaseSampler(rows, phase.sampling, phase.epochs, self._settings.batch, key, classes)

    def _span(self, task: Task, index: int, phase: Phase, sampler: PhaseSampler) -> PhaseSpan:
        may_stop = self._judges(task, phase) is not None
        return PhaseSpan(task.index, index, phase.name, phase.epochs, sampler.steps_per_epoch, sampler.images, may_stop)

    def _judges(self, task: Task, phase: Phase) -> Judges | None:
        """Return the images that may end a phase; None where it takes all its epochs.

        Those of the phase's own tasks alone: images of earlier tasks, set aside or not, are no longer there for a
        continual learner. Hence no phase on balanced data ends early: new images alone would judge it.
        """
        if self._settings.stopping is None or phase.view in (View.MEMORY, View.BALANCED, View.HELD_OUT):
            return None
        tasks = self.scenario.tasks[: task.index + 1] if phase.view is View.CUMULATIVE else [task]
        rows = self.scenario.validation_rows([label for each in tasks for label in each.classes])
        return Judges(self._settings.stopping, rows) if len(rows) else None

    def _class_weights(self, task: Task, sampler: PhaseSampler) -> Tensor | None:
        """Return the weights of the classes in a phase's loss; None where all are 1."""
        counts = self._uneven_counts("loss", task, sampler.rows)
        return None if counts is None else class_weights(counts)

    def _uneven_counts(self, balance: str, task: Task, rows: Sequence[Tensor]) -> Tensor | None:
        """Return a phase's numbers of images by class; None without this balance, or where all are the same."""
        if self._settings.balance != balance:
            return None
        counts = class_counts(rows, self.scenario.train_labels, task.num_seen)
        return None if is_even(counts) else counts

    def _data_access(self, engine: Engine, task: Task) -> EngineDataAccess:
        memory = self.state.memory
        lists = [memory.exemplars(replica) for replica in range(memory.num_lists)]
        exemplars = {label: torch.cat([rows[label] for rows in lists]).unique() for label in lists[0]}
        held, rows = balanced_held_out(memory.held_out, task), memory.held_out_rows()
        network, flips = self.method.network, self._settings.flips
        return EngineDataAccess(engine, network, self.scenario, exemplars, held, rows, flips)

    def _evaluate(self, engine: Engine, task: Task) -> None:
        """Count right answers on all tasks so far, each image once."""
        answered, check = Tally(), ScoresCheck()

        def count_batch(images: Images, offsets: list[int]) -> Counted:
            return evaluate_all(self.method, images, offsets, check, answered)

        counted = self._counted(engine, task, count_batch)
        _refuse_broken(engine, check, task, Evaluate())
        shares = engine.gather([] if answered.total is None else [answered.total.cpu().to_plain()])
        answered_by_all = [Answers.from_plain(plain) for share in shares for plain in share]
        self.state.answers = sum(answered_by_all[1:], answered_by_all[0])
        offsets = first_classes(self.scenario, task)
        for (protocol, readout), counts in counted.items():
            matrix = self.state.matrices.get(protocol, {}).get(readout, AccuracyMatrix())
            if len(matrix) >= task.index:  # else the run was begun before this was counted, and its first rows lack
                self.state.matrices.setdefault(protocol, {})[readout] = matrix.with_row(
                    task.index, counts.by_task(offsets)
                )
                of_classes = self.state.class_counts.setdefault(protocol, {})
                of_classes[readout] = of_classes.get(readout, ClassCounts()).with_row(task.index, counts)

    def _evaluate_phase(self, plan: list[PlanItem], task: Task, engine: Engine, after_phase: AfterPhase) -> None:
        """Evaluate the phase before the next item, unless that has been done.

        The phase itself has been saved by then: a run interrupted here evaluates again, and trains nothing again. So
        does one resumed here that was begun without this evaluation: the network is that of the phase's end.
        """
        cursor, index = self.state.cursor, self.state.cursor.items - 1
        item = plan[index] if index >= 0 else None
        if not isinstance(item, Fit) or cursor.left is not None:
            return
        if any((entry.task, entry.item) == (task.index, index) for entry in self.state.after_phases):
            return
        begun, check = time.monotonic(), ScoresCheck()

        def count_batch(images: Images, offsets: list[int]) -> Counted:
            return evaluate_ready(self.method, images, offsets, check)

        with evaluation_mode_restored(self.method.network):
            counted = self._counted(engine, task, count_batch)
        _refuse_broken(engine, check, task, item)
        if not counted:
            log.info("phase %s of task %d: no read-out knows all classes yet", item.phase.name, task.index + 1)
            return
        cells: dict[str, dict[str, tuple[Cell, ...]]] = {}
        offsets = first_classes(self.scenario, task)
        for (protocol, readout), counts in counted.items():
            cells.setdefault(protocol, {})[readout] = counts.by_task(offsets).cells()
        self.state.after_phases.append(PhaseAccuracy(task.index, index, item.phase.name, cells))
        log.debug("task %d: evaluation after %s took %.1f s", task.index + 1, _name(item), time.monotonic() - begun)
        after_phase(self.state.after_phases[-1])
        engine.observers.leaving.after_item()

    def _counted(self, engine: Engine, task: Task, count_batch: Callable[[Images, list[int]], Counted]) -> Counted:
        """Return the sum of ``count_batch`` over the test images of all tasks so far, each image once and over all
        processes.
        """
        tasks = self.scenario.tasks[: task.index + 1]
        offsets = first_classes(self.scenario, task)
        sums: Counted = {}

        def add(images: Images) -> None:  # batch by batch: the confusions of a thousand classes take 8 MB
            for name, counts in count_batch(images, offsets).items():
                sums[name] = sums[name] + counts if name in sums else counts

        engine.visit_test(self.method.network, torch.cat([t.test for t in tasks]), add)
        shares = engine.gather({name: counts.to_tensor().cpu() for name, counts in sums.items()})
        return {
            name: Counts.from_tensor(torch.stack([share[name] for share in shares if share]).sum(dim=0))
            for name in shares[0]
        }


def _name(item: PlanItem) -> str:
    return f"phase {item.phase.name}" if isinstance(item, Fit) else type(item).__name__.lower()


def _stopped_line(task: Task, phase: Phase, stopping: StoppingState, judges: Judges) -> str:
    """Return when a phase ended and which network was kept, as a line."""
    value, images = stopping.best or 0.0, f"{len(judges.rows)} images set aside"
    best = f"accuracy {100 * value:.1f} %" if judges.rule.monitor == ACCURACY else f"loss {value:.4g}"
    return (
        f"task {task.index + 1}, phase {phase.name}: {stopping.checks} of at most {phase.epochs} epochs, "
        f"kept the network of epoch {stopping.best_check} ({best} on {images})"
    )


def _refuse_broken(engine: Engine, check: ScoresCheck, task: Task, item: PlanItem) -> None:
    """Raise ``FloatingPointError``, on all processes alike, if a score of some test image was not finite."""
    found = [name for names in engine.gather(check.broken()) for name in names]
    if found:
        raise _diverged(f"a {found[0]} score of a test image is {math.nan}", task, item)


def _diverged(what: str, task: Task, item: PlanItem) -> FloatingPointError:
    begins = task.index == 0 and isinstance(item, Grow)  # nothing has been learnt yet
    mend = "the weights that it begins with are broken, use others" if begins else "it has diverged, lower lr_scale"
    return FloatingPointError(f"{what} at task {task.index + 1}, {_name(item)}: {mend}")


def _refuse_empty(task: Task, phase: Phase, sampler: PhaseSampler) -> None:
    """Raise ``UserError`` if a phase would take no step."""
    if sampler.total_steps > 0:
        return
    mend = "type recipe=clean, recipe.repeated_augmentation=false, or a larger data.increment"
    raise UserError(
        f"phase {phase.name} of task {task.index + 1} would take no step: it sees {len(sampler.rows[0])} images, and "
        f"{phase.sampling.order.value} sampling with batch.replicas={sampler.replicas} yields "
        f"{sampler.draws_per_replica} of them: {mend}"
    )
