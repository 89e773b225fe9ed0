"""What a report shows of a run beside its numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from cl_lightning.checkpoint.state import RunState
from cl_lightning.core.records import TaskRecord
from cl_lightning.core.types import Task
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.metrics.confusion import Answers
from cl_lightning.report.data import Published, ReportData, read_report_data
from cl_lightning.run.report_data import ReportBuilder, answers_and_exemplars
from tests.learning.a_phase import Toy, toy
from tests.report.a_run import full_report_data, results

LABELS = torch.arange(8) % 4
SOURCE = ArraySource("toy", torch.arange(8 * 64, dtype=torch.uint8).view(8, 1, 8, 8), LABELS, tuple("abcd"))
TASKS = tuple(
    Task(index, classes, tuple("abcd"[label] for label in classes), torch.tensor(classes), torch.tensor(classes))
    for index, classes in enumerate(((0, 1), (2,), (3,)))
)
SCENARIO = Scenario("toy", SOURCE, SOURCE, TASKS, tuple("abcd"), (0, 1, 2, 3), LABELS, LABELS, 8, 1, "test")
PIPELINE = Pipeline(8, (0.5,), (0.5,), None)
MEMORY = RehearsalMemory(Budget("per_class", 2), "global", 1).update(
    [{0: torch.tensor([0, 4]), 3: torch.tensor([3, 7])}], 4
)
CONFIG: Any = SimpleNamespace(
    report=SimpleNamespace(attention=True, exemplars=1, page=True), data=SimpleNamespace(name="toy", root="unused")
)


class Unasked(Toy):
    """A method whose network may be asked for nothing that takes a forward pass, and for no tokens."""

    def __init__(self) -> None:
        super().__init__(toy(4).network)
        self.network.attention = refused("attention")  # type: ignore[method-assign]
        self.network.task_vectors = refused("tokens")  # type: ignore[method-assign]


def refused(what: str) -> Any:
    def ask(*_: Any) -> None:
        raise AssertionError(f"{what} were asked for")

    return ask


def after_three_tasks() -> RunState:
    shown = full_report_data()
    given = Answers(torch.from_numpy(shown.confusion), torch.from_numpy(shown.reliability))
    return RunState(MEMORY, records=[TaskRecord(i, (i,), ("x",), 1.0, 1.0, 1) for i in range(3)], answers=given)


def test_a_dashboard_is_given_only_what_it_draws() -> None:
    """After every task: no forward pass for attention, no tokens, and nothing of what others published."""
    found = ReportBuilder(CONFIG, SCENARIO, Unasked(), PIPELINE).panels(after_three_tasks(), results())
    assert set(found.pictures) == {"accuracy_matrix", "tasks", "accuracy_after_phases", "confusion_of_tasks",
                                   "calibration", "exemplars"}  # fmt: skip
    assert [picture.caption for picture in found.pictures["exemplars"]] == ["cat", "fox"]


def test_a_page_shows_the_published_curve_that_was_handed_in(tmp_path: Path) -> None:
    curve = Published("DyTox, elsewhere", "Table 1", (90.0, 80.0, 70.0))
    for given in (curve, None):
        ReportBuilder(CONFIG, SCENARIO, toy(4), PIPELINE, given).report(after_three_tasks(), tmp_path)
        assert read_report_data(tmp_path).published == given


@pytest.mark.parametrize(
    ("data", "folder", "has_published"),
    [("image_folder", "pets", False), ("cifar100", "", True), ("digits", "", False)],
)
def test_a_page_knows_what_its_data_are(tmp_path: Path, data: str, folder: str, has_published: bool) -> None:
    config = SimpleNamespace(**{**vars(CONFIG), "data": SimpleNamespace(name=data, root=str(tmp_path / "pets"))})
    ReportBuilder(cast(Any, config), SCENARIO, toy(4), PIPELINE).report(after_three_tasks(), tmp_path)
    found = read_report_data(tmp_path)
    assert (found.folder, found.has_published) == (folder, has_published)


def of_classes(pixels: torch.Tensor, *lists: dict[int, torch.Tensor]) -> ReportData:
    """What is shown of exemplars, three a class, in a run of these images."""
    source = ArraySource("toy", pixels, torch.zeros(len(pixels), dtype=torch.int64), ("a",))
    memory = RehearsalMemory(Budget("total", 12), "per_replica", len(lists)).update(list(lists), 1)
    scenario = dataclasses.replace(SCENARIO, train=source, test=source)
    config: Any = SimpleNamespace(report=SimpleNamespace(exemplars=3))
    return answers_and_exemplars(config, scenario, toy(4), RunState(memory))


def test_large_exemplars_are_made_small_and_small_ones_stay() -> None:
    small = torch.arange(2 * 3 * 8 * 8).to(torch.uint8).view(2, 3, 8, 8)
    found = of_classes(small, {0: torch.tensor([1, 0])}).exemplars[0]
    assert (found == small[[1, 0]].permute(0, 2, 3, 1).numpy()).all()
    large = torch.zeros(1, 3, 96, 192, dtype=torch.uint8)
    large[:, :, :48] = 200
    found = of_classes(large, {0: torch.tensor([0])}).exemplars[0]
    assert found.shape == (1, 24, 48, 3)
    assert (found[:, :12] == 200).all()
    assert (found[:, 12:] == 0).all()


def test_an_exemplar_in_several_lists_is_shown_once() -> None:
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    found = of_classes(pixels, {3: torch.tensor([5, 7, 9])}, {3: torch.tensor([9, 5, 8])})
    assert found.exemplar_counts == {3: 4}
    assert found.exemplars[3].flatten().tolist() == [5, 7, 9], "best first"
