"""A run in a comparison: its numbers worked out by hand, under one evaluation and read-out."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.compare.collect import collect
from cl_lightning.compare.measured import MeasuredRun, measure
from cl_lightning.core.errors import UserError
from tests.compare.made import write_run


def run(folder: Path, evaluation: str | None = None, readout: str | None = None) -> MeasuredRun:
    (found,), *_ = collect([folder])
    return measure(found, evaluation, readout)


def test_numbers_by_hand(tmp_path: Path) -> None:
    """Of 10 images a task, all are right when it is new, and 7 later."""
    write_run(tmp_path / "run", 7)
    found = run(tmp_path)
    assert found.curve == pytest.approx((100, 85, 80))
    assert dict(found.numbers) == pytest.approx(
        {"avg": (100 + 85 + 80) / 3, "last": 80, "forgetting": 30, "backward_transfer": -30}
    )
    assert (found.planned, found.classes_seen, found.finished) == (3, (2, 4, 6), True)
    assert found.classes == ("cat", "dog", "owl", "elk", "ape", "cow")
    assert found.repeat == (0, found.classes)


def test_each_class_weighs_the_same_where_classes_were_counted(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 7, uneven=True)
    found = run(tmp_path)
    assert found.numbers["macro"] == pytest.approx(100 * (2 * (6 / 9 + 1) + 9 / 9 + 1) / 6)
    assert found.numbers["last"] == 80


def test_a_run_that_counted_classes_computed_what_one_of_an_earlier_version_did(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 7)
    write_run(tmp_path / "b", 7, uneven=True)
    assert run(tmp_path / "a").content == run(tmp_path / "b").content
    assert "macro" not in run(tmp_path / "a").numbers


def test_of_one_task_nothing_is_forgotten(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 7, done=1)
    found = run(tmp_path)
    assert set(found.numbers) == {"avg", "last"}
    assert found.settings["tasks_done"] == "1 of 3"
    assert not found.finished
    assert "class_names" not in found.settings


def test_another_read_out_has_numbers_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 7, readouts=("linear", "nme"))
    assert run(tmp_path).settings["readout"] == "linear"
    found = run(tmp_path, "task_incremental", "nme")
    assert found.curve == pytest.approx((90, 75, 70))
    assert (found.settings["evaluation"], found.settings["readout"]) == ("task_incremental", "nme")


def test_what_was_not_evaluated_is_named_with_what_was(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 7)
    with pytest.raises(UserError, match=r"has no nme: type --readout linear"):
        run(tmp_path, readout="nme")
    with pytest.raises(UserError, match=r"has no other: type --evaluation class_incremental or task_incremental"):
        run(tmp_path, "other")


def test_classes_and_images_are_counted_where_a_configuration_tells_of_all(tmp_path: Path) -> None:
    write_run(tmp_path / "whole", 7, config={"data": {"image_size": 8}})
    write_run(tmp_path / "some", 7, config={"data": {"classes": 6}})
    whole, some = run(tmp_path / "whole"), run(tmp_path / "some")
    assert whole.settings["class_names"] == ["ape", "cat", "cow", "dog", "elk", "owl"]
    assert "class_names" not in some.settings
    assert whole.from_config == {"data.image_size"}


def test_what_is_no_answer_makes_no_other_content(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 7, commit="abc")
    write_run(tmp_path / "b", 7, commit="def", images=("other", "images"))
    write_run(tmp_path / "c", 6)
    write_run(tmp_path / "d", 7, multiply_adds=None)
    a, b, c, d = (run(tmp_path / name) for name in "abcd")
    assert (a.commit, b.commit) == ("abc", "def")
    assert a.content == b.content == d.content != c.content
    assert a.costs["multiply_adds"] == 2_000_000
    assert set(d.costs) == {"parameters"}
