"""The plot: items in order, places to leave at, phases ahead, and right answers by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from cl_lightning.checkpoint.state import Cursor
from cl_lightning.core.errors import UserError
from cl_lightning.core.types import (
    CLASS_INCREMENTAL,
    TASK_INCREMENTAL,
    TASK_INFERENCE,
    Act,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Herd,
    HoldOut,
    PhaseCheckpoint,
    Task,
    View,
)
from cl_lightning.learning.finite_check import ScoresCheck
from cl_lightning.learning.stopping_rule import StoppingRule
from cl_lightning.metrics.confusion import Tally
from cl_lightning.resources.costs import multiply_adds, peak_memory
from cl_lightning.run.evaluation import evaluate_all, evaluate_ready
from tests.run.small_task_loop import LABELS, MAIN, PLAN, SCENARIO, TASKS, Plot, Plotted, images, phase, until

FIRST_TASK = [
    ("grow", 0), ("keep",),
    ("start", 0, 1, "main", 0), ("fit", 0, "main", 0), ("finish",), ("keep",),
    ("herd", [0, 1]), ("keep",),
    ("act", 0, "align"), ("keep",),
    ("start", 0, 4, "second", 0), ("fit", 0, "second", 0), ("finish",), ("keep",),
    ("visit", 24), ("keep",),
]  # fmt: skip
"""Each item of the plan, and the state kept behind each; behind the last one when the task is in the records."""


def learnt(plot: Plot, *kinds: str) -> list[tuple[Any, ...]]:
    return [event for event in plot.events if event[0] in kinds]


# ---- order, places, records --------------------------------------------------------------------------------------


def test_items_are_carried_out_in_order_and_the_state_is_kept_behind_each() -> None:
    plot = Plot()
    assert plot.run() == [0, 1, 2]
    assert plot.events[: len(FIRST_TASK)] == FIRST_TASK
    assert len(learnt(plot, "keep")) == 3 * len(PLAN)
    assert learnt(plot, "herd") == [("herd", [0, 1]), ("herd", [2]), ("herd", [3, 4])], "the new classes alone"
    assert learnt(plot, "visit") == [("visit", 24), ("visit", 36), ("visit", 60)], "all tasks so far"


def test_what_is_known_after_each_task() -> None:
    plot = Plot()
    tasks = plot.sequence.run(plot.engine)
    assert next(tasks).index == 0
    (record,) = plot.state.records
    assert (record.index, record.classes, record.names) == (0, (0, 1), ("0", "1"))
    assert record.parameters == sum(p.numel() for p in plot.method.network.parameters())
    assert record.multiply_adds == multiply_adds(plot.method.network, SCENARIO.image_size, SCENARIO.channels) > 0
    assert record.peak_memory is not None
    assert 0 < record.peak_memory <= peak_memory()
    assert record.peak_gpu_memory is None
    # 24 images twice and 20 exemplars once, two seconds each
    assert record.images_per_second == pytest.approx((2 * 24 + 20) / 4.0)
    phases = [(p.task, p.phase, p.steps, p.images) for p in plot.state.phases]
    assert phases == [(0, "main", 12, 48), (0, "second", 5, 20)]
    assert plot.state.step_offset == 17
    assert plot.engine.observers.curves.offset == 17, "the next phase's points lie behind these"
    assert plot.state.precisions == [(0, "main", "32-true"), (0, "second", "32-true")]
    assert plot.state.position.items == 0
    assert [task.index for task in tasks] == [1, 2]
    assert [len(matrix) for matrix in plot.state.matrices[CLASS_INCREMENTAL].values()] == [3, 3]


@pytest.mark.parametrize("place", [1, 2, 3, 4, 5, 6, 7, 12, 17])
def test_a_run_goes_on_behind_the_item_that_was_kept_last(place: int) -> None:
    whole = Plot()
    whole.run()
    with until(place) as stop:
        begun = Plot(then=stop)
        begun.run()
    again = Plot(state=begun.state)
    again.method.seen = begun.method.seen
    again.run()
    assert begun.events + again.events == whole.events
    assert [record.index for record in again.state.records] == [0, 1, 2]
    assert again.state.step_offset == whole.state.step_offset
    assert again.state.memory.state() == whole.state.memory.state()


def test_a_run_goes_on_within_a_phase() -> None:
    """The engine is given where the phase was left, once, and the display how much of it is done."""
    plot = Plot()
    left = PhaseCheckpoint(5, {}, {})
    plot.state.cursor = Cursor(items=1, left=left)
    plot.method.seen = 2
    next(plot.sequence.run(plot.engine))
    assert plot.events[:2] == [("start", 0, 1, "main", 5), ("fit", 0, "main", 5)]
    assert learnt(plot, "fit")[1] == ("fit", 0, "second", 0)
    assert plot.state.phases[0].images == 48 * 7 // 12, "since it was gone on with"


# ---- balance of classes ----------------------------------------------------------------------------------------------


def test_no_phase_is_balanced_unasked() -> None:
    plot = Plot(balance="none")
    plot.run()
    assert set(plot.engine.class_weights.values()) == {None}
    assert all(draws.classes is None for draws in plot.engine.fitted.values())


def test_old_classes_weigh_as_much_as_new_ones_in_the_loss() -> None:
    """Task 2: twelve images of the new class, ten exemplars of either old one; the memory itself is even."""
    plot = Plot(balance="loss")
    plot.run()
    weights = plot.engine.class_weights[1, "main"]
    assert weights.tolist() == pytest.approx([32 / 30, 32 / 30, 32 / 36])
    assert plot.engine.class_weights[0, "main"] is None, "even as it is"
    assert plot.engine.class_weights[1, "second"] is None
    assert all(draws.classes is None for draws in plot.engine.fitted.values())


def test_classes_are_drawn_alike_where_they_are_uneven() -> None:
    plot, plain = Plot(balance="sampling"), Plot()
    plot.run()
    plain.run()
    uneven = {key for key, draws in plot.engine.fitted.items() if draws.classes is not None}
    assert uneven == {(1, "main"), (2, "main")}
    assert set(plot.engine.class_weights.values()) == {None}
    steps = {key: draws.total_steps for key, draws in plot.engine.fitted.items()}
    assert steps == {key: draws.total_steps for key, draws in plain.engine.fitted.items()}


# ---- early stopping --------------------------------------------------------------------------------------------------

RULE = StoppingRule("accuracy", 2)


def test_no_phase_ends_early_unasked() -> None:
    plot = Plot()
    plot.run()
    assert set(plot.engine.judges.values()) == {None}
    assert not any(span.may_stop for span in Plot().sequence.forecast())


def test_a_phase_is_judged_by_images_of_its_own_task_and_a_balanced_one_never() -> None:
    """Images of earlier tasks are gone for a continual learner; those of the new one alone would judge a balanced
    phase wrongly.
    """
    plot = Plot(stopping=RULE)
    assert [span.may_stop for span in plot.sequence.forecast()] == [True, False] * 3
    plot.run()
    judged = {key: judges for key, judges in plot.engine.judges.items() if judges is not None}
    assert set(judged) == {(0, "main"), (1, "main"), (2, "main")}
    for (task, _), judges in judged.items():
        assert set(LABELS[judges.rows].tolist()) == set(plot.sequence.scenario.tasks[task].classes)
        assert judges.rule == RULE
    said = [event[1] for event in plot.events if event[0] == "say"]
    assert said[0] == (
        "task 1, phase main: 2 of at most 2 epochs, kept the network of epoch 1 "
        "(accuracy 75.0 % on 24 images set aside)"
    )


def test_joint_training_has_all_tasks_and_is_judged_by_them() -> None:
    plot = Plot([Grow(), Fit(phase("main", View.CUMULATIVE)), Evaluate()], stopping=RULE)
    plot.run()
    assert [len(plot.engine.judges[task, "main"].rows) for task in range(3)] == [24, 36, 60]


# ---- phases ahead --------------------------------------------------------------------------------------------------


def legs(plot: Plot, last: int | None = None) -> list[tuple[Any, ...]]:
    ahead = plot.sequence.forecast(last)
    return [(leg.task, leg.item, leg.phase, leg.epochs, leg.steps_per_epoch, leg.images) for leg in ahead]


def test_the_forecast_is_what_then_happens() -> None:
    """Exemplars: 20 of 2 classes are 20; of 3 are 6 each; of 5 are 4 each."""
    plot = Plot()
    expected = [
        (0, 1, "main", 2, 6, 48), (0, 4, "second", 1, 5, 20),
        (1, 1, "main", 2, 8, 64), (1, 4, "second", 1, 4, 16),
        (2, 1, "main", 2, 10, 80), (2, 4, "second", 1, 5, 20),
    ]  # fmt: skip
    assert legs(plot) == expected
    assert legs(plot, 1) == expected[:4]
    plot.run()
    fitted = [(draws.steps_per_epoch, draws.images) for draws in plot.engine.fitted.values()]
    assert fitted == [leg[4:] for leg in expected]


def test_the_forecast_begins_where_the_run_stands() -> None:
    plot = Plot()
    next(plot.sequence.run(plot.engine))
    plot.state.cursor.items = 2
    assert [leg[:3] for leg in legs(plot)] == [(1, 4, "second"), (2, 1, "main"), (2, 4, "second")]


def test_a_phase_that_would_take_no_step_is_refused_before_anything_is_done() -> None:
    plot = Plot([Grow(), Fit(phase("second", View.MEMORY)), Evaluate()])
    with pytest.raises(UserError, match="phase second of task 1 would take no step: it sees 0 images"):
        plot.sequence.forecast()
    assert plot.events == []


def test_a_memory_that_would_not_last_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size=4 is smaller than the 5 classes seen"):
        Plot(size=4).sequence.forecast()
    assert Plot(size=4).sequence.forecast(1), "it lasts as far as the run goes"


HELD = [HoldOut(0.1), Grow(), MAIN, Fit(phase("bias", View.HELD_OUT)), Herd(), Evaluate()]


@pytest.mark.parametrize(("scope", "replicas"), [("global", 1), ("global", 2), ("per_replica", 2)])
def test_what_is_held_out_no_phase_trains_on_and_nothing_herds(scope: str, replicas: int) -> None:
    """In BiC's plan the bias is corrected on images that were not trained on, in no task."""
    plot = Plot(HELD, size=60 * replicas, batch=1, scope=scope, replicas=replicas)
    ahead = {(leg.task, leg.phase): (leg.steps_per_epoch, leg.images) for leg in plot.sequence.forecast()}
    plot.run()
    ever_held: set[int] = set()
    ever_trained: set[int] = set()
    for task in TASKS:
        main, bias = plot.engine.fitted[task.index, "main"], plot.engine.fitted[task.index, "bias"]
        ever_trained |= {row for rows in main.rows for row in rows.tolist()}
        fitted = {row for rows in bias.rows for row in rows.tolist()}
        assert {int(LABELS[row]) for row in fitted} == set(range(task.num_seen)), "old and new classes"
        ever_held |= fitted
        for name, draws in (("main", main), ("bias", bias)):
            assert ahead[task.index, name] == (draws.steps_per_epoch, draws.images), "as forecast"
    assert not ever_trained & ever_held
    memory = plot.state.memory
    assert not {row for replica in range(replicas) for row in memory.rows(replica).tolist()} & ever_held
    assert set(memory.held_out_rows().tolist()) <= ever_held
    assert len(memory) + len(memory.held_out_rows()) <= memory.budget.size


def test_a_method_that_looks_at_its_classes_sees_nothing_that_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imprinted rows and class means are learnt from images too."""
    plot, seen = Plot([HoldOut(0.1), Grow(), Act("look"), MAIN, Herd(), Evaluate()], size=60), []

    def look(name: str, task: Task, data: DataAccess) -> None:
        held = set(plot.state.memory.held_out_rows().tolist())
        rows = {row for label in task.classes for row in data.rows_of(label).tolist()}
        seen.append((len(rows), len(rows & held), len(held & set(task.train.tolist()))))
        assert not {row for of_class in data.exemplars.values() for row in of_class.tolist()} & held

    monkeypatch.setattr(plot.method, "act", look)
    plot.run()
    assert seen == [(18, 0, 6), (9, 0, 3), (18, 0, 6)], "three of the twelve images of each class"


def test_a_balanced_view_draws_anew_for_every_phase() -> None:
    plan = [Grow(), Fit(phase("one", View.BALANCED)), Fit(phase("other", View.BALANCED)), Herd(), Evaluate()]
    plot = Plot(plan)
    plot.run()
    one, other = (plot.engine.fitted[1, name].rows[0].tolist() for name in ("one", "other"))
    assert sorted(one) != sorted(other)
    assert len(one) == len(other)


# ---- right answers -------------------------------------------------------------------------------------------------

WRONG = (6, 11, 12)
"""Rows of class 1 (6, 11) and of class 2 (12) that are taken for class 0."""


@pytest.fixture
def method() -> Plotted:
    method = Plotted([])
    method.seen = 3
    return method


def test_all_readouts_are_counted_by_all_protocols(method: Plotted) -> None:
    """Rows 0 to 12 without classes 3 and 4: of class 0 rows 0 5 10, of class 1 rows 1 6 11, of class 2 rows 2 7 12."""
    rows = torch.tensor([0, 5, 10, 1, 6, 11, 2, 7, 12])
    tally = Tally()
    counted = evaluate_all(method, images(rows, WRONG), [0, 2, 3], ScoresCheck(), tally)
    cells = {name: counts.by_task([0, 2, 3]).cells() for name, counts in counted.items()}
    assert next(iter(cells)) == (CLASS_INCREMENTAL, "linear"), "the main ones first"
    assert cells == {
        (CLASS_INCREMENTAL, "linear"): ((4, 6, 6), (2, 3, 3)),
        (TASK_INCREMENTAL, "linear"): ((4, 6, 6), (3, 3, 3)),
        (TASK_INFERENCE, "linear"): ((6, 6, 6), (2, 3, 3)),
        (CLASS_INCREMENTAL, "always the first"): ((3, 6, 6), (0, 3, 3)),
        (TASK_INCREMENTAL, "always the first"): ((3, 6, 6), (3, 3, 3)),
        (TASK_INFERENCE, "always the first"): ((6, 6, 6), (0, 3, 3)),
    }
    assert counted[CLASS_INCREMENTAL, "linear"].cells() == ((3, 3, 3), (1, 3, 3), (2, 3, 3)), "class by class"
    answers = tally.total
    assert answers is not None
    assert answers.confusion.tolist() == [[3, 0, 0], [2, 1, 0], [1, 0, 2]], "of the main read-out"
    assert answers.reliability[:, :, 0].sum(dim=1).tolist() == [6, 3], "of old and of new classes"


def test_a_readout_that_is_not_ready_is_not_counted_after_a_phase(method: Plotted) -> None:
    method.pending = frozenset({"always the first"})
    counted = evaluate_ready(method, images(torch.tensor([0, 1, 2]), WRONG), [0, 2, 3], ScoresCheck())
    assert {readout for _, readout in counted} == {"linear"}
    assert counted[CLASS_INCREMENTAL, "linear"].cells() == ((1, 1, 1), (1, 1, 1), (1, 1, 1))
    method.pending = frozenset({"linear", "always the first"})
    assert evaluate_ready(method, images(torch.tensor([0])), [0, 2, 3], ScoresCheck()) == {}


@pytest.mark.parametrize("evaluate", [partial(evaluate_all, answered=Tally()), evaluate_ready], ids=["all", "ready"])
def test_scores_that_are_not_finite_are_noted_but_for_those_that_are_not_ready(method: Plotted, evaluate: Any) -> None:
    batch = images(torch.tensor([0, 1, 2]))
    batch = batch._replace(images=torch.where(batch.images == 1, torch.inf, 0.0))
    watch = ScoresCheck()
    evaluate(method, batch, [0, 2, 3], check=watch)
    assert watch.broken() == ["linear"]
    method.pending, watch = frozenset({"linear"}), ScoresCheck()
    evaluate(method, batch, [0, 2, 3], check=watch)
    assert watch.broken() == []


def test_the_matrix_of_a_run_by_hand() -> None:
    """Twelve images a class; rows 6 and 11 are of class 1, row 12 of class 2."""
    plot = Plot([Grow(), MAIN, Herd(), Evaluate()], wrong=WRONG)
    plot.run()
    matrix = plot.state.matrices[CLASS_INCREMENTAL]["linear"]
    assert [[cell[0] for cell in row] for row in matrix.rows] == [[22], [22, 11], [22, 11, 24]]
    of_classes = plot.state.class_counts[CLASS_INCREMENTAL]["linear"]
    assert of_classes.rows[1] == ((12, 12), (10, 12), (11, 12))
    assert of_classes.macro(1) == 33 / 36, "as many images of each class: the accuracy on all of them"
    assert plot.state.answers is not None
    assert plot.state.answers.confusion[:, 0].tolist() == [12, 2, 1, 0, 0]


@pytest.mark.parametrize("place", [10, 11])
def test_phases_are_evaluated_once_also_where_a_run_goes_on(place: int) -> None:
    """Left in the second task, behind its main phase and behind what the evaluation of that has brought."""
    told: list[tuple[int, int, str]] = []

    def after_phase(entry: Any) -> None:
        told.append((entry.task, entry.item, entry.phase))

    expected = [(task, item, name) for task in range(3) for item, name in ((1, "main"), (4, "second"))]
    with until(place) as stop:
        begun = Plot(then=stop, wrong=WRONG)
        begun.run(after_phase)
    again = Plot(state=begun.state, wrong=WRONG)
    again.method.seen = begun.method.seen
    again.run(after_phase)
    assert told == expected
    assert [(e.task, e.item, e.phase) for e in again.state.after_phases] == expected
    first = again.state.after_phases[0].counts[CLASS_INCREMENTAL]["linear"]
    assert [cell[0] for cell in first] == [22]


def test_a_score_that_is_not_finite_ends_the_run() -> None:
    plot = Plot()
    plot.engine.visit_test = lambda network, rows, visit: visit(
        images(rows)._replace(images=torch.full((len(rows), 5), torch.nan))
    )
    with pytest.raises(FloatingPointError, match="a linear score of a test image is nan at task 1, evaluate"):
        plot.run()
