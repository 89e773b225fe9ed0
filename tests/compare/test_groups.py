"""Which runs share a mean: never two protocols, never one run twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.compare.collect import collect
from cl_lightning.compare.groups import group
from cl_lightning.compare.measured import measure
from cl_lightning.compare.select import refuse_mixture, select, without_unfinished
from cl_lightning.core.errors import UserError
from tests.compare.made import NAMES, PROTOCOL, measured, write_run

CONFIG: dict[str, Any] = {"data": {"classes": None, "image_size": 8}, "model": {"name": "convit_tiny", "dim": 64}}


def names_of(folder: Path) -> dict[str, int]:
    groups, _ = group(measured(folder))
    return {one.name: len(one.runs) for one in groups}


@pytest.mark.parametrize(("orientation", "groups"), [("ignore", 1), ("apply", 2)])
def test_runs_from_before_are_grouped_with_those_that_read_pictures_so_too(
    tmp_path: Path, orientation: str, groups: int
) -> None:
    reading = {"files": "any", "evaluate_on": "auto", "test_split": "per_class", "orientation": orientation}
    write_run(tmp_path / "before", 8, seed=0, config=CONFIG)
    new = {**CONFIG, "data": {**CONFIG["data"], **reading}}
    write_run(tmp_path / "now", 8, seed=1, config=new, evaluation_folder="test")
    assert refuse_mixture(measured(tmp_path)) == ()
    assert len(names_of(tmp_path)) == groups


def test_methods_are_groups_and_seeds_and_orders_their_runs(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"d{seed}", 8, seed=seed)
        write_run(tmp_path / f"f{seed}", 2, seed=seed, method="finetune", memory="none", method_options={})
    write_run(tmp_path / "order", 7, order="seed:3", names=(NAMES[1], NAMES[0], NAMES[2]))
    assert refuse_mixture(measured(tmp_path)) == ()
    groups, notes = group(measured(tmp_path))
    assert {one.name: len(one.runs) for one in groups} == {"dytox": 3, "finetune": 2}
    assert [one.differs for one in groups] == [{"memory": "20 in total"}, {"memory": "none"}]
    assert len(notes) == 1
    assert notes[0].startswith(f"no config.yaml beside the results of {tmp_path}/d0, {tmp_path}/d1 (5 runs): options")


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"epochs": "9 main"}, ["dytox epochs=5 main", "dytox epochs=9 main"]),
        ({"memory": "none", "epochs": "9 main"}, ["dytox memory=20 in total", "dytox memory=none"]),
        (
            {"method_options": {"temperature": 2.0, "finetuning": {"epochs": 20}}},
            ["dytox method.temperature=1.0", "dytox method.temperature=2.0"],
        ),
        (
            {"method_options": {"temperature": 1.0, "finetuning": None}},
            ["dytox method.finetuning=null", "dytox method.finetuning=set"],
        ),
        (
            {"recipe_switches": {"finetuning_order": "sequential"}},
            ["dytox recipe.finetuning_order=sequential", "dytox recipe.finetuning_order=shuffled"],
        ),
        ({"precision": "bf16-mixed"}, ["dytox precision=bf16-mixed", "dytox precision=not recorded"]),
    ],
)
def test_what_differs_is_in_the_names_and_never_averaged(tmp_path: Path, changed: Any, names: list[str]) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 8, **changed)
    assert list(names_of(tmp_path)) == names


def test_the_usual_value_goes_without_saying_where_there_is_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 8, batch=32)
    for index, changed in enumerate(({"memory": "none"}, {"lr_scale": 2.0}, {"epochs": "9 main"})):
        write_run(tmp_path / str(index), 8, batch=32, **changed)
    assert set(names_of(tmp_path)) == {
        "dytox batch=not recorded",
        "dytox",
        "dytox memory=none",
        "dytox lr_scale=2.0",
        "dytox epochs=9 main",
    }


def test_options_of_a_part_that_another_group_lacks_still_tell_groups_apart(tmp_path: Path) -> None:
    for name, finetuning in (("none", None), ("slow", {"lr": 0.1}), ("fast", {"lr": 0.5}), ("long", {"lr": 0.9})):
        write_run(tmp_path / name, 8, method_options={"finetuning": finetuning})
    assert set(names_of(tmp_path)) == {
        "dytox method.finetuning=null",
        "dytox method.finetuning.lr=0.1",
        "dytox method.finetuning.lr=0.5",
        "dytox method.finetuning.lr=0.9",
    }


def test_options_that_only_the_configuration_has_make_groups_too(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8, config=CONFIG)
    write_run(tmp_path / "b", 8, config={**CONFIG, "model": {"name": "convit_tiny", "dim": 96}})
    assert list(names_of(tmp_path)) == ["dytox model.dim=64", "dytox model.dim=96"]


def test_a_run_without_its_configuration_joins_the_one_group_that_it_can_belong_to(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8, config=CONFIG)
    write_run(tmp_path / "b", 7, seed=1)
    assert refuse_mixture(measured(tmp_path)) == ()  # that b does not tell its image size is no difference
    groups, notes = group(measured(tmp_path))
    assert {one.name: len(one.runs) for one in groups} == {"dytox": 2}
    assert notes[0].startswith(f"no config.yaml beside the results of {tmp_path}/b: options of networks")
    write_run(tmp_path / "c", 8, config={**CONFIG, "model": {"name": "convit_tiny", "dim": 96}})
    assert names_of(tmp_path) == {
        "dytox model.dim=64": 1,
        "dytox model.dim=96": 1,
        "dytox model.dim=not recorded": 1,
    }


@pytest.mark.parametrize(
    ("key", "changed", "told"),
    [
        ("data", {"data": "cars"}, "data is pets in {a} and cars in {b}"),
        ("evaluates_on", {"evaluates_on": "validation"}, "evaluates_on is test in {a} and validation in {b}"),
        ("tasks", {"tasks": [2, 2, 4], "classes": 8}, "tasks is 3x2 in {a} and 2x2+4 in {b}"),
        (
            "data.image_size",
            {"config": {**CONFIG, "data": {"image_size": 16}}},
            "data.image_size is 8 in {a} and 16 in",
        ),
        (
            "class_names",
            {"names": (*NAMES[:2], ("ape", "bee"))},
            "class_names is ape, cat, cow ... (6 names, checksum e30a6181) in {a} and",
        ),
    ],
)
def test_another_question_is_refused_by_name_and_allowed_on_demand(
    tmp_path: Path, key: str, changed: Any, told: str
) -> None:
    write_run(tmp_path / "a", 8, config=CONFIG)
    write_run(tmp_path / "b", 6, **{"config": CONFIG, **changed})
    runs = measured(tmp_path)
    with pytest.raises(UserError) as refused:
        refuse_mixture(runs)
    line = str(refused.value)
    assert told.format(a=tmp_path / "a", b=tmp_path / "b") in line
    assert f"--across {key} to have them" in line
    assert "\n" not in line
    differ = refuse_mixture(runs, [key])
    groups, _ = group(runs, differ, [key])
    assert len(groups) == 2
    assert all(one.name.startswith(f"dytox {key}=") for one in groups)


def test_runs_of_two_evaluations_may_be_asked_the_same(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    file = write_run(tmp_path / "b", 6, method="meat") / "results.json"
    results = json.loads(file.read_text())
    results["protocol"]["evaluation"] = "task_incremental"
    file.write_text(json.dumps(results))
    with pytest.raises(
        UserError, match="type --evaluation class_incremental or --evaluation task_incremental to ask the same of all"
    ):
        refuse_mixture(measured(tmp_path))
    asked = [measure(found, "class_incremental") for found in collect([tmp_path])[0]]
    assert refuse_mixture(asked) == ()


def test_an_allowed_difference_is_in_the_name_of_every_group(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 8, method="finetune", data="cars")
    runs = measured(tmp_path)
    groups, _ = group(runs, refuse_mixture(runs, ["data"]), ["data"])
    assert [one.name for one in groups] == ["dytox data=pets", "finetune data=cars"]


def test_what_is_no_part_of_the_question_needs_no_permission(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    with pytest.raises(UserError, match="--across memory is not possible, memory tells groups apart by itself"):
        refuse_mixture(measured(tmp_path), ["memory"])
    with pytest.raises(UserError, match=r"--across tsks is not possible, .*type one of data, classes"):
        refuse_mixture(measured(tmp_path), ["tsks"])


def test_one_run_in_two_places_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 8, commit="def")
    groups, notes = group(measured(tmp_path))
    assert [len(one.runs) for one in groups] == [1]
    assert f"{tmp_path}/b is the same run as {tmp_path}/a: it counts once" in notes
    write_run(tmp_path / "c", 7)
    with pytest.raises(UserError, match=r"/a and .*/c have the same protocol, seed 0 .* --leave-out .*/c, or"):
        group(measured(tmp_path))


def test_several_commits_are_one_group_with_a_line(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 7, seed=1, commit="def+")
    groups, notes = group(measured(tmp_path))
    assert [len(one.runs) for one in groups] == [2]
    assert "the runs of dytox were made with 2 commits: abc, def+" in notes


def test_unfinished_runs_are_left_out_by_name_and_never_averaged_with_others(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 8, seed=1, done=2)
    finished, notes = without_unfinished(measured(tmp_path))
    assert [run.name for run in finished] == [str(tmp_path / "a")]
    assert notes == [f"{tmp_path}/b is left out: 2 of 3 tasks are done (--unfinished keeps it)"]
    assert names_of(tmp_path) == {"dytox tasks_done=2 of 3": 1, "dytox tasks_done=all": 1}
    with pytest.raises(UserError, match="none of .*/b is finished: type --unfinished"):
        without_unfinished(measured(tmp_path / "b"))


def test_only_chooses_by_what_is_shown_or_typed(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8, seed=0)
    write_run(tmp_path / "b", 8, seed=1, memory="none", tasks=[2, 2, 2, 2])

    def left(*only: str) -> list[str]:
        wanted: dict[str, list[str]] = {}
        for one in only:
            wanted.setdefault(one.partition("=")[0], []).append(one.partition("=")[2])
        return [Path(run.name).name for run in select(measured(tmp_path), wanted)]

    assert left("seed=1") == ["b"]
    assert left("seed=0", "seed=1") == ["a", "b"]
    assert left("tasks=4x2") == left("tasks=[2,2,2,2]") == left("memory=none") == ["b"]
    assert left("method.temperature=1") == ["a", "b"]
    with pytest.raises(UserError, match=r"--only memry=none: no run has a memry \(did you mean memory\?\)"):
        left("memry=none")
    with pytest.raises(UserError, match="--only seed=2 leaves no run: type --only seed=0 or seed=1"):
        left("seed=2")
    with pytest.raises(UserError, match="no run is all of --only seed=0 --only memory=none"):
        left("seed=0", "memory=none")


def test_evaluation_and_readout_are_among_what_a_run_has(tmp_path: Path) -> None:
    (found,), _ = collect([write_run(tmp_path / "a", 5, readouts=("nme", "linear"))])
    assert (measure(found).settings["readout"], measure(found, readout="linear").numbers["avg"]) == (
        "nme",
        pytest.approx(100 * (1 + 15 / 20 + 20 / 30) / 3),
    )
    assert measure(found).numbers["avg"] == pytest.approx(100 * (0.9 + 13 / 20 + 17 / 30) / 3)
    with pytest.raises(UserError, match="a has no cosine: type --readout nme or linear"):
        measure(found, readout="cosine")
    with pytest.raises(UserError, match="a has no task: type --evaluation class_incremental or task_incremental"):
        measure(found, "task")
    assert PROTOCOL["method"] == measure(found).settings["method"]


def test_a_label_defines_no_group_and_no_other_run(tmp_path: Path) -> None:
    """A run from before there were labels, or whose label has been put right, is a repetition like any other."""
    write_run(tmp_path / "before", 8, seed=0)
    write_run(tmp_path / "now", 8, seed=1, origin="published")
    write_run(tmp_path / "wrong", 8, seed=2, origin="adaptation")
    write_run(tmp_path / "again", 8, seed=0, origin="adaptation")
    groups, notes = group(measured(tmp_path))
    assert [(one.name, len(one.runs), one.origin) for one in groups] == [("dytox", 3, "adaptation or published")]
    assert any("is the same run as" in note for note in notes)
    (chosen,) = select(measured(tmp_path), {"origin": ("published",), "seed": ("1",)})
    assert chosen.name.endswith("now")
