"""Numbers of groups against ones worked out by hand, intervals against scipy."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from cl_lightning.compare.groups import Group, group
from cl_lightning.compare.statistics import Summary, baseline_among, differences, summarise
from cl_lightning.core.errors import UserError
from tests.compare.made import measured, write_run


def groups_of(folder: Path) -> list[Group]:
    return group(measured(folder))[0]


def by_name(summaries: list[Summary]) -> dict[str, Summary]:
    return {summary.group.name: summary for summary in summaries}


def test_means_and_deviations_worked_out_by_hand(tmp_path: Path) -> None:
    for seed, last in enumerate((4, 6, 8)):
        write_run(tmp_path / str(seed), last, seed=seed)
    (summary,) = summarise(groups_of(tmp_path))
    # After the second task 14, 16, 18 of 20 are right, after the third 18, 22, 26 of 30.
    assert [value.mean for value in summary.curve] == pytest.approx([100, 80, 100 * 22 / 30])
    assert [value.std for value in summary.curve] == pytest.approx([0, 10, 100 * 4 / 30])
    assert summary.classes_seen == (2, 4, 6)
    avg, last = summary.metrics["avg"], summary.metrics["last"]
    forgetting, transfer = summary.metrics["forgetting"], summary.metrics["backward_transfer"]
    assert avg is not None
    assert (avg.mean, avg.std) == pytest.approx(((100 + 80 + 220 / 3) / 3, (10 + 40 / 3) / 3))
    assert last is not None
    assert (last.mean, last.std) == pytest.approx((220 / 3, 40 / 3))
    assert forgetting is not None
    assert transfer is not None
    assert (forgetting.mean, forgetting.std, transfer.mean) == pytest.approx((40, 20, -40))
    assert summary.parameters is not None
    assert summary.parameters.mean == 1234


def test_a_single_run_has_no_deviation_and_a_single_task_nothing_to_forget(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 5, done=1, tasks=[2], classes=2)
    (summary,) = summarise(groups_of(tmp_path))
    assert summary.metrics["forgetting"] is None
    assert summary.metrics["backward_transfer"] is None
    avg = summary.metrics["avg"]
    assert avg is not None
    assert (avg.mean, avg.std, avg.count) == (100, None, 1)


def test_the_best_group_comes_first_whatever_its_name(tmp_path: Path) -> None:
    for name, last in (("a", 3), ("b", 9), ("c", 6), ("d", 6)):
        write_run(tmp_path / name, last, method=name)
    assert [summary.group.name for summary in summarise(groups_of(tmp_path))] == ["b", "c", "d", "a"]


def test_paired_interval_is_students(tmp_path: Path) -> None:
    ours, theirs = (8, 7, 9, 5), (5, 5, 4, 3)
    for seed, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        write_run(tmp_path / f"a{seed}", other, seed=seed, method="a")
        write_run(tmp_path / f"b{seed}", one, seed=seed, method="b")
    write_run(tmp_path / "alone", 1, seed=9, method="b")
    groups = groups_of(tmp_path)
    (difference,) = differences(groups, baseline_among(groups, None))
    assert (difference.group.name, difference.pairs) == ("b", 4)
    assert difference.why.endswith("in one of the two groups: 1")
    points = [100 * 2 * (one - other) / 30 for one, other in zip(ours, theirs, strict=True)]
    expected = stats.ttest_1samp(points, 0).confidence_interval(0.95)
    last = difference.metrics["last"]
    assert last.half_width is not None
    assert last.mean == pytest.approx(sum(points) / 4)
    assert (last.mean - last.half_width, last.mean + last.half_width) == pytest.approx(tuple(expected))
    # Two of the three accuracies differ, by half and by two thirds of what old tasks differ in.
    assert difference.metrics["avg"].mean == pytest.approx(sum(points) / 4 * (1 / 2 + 2 / 3) / 2)


def test_runs_of_other_seeds_or_another_question_are_no_pairs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 5, method="a", seed=0)
    write_run(tmp_path / "b", 5, method="b", seed=1)
    write_run(tmp_path / "c", 5, method="c", data="cars")
    runs = measured(tmp_path)
    groups, _ = group(runs, ["data"], ["data"])
    found = differences(groups, baseline_among(groups, "a data=pets"))
    assert [(one.pairs, one.metrics) for one in found] == [(0, {}), (0, {})]
    assert found[0].why == (
        "no difference is taken, as no seed and class order is in both: seed 1 order identity here, seed 0 order "
        "identity in a data=pets"
    )
    assert found[1].why == "no difference is taken, as data is another"


def test_the_baseline_is_the_first_finished_group_or_the_one_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 5, method="a", done=2)
    write_run(tmp_path / "b", 5, method="b")
    write_run(tmp_path / "c", 5, method="c")
    groups = groups_of(tmp_path)
    assert baseline_among(groups, None).name.startswith("b")
    assert baseline_among(groups, groups[2].name) is groups[2]
    with pytest.raises(UserError, match='--baseline "z" is none of the groups'):
        baseline_among(groups, "z")
