"""Runs on other images: never averaged, and told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.compare.groups import group
from cl_lightning.compare.select import refuse_mixture, select
from cl_lightning.core.errors import UserError
from tests.compare.made import measured, write_run

CONFIG = {"data": {"image_size": 8}}
ONE, OTHER, THIRD = "11111111aaaa", "22222222bbbb", "33333333cccc"


def test_equal_names_and_numbers_of_other_test_images_are_another_question(tmp_path: Path) -> None:
    """Three folders with the same classes and counts, one seed each."""
    for seed, test in enumerate((ONE, OTHER, THIRD)):
        write_run(tmp_path / str(seed), 3 * seed, seed=seed, images=(test[::-1], test), config=CONFIG)
    runs = measured(tmp_path)
    with pytest.raises(UserError) as refused:
        refuse_mixture(runs)
    assert str(refused.value) == (
        "these runs are not comparable: they were evaluated on other images: evaluated_on is 11111111 in "
        f"{tmp_path}/0 and 22222222 in {tmp_path}/1 and 33333333 in {tmp_path}/2: type --only evaluated_on=11111111 "
        "(or the other) to choose, or --across evaluated_on to have them in one table"
    )
    (chosen,) = select(runs, {"evaluated_on": ["22222222"]})
    assert chosen.name == f"{tmp_path}/1"
    across = refuse_mixture(runs, ["evaluated_on"])
    groups, _ = group(runs, across, ["evaluated_on"])
    assert {one.name: len(one.runs) for one in groups} == {
        "dytox evaluated_on=11111111": 1, "dytox evaluated_on=22222222": 1, "dytox evaluated_on=33333333": 1
    }  # fmt: skip


def test_other_training_images_are_another_group(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", 8, seed=seed, images=(ONE, THIRD))
    write_run(tmp_path / "b", 7, seed=3, images=(OTHER, THIRD))
    runs = measured(tmp_path)
    assert refuse_mixture(runs) == ()
    groups, notes = group(runs)
    assert {one.name: len(one.runs) for one in groups} == {
        "dytox trained_on=11111111": 3,
        "dytox trained_on=22222222": 1,
    }
    assert notes[-1] == (
        f"other images: {tmp_path}/a0 (3 runs) and {tmp_path}/b were trained on different ones, so that they are "
        "groups of their own (trained_on)"
    )


@pytest.mark.parametrize("all_of_them", [True, False])
def test_results_that_do_not_tell_are_grouped_as_before(tmp_path: Path, all_of_them: bool) -> None:
    write_run(tmp_path / "a", 8, seed=0, images=None, config=CONFIG)
    write_run(tmp_path / "b", 7, seed=1, images=None if all_of_them else (ONE, OTHER), config=CONFIG)
    runs = measured(tmp_path)
    assert refuse_mixture(runs) == ()
    groups, (note,) = group(runs)
    assert {one.name: len(one.runs) for one in groups} == {"dytox": 2}
    who = f"{tmp_path}/a, {tmp_path}/b" if all_of_them else f"{tmp_path}/a"
    assert note == (
        f"not known which images {who} saw, which earlier versions did not record: grouped as if they were the same"
    )


def test_a_run_before_and_after_it_recorded_its_images_is_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8, images=None)
    write_run(tmp_path / "b", 8)
    (one,), notes = group(measured(tmp_path))
    assert len(one.runs) == 1
    assert f"{tmp_path}/b is the same run as {tmp_path}/a: it counts once" in notes


def test_what_belongs_to_neither_of_two_groups_stands_for_itself(tmp_path: Path) -> None:
    for seed, train in enumerate((ONE, OTHER, None)):
        images = None if train is None else (train, THIRD)
        write_run(tmp_path / str(seed), 8, seed=seed, images=images)
    groups, _ = group(measured(tmp_path))
    assert [len(one.runs) for one in groups] == [1, 1, 1]
