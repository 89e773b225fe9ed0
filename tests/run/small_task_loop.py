"""A sequence without a network that learns: a method and an engine that note what they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.checkpoint.state import RunState
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Optimiser,
    Outputs,
    Phase,
    PhaseCheckpoint,
    PlanItem,
    Schedule,
    Task,
    View,
)
from cl_lightning.data.loading import Images
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.learning.engine import Fitted, Judges, Observers
from cl_lightning.learning.stopping_rule import StoppingRule, StoppingState
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.run.task_loop import LoopOptions
from cl_lightning.run.task_loop import TaskLoop as TaskSequence
from tests.learning.a_phase import LABELS, PIXELS, TASKS, Record, toy

SOURCE = ArraySource("toy", PIXELS, LABELS, tuple("abcde"))
SCENARIO = Scenario("toy", SOURCE, SOURCE, TASKS, tuple("abcde"), tuple(range(5)), LABELS, LABELS, 8, 1, "test")
SET_ASIDE = dataclasses.replace(SCENARIO, validation=SOURCE, validation_labels=LABELS)
"""With images set aside; here all of them."""
Event = tuple[Any, ...]


def phase(name: str, view: View = View.MERGED, epochs: int = 2) -> Phase:
    return Phase(name, view, epochs, Optimiser("sgd", 0.1), Schedule("constant"), ("backbone",))


MAIN, SECOND = Fit(phase("main")), Fit(phase("second", View.MEMORY, 1))
PLAN = (Grow(), MAIN, Herd(), Act("align"), SECOND, Evaluate())
"""A task of two phases."""


class Plotted(Method):
    """Does what its plan says in no time at all, and reads the scores from the images themselves."""

    def __init__(self, events: list[Event], plan: Sequence[PlanItem] = PLAN) -> None:
        super().__init__(toy(2).network)
        self.events = events
        self.items = list(plan)
        self.seen = 0
        self.pending: frozenset[str] = frozenset()

    def plan(self, task: Task) -> list[PlanItem]:
        return self.items

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        raise AssertionError("the engine of these tests takes no step")

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        self.events.append(("grow", task.index))
        self.seen = task.num_seen

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        self.events.append(("act", task.index, name))

    def embed(self, images: Tensor) -> Tensor:
        return images

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        scores = images[:, : self.seen]
        return {"linear": scores, "always the first": torch.eye(self.seen)[:1].expand(len(images), -1)}

    def readouts(self) -> dict[str, Any]:
        return {**super().readouts(), "always the first": next(iter(super().readouts().values()))}

    def pending_readouts(self) -> frozenset[str]:
        return self.pending


def images(rows: Tensor, wrong: Sequence[int] = ()) -> Images:
    """Images whose pixels are the scores of the right class, or of class 0 for the rows in ``wrong``."""
    labels = LABELS[rows]
    told = torch.where(torch.isin(rows, torch.tensor(list(wrong), dtype=torch.int64)), 0, labels)
    return Images(torch.eye(5)[told], labels, torch.arange(len(rows)), 0, rows)


class NotedDisplay:
    """Notes phases, and how many of their steps were taken before."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def start(self, leg: Any, steps_done: int = 0) -> None:
        self.events.append(("start", leg.task, leg.item, leg.phase, steps_done))

    def finish(self) -> None:
        self.events.append(("finish",))

    def say(self, text: str) -> None:
        self.events.append(("say", text))


class NotedLeaving(NoCheckpoints):
    """Notes every place where the state would be kept; calls ``then`` there."""

    def __init__(self, events: list[Event], then: Callable[[], None]) -> None:
        self.events = events
        self.then = then

    def after_item(self) -> None:
        self.events.append(("keep",))
        self.then()


class FakeEngine:
    """Trains nothing, and looks at every image once."""

    precision = "32-true"

    def __init__(self, events: list[Event], wrong: Sequence[int] = (), then: Callable[[], None] = lambda: None) -> None:
        self.events = events
        self.wrong = wrong
        self.fitted: dict[tuple[int, str], PhaseSampler] = {}
        self.class_weights: dict[tuple[int, str], Tensor | None] = {}
        self.judges: dict[tuple[int, str], Judges | None] = {}
        self.observers = Observers(NotedDisplay(events), Record(), NotedLeaving(events, then))  # type: ignore[arg-type]

    def fit(
        self,
        method: Method,
        task: Task,
        phase: Phase,
        draws: PhaseSampler,
        key: Key,
        left: PhaseCheckpoint | None = None,
        class_weights: Tensor | None = None,
        judges: Judges | None = None,
    ) -> Fitted:
        self.judges[task.index, phase.name] = judges
        self.class_weights[task.index, phase.name] = class_weights
        before = 0 if left is None else left.steps
        self.events.append(("fit", task.index, phase.name, before))
        self.fitted[task.index, phase.name] = draws
        images = draws.images * (draws.total_steps - before) // draws.total_steps
        stopping = None if judges is None else StoppingState(checks=2, best=0.75, best_check=1)
        return Fitted(draws.total_steps, images, 2.0, stopping)

    def map_groups(self, network: Any, groups: Sequence[Tensor], embed: Any, function: Any, *, key: Any) -> list[Any]:
        self.events.append(("herd", [int(LABELS[rows[0]]) for rows in groups]))
        return [function(torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(0))) for rows in groups]

    def visit_test(self, network: Any, rows: Tensor, visit: Callable[[Images], None]) -> None:
        self.events.append(("visit", len(rows)))
        for chunk in rows.split(7):
            visit(images(chunk, self.wrong))

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Plot:
    """A sequence over three tasks of 2, 1 and 2 classes with twelve images each, and what it did."""

    def __init__(
        self,
        plan: Sequence[PlanItem] = PLAN,
        *,
        size: int = 20,
        budget: str = "total",
        batch: int = 4,
        replicas: int = 1,
        scope: str = "global",
        state: RunState | None = None,
        wrong: Sequence[int] = (),
        then: Callable[[], None] = lambda: None,
        balance: str = "none",
        stopping: StoppingRule | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.method = Plotted(self.events, plan)
        memory = RehearsalMemory(Budget(budget, size), scope, replicas)
        settings = LoopOptions(Key(7), batch, replicas, flips=True, balance=balance, stopping=stopping)
        self.sequence = TaskSequence(
            SCENARIO if stopping is None else SET_ASIDE, self.method, state or RunState(memory), settings
        )
        self.engine: Any = FakeEngine(self.events, wrong, then)

    @property
    def state(self) -> RunState:
        return self.sequence.state

    def run(self, after_phase: Any = None) -> list[int]:
        """Go on to the end; returns the tasks that were learnt."""
        return [task.index for task in self.sequence.run(self.engine, after_phase)]


@contextmanager
def until(place: int) -> Iterator[Callable[[], None]]:
    """What stops a run at its ``place``-th place; the block ends there."""
    left = place

    def stop() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise InterruptedError

    try:
        yield stop
    except InterruptedError:
        return
    raise AssertionError("the run has come to its end")
