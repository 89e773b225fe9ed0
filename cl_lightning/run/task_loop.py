"""The plot of the program: task after task, the method's plan is carried out item by item.

Growth happens before any Trainer exists, each fit has a Trainer of its own, and what the sequence knows (memory,
counts, steps, its own place) lives outside of them, in a state that is kept after every item and within phases. Before
the first step the whole sequence is forecast: sizes of memory and phases
follow from counts alone, so a phase that would take no step is refused at once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_lightning.checkpoint.state import Cursor, RunState
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    PROTOCOLS,
    Act,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Phase,
    PhaseRecord,
    PlanItem,
    Task,
    TaskRecord,
)
from cl_lightning.data.loading import Images
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.data.views import ViewKey, view_rows
from cl_lightning.learning.display import PhaseSpan
from cl_lightning.learning.engine import Engine, EngineDataAccess
from cl_lightning.learning.feature_module import evaluation_mode_restored
from cl_lightning.learning.finite_check import ScoresCheck, broken_network, broken_state
from cl_lightning.memory.herding import herd, herd_distinct
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.metrics.accuracy import AccuracyMatrix, Cell, Counts, count
from cl_lightning.metrics.answers import Answers, answers
from cl_lightning.report.results import PhaseAccuracy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopOptions:
    """What the sequence needs to know beside the method."""

    key: Key
    batch: int
    replicas: int
    flips: bool
    """Whether mirrored images are images of the same class."""


AfterPhase = Callable[[PhaseAccuracy], None]
"""Is told what a phase has brought, before the state that holds it is kept."""


class TaskLoop:
    """One run through a scenario."""

    def __init__(self, scenario: Scenario, method: Method, state: RunState, settings: LoopOptions) -> None:
        self.scenario = scenario
        self.method = method
        self.state = state
        self._settings = settings

    def forecast(self, last: int | None = None) -> list[PhaseSpan]:
        """All phases that lie ahead up to task ``last`` (``None``: all), with lengths; refuses those that would take no
        step.
        """
        memory, legs = self.state.memory, []
        at = self.state.position
        tasks = self.scenario.tasks if last is None else self.scenario.tasks[: last + 1]
        if any(isinstance(item, Herd) for item in self.method.plan(tasks[0])):
            memory.quota(tasks[-1].num_seen)  # refuses a budget that would not last
        for task in tasks[at.tasks :]:
            for place, item in enumerate(self.method.plan(task)):
                if (task.index, place) < (at.tasks, at.items):
                    continue
                if isinstance(item, Herd):
                    first = {label: self.scenario.class_rows(label) for label in task.classes}
                    memory = memory.update([first] * memory.num_lists, task.num_seen)
                elif isinstance(item, Fit):
                    draws = self._draws(task, item.phase, memory)
                    _refuse_empty(task, item.phase, draws)
                    legs.append(_leg(task, place, item.phase, draws))
        return legs

    def run(self, engine: Engine, after_phase: AfterPhase | None = None) -> Iterator[Task]:
        """Learn what the state does not have yet, in order; yields each task when its plan is done and its counts are
        in the state. With ``after_phase``, all classes seen are evaluated after each phase too.

        Whoever observes the engine is told of phases and items too.
        """
        cursor, leaving = self.state.cursor, engine.observers.leaving
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
                    leaving.after_item()
            self.state.records.append(self._record(task, cursor))
            cursor = self.state.cursor = Cursor()
            leaving.after_item()
            yield task

    def _carry_out(self, item: PlanItem, task: Task, engine: Engine) -> None:
        match item:
            case Grow():
                self.method.grow(task, self._key(task, "grow"), self._look(engine))
                self._check_finite(item, task)
            case Fit(phase):
                self._fit(task, phase, engine)
            case Herd():
                self._herd(engine, task, item)
            case Act(name):
                self.method.act(name, task, self._look(engine))
                self._check_finite(item, task)
            case Evaluate():
                self._evaluate(engine, task)

    def _check_finite(self, item: PlanItem, task: Task) -> None:
        """Raise ``FloatingPointError`` if what an item has made of the method is broken."""
        broken = broken_network(self.method.network) or broken_state(self.method.extra_state(), "state")
        if broken is None and self.method.teacher is not None:
            broken = broken_network(self.method.teacher)
        if broken is not None:
            raise _diverged(str(broken), task, item)

    def _fit(self, task: Task, phase: Phase, engine: Engine) -> None:
        state, cursor = self.state, self.state.cursor
        display, curves = engine.observers.display, engine.observers.curves
        draws = self._draws(task, phase, state.memory)
        done = 0 if cursor.left is None else cursor.left.steps
        display.start(_leg(task, cursor.items, phase, draws), done)
        curves.offset = state.step_offset
        entry = (task.index, phase.name, engine.precision)
        if entry not in state.precisions[-1:]:
            state.precisions.append(entry)
        fitted = engine.fit(self.method, task, phase, draws, self._key(task, phase.name), cursor.left)
        display.finish()
        state.step_offset += fitted.steps
        state.phases.append(PhaseRecord(task.index, phase.name, fitted.steps, fitted.images, fitted.seconds))
        curves.offset = state.step_offset
        cursor.images += fitted.images
        cursor.fit_seconds += fitted.seconds

    def _record(self, task: Task, cursor: Cursor) -> TaskRecord:
        parameters = sum(p.numel() for p in self.method.network.parameters())
        rate = cursor.images / max(cursor.fit_seconds, 1e-9)
        return TaskRecord(task.index, task.classes, task.names, cursor.seconds, rate, parameters)

    def _key(self, task: Task, purpose: str) -> Key:
        return self._settings.key.fold("task", task.index, purpose)

    def _draws(self, task: Task, phase: Phase, memory: RehearsalMemory) -> PhaseSampler:
        key = self._key(task, phase.name)
        tasks = self.scenario.tasks[: task.index + 1]
        view_key = ViewKey(self._settings.key, phase.name)
        rows = [
            view_rows(phase.view, tasks, memory, self.scenario.train_labels, replica, view_key)
            for replica in range(self._settings.replicas)
        ]
        shortest = min(len(r) for r in rows)
        return PhaseSampler([r[:shortest] for r in rows], phase.sampling, phase.epochs, self._settings.batch, key)

    def _look(self, engine: Engine) -> EngineDataAccess:
        memory = self.state.memory
        lists = [memory.exemplars(replica) for replica in range(memory.num_lists)]
        exemplars = {label: torch.cat([rows[label] for rows in lists]).unique() for label in lists[0]}
        return EngineDataAccess(engine, self.method.network, self.scenario, exemplars, self._settings.flips)

    def _herd(self, engine: Engine, task: Task, how: Herd) -> None:
        """Rank the new classes' images, on each replica's own augmentations where memories are kept apart."""
        memory, chosen = self.state.memory, []
        quota = memory.quota(task.num_seen)
        rank = herd_distinct if how.distinct else herd
        groups = [self.scenario.class_rows(label) for label in task.classes]
        for replica in range(memory.num_lists):
            key = self._key(task, "herd").fold(replica) if how.augmented else None
            ranked = engine.map_groups(
                self.method.network, groups, self.method.embed, lambda features: rank(features, quota), key=key
            )
            pairs = zip(task.classes, groups, ranked, strict=True)
            chosen.append({label: rows[ranks] for label, rows, ranks in pairs})
        self.state.memory = memory.update(chosen, task.num_seen)

    def _evaluate(self, engine: Engine, task: Task) -> None:
        """Count right answers on all tasks so far, each image once."""
        given: list[Answers] = []
        watch = ScoresCheck()

        def count_batch(images: Images, offsets: list[int]) -> Counted:
            batch, answered = evaluate_all(self.method, images, offsets, watch)
            given[:] = [given[0] + answered] if given else [answered]
            return batch

        counted = self._counted(engine, task, count_batch)
        _refuse_broken(engine, watch, task, Evaluate())
        shares = engine.gather([answered.cpu().to_plain() for answered in given])
        answered_by_all = [Answers.from_plain(plain) for share in shares for plain in share]
        self.state.answers = sum(answered_by_all[1:], answered_by_all[0])
        for (protocol, readout), counts in counted.items():
            matrix = self.state.matrices.get(protocol, {}).get(readout, AccuracyMatrix())
            if len(matrix) >= task.index:  # else the run was begun before this was counted, and its first rows lack
                self.state.matrices.setdefault(protocol, {})[readout] = matrix.with_row(task.index, counts)

    def _evaluate_phase(self, plan: list[PlanItem], task: Task, engine: Engine, after_phase: AfterPhase) -> None:
        """Count what the phase before the next item has brought, unless that has been done.

        The phase itself has been kept by then: who is interrupted here counts once more, and trains nothing again. And
        who goes on from here with a run that was begun without counts too: the network is that of the phase's end.
        """
        cursor, place = self.state.cursor, self.state.cursor.items - 1
        item = plan[place] if place >= 0 else None
        if not isinstance(item, Fit) or cursor.left is not None:
            return
        if any((entry.task, entry.item) == (task.index, place) for entry in self.state.after_phases):
            return
        begun, watch = time.monotonic(), ScoresCheck()

        def count_batch(images: Images, offsets: list[int]) -> Counted:
            return evaluate_ready(self.method, images, offsets, watch)

        with evaluation_mode_restored(self.method.network):
            counted = self._counted(engine, task, count_batch)
        _refuse_broken(engine, watch, task, item)
        if not counted:
            log.info("phase %s of task %d: no read-out knows all classes yet", item.phase.name, task.index + 1)
            return
        cells: dict[str, dict[str, tuple[Cell, ...]]] = {}
        for (protocol, readout), counts in counted.items():
            cells.setdefault(protocol, {})[readout] = counts.cells()
        self.state.after_phases.append(PhaseAccuracy(task.index, place, item.phase.name, cells))
        log.debug("task %d: evaluation after %s took %.1f s", task.index + 1, _name(item), time.monotonic() - begun)
        after_phase(self.state.after_phases[-1])
        engine.observers.leaving.after_item()

    def _counted(self, engine: Engine, task: Task, count_batch: Callable[[Images, list[int]], Counted]) -> Counted:
        """What ``count_batch`` counts of images and class offsets, over the test images of all tasks so far, each once
        and over all processes.
        """
        tasks = self.scenario.tasks[: task.index + 1]
        offsets = [t.classes[0] for t in tasks] + [task.num_seen]
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


Counted = dict[tuple[str, str], Counts]
"""By (protocol, read-out), the main ones first."""


def evaluate_all(method: Method, images: Images, offsets: list[int], watch: ScoresCheck) -> tuple[Counted, Answers]:
    """Counts of one batch, and the answers of the main read-out; ``watch`` looks at the scores."""
    scores = method.predict(images.images)
    pending = method.pending_readouts()
    watch.look({name: logits for name, logits in scores.items() if name not in pending})
    main, logits = next(iter(scores.items()))
    answered = answers(method.readouts()[main].probabilities(logits), images.labels, num_old=offsets[-2])
    return _count(method, scores, images, offsets), answered


def evaluate_ready(method: Method, images: Images, offsets: list[int], watch: ScoresCheck) -> Counted:
    """Counts of one batch by the read-outs that know all classes by now; ``watch`` looks at their scores."""
    pending = method.pending_readouts()
    scores = {name: logits for name, logits in method.predict(images.images).items() if name not in pending}
    watch.look(scores)
    return _count(method, scores, images, offsets)


def _count(method: Method, scores: dict[str, Tensor], images: Images, offsets: list[int]) -> Counted:
    return {
        (protocol, readout): count(logits, images.labels, offsets, protocol)
        for protocol in sorted(PROTOCOLS, key=lambda protocol: protocol != method.protocol)
        for readout, logits in scores.items()
    }


def _name(item: PlanItem) -> str:
    return f"phase {item.phase.name}" if isinstance(item, Fit) else type(item).__name__.lower()


def _refuse_broken(engine: Engine, watch: ScoresCheck, task: Task, item: PlanItem) -> None:
    """Raise ``FloatingPointError``, on all processes alike, if a score of some test image was not finite."""
    found = [name for names in engine.gather(watch.broken()) for name in names]
    if found:
        raise _diverged(f"a {found[0]} score of a test image is {math.nan}", task, item)


def _diverged(what: str, task: Task, item: PlanItem) -> FloatingPointError:
    begins = task.index == 0 and isinstance(item, Grow)  # nothing has been learnt yet
    mend = "the weights that it begins with are broken, use others" if begins else "it has diverged, lower lr_scale"
    return FloatingPointError(f"{what} at task {task.index + 1}, {_name(item)}: {mend}")


def _leg(task: Task, place: int, phase: Phase, draws: PhaseSampler) -> PhaseSpan:
    return PhaseSpan(task.index, place, phase.name, phase.epochs, draws.steps_per_epoch, draws.images)


def _refuse_empty(task: Task, phase: Phase, draws: PhaseSampler) -> None:
    if draws.total_steps > 0:
        return
    mend = "type recipe=clean, recipe.repeated_augmentation=false, or a larger data.increment"
    raise UserError(
        f"phase {phase.name} of task {task.index + 1} would take no step: it sees {len(draws.rows[0])} images, and "
        f"{phase.sampling.order.value} sampling with batch.replicas={draws.replicas} yields "
        f"{draws.draws_per_replica} of them: {mend}"
    )
