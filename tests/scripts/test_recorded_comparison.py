"""What a comparison with a recorded run sees, on a run made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.reference.comparison import BOUNDS, DifferenceError, RunComparison
from scripts.reference.difference import Row, Verdict
from scripts.reference.recorded import describes
from tests.scripts.a_recorded_run import BIAS, SETTINGS, Arrays, arrays, play, run_of


def compared(path: Path, theirs: Arrays, ours: Arrays | None = None, *, stop: bool = False) -> RunComparison:
    comparison = RunComparison(run_of(path / "run.npz", theirs), stop=stop)
    play(comparison, ours or arrays())
    return comparison


def failed(comparison: RunComparison) -> dict[str, Row]:
    return {row.entry: row for row in comparison.rows if row.verdict.failed}


def test_equal_runs_are_equal_and_nothing_is_passed_over(tmp_path: Path) -> None:
    comparison = compared(tmp_path, arrays())
    assert {row.verdict for row in comparison.rows} == {Verdict.EQUAL}
    assert comparison.unchecked() == []
    told = {row.entry.partition("[")[0] for row in comparison.rows}
    assert told == {n for n in arrays() if not describes(n) and not n.startswith("final/")} | {"final/"}
    assert {row.entry for row in comparison.rows if "task1/main/losses[" in row.entry} == {
        f"task1/main/losses[{term}]" for term in ("classification", "distillation", "divergence")
    }
    assert comparison.accuracies == [[0.5], [0.25, 1.0]]


FARTHER = 1.5 * BOUNDS.loss
CHANGES = [
    ("task0/main/rows", (2, 1, 0), 1, "task0/main/rows", "first at step 2"),
    ("task0/main/rows", (3, 0, 0), 1, "task0/main/rows", "first at step 3"),
    ("task1/main/lr", 1, 2e-12, "task1/main/lr", "first at epoch 1: 2.0e-12 apart"),
    ("task1/main/losses", (1, 1, 1), FARTHER, "task1/main/losses[distillation]", "first at step 1: 1.5e-04 apart"),
    ("task1/main/losses_at_worst", (0, 0, 2), FARTHER, "task1/main/losses_at_worst[divergence]", "first at step 0"),
    ("task0/main/losses", (3, 0, 0), np.nan, "task0/main/losses[classification]", "step 3: none in the file"),
    ("task1/finetuning/after", (0, 0), 0.2, "task1/finetuning/after", "of the norm of decoder.norm1.weight"),
    ("task1/finetuning/after", (3, 1), 0.2, "task1/finetuning/after", "of the norm of head.1.head.weight"),
    ("task1/memory/rows", 1, 1, "task1/memory/rows", "first at rank 1, 1 of 4"),
    ("task1/memory/labels", 0, 1, "task1/memory/labels", "first at rank 0, 1 of 4"),
    ("task0/probe_logits", (1, 1), 6e-3, "task0/probe_logits", ""),
    ("task1/predictions", 5, 1, "task1/predictions", "first at image 5, 1 of 6; smallest_margin=2.5e-02"),
    ("accuracy_matrix", (1, 0), 1e-3, "accuracy_matrix[1]", "first at column 0"),
    ("curve", 0, 1e-3, "curve", ""),
    ("avg", (), 1e-3, "avg", ""),
    ("last", (), 1e-3, "last", ""),
    ("final/head.0.head.weight", (1, 2), 0.1, "final/", "of its norm"),
]


@pytest.mark.parametrize(("entry", "place", "by", "told", "note"), CHANGES)
def test_a_number_that_differs_is_seen_where_it_is(
    tmp_path: Path, entry: str, place: object, by: float, told: str, note: str
) -> None:
    changed = arrays()
    changed[entry][place] += np.asarray(by).astype(changed[entry].dtype)  # type: ignore[index]
    found = failed(compared(tmp_path, changed))
    assert set(found) == {told}
    assert note in found[told].note
    with pytest.raises(DifferenceError) as stopped:
        compared(tmp_path, changed, stop=True)
    assert stopped.value.row.entry == told
    assert note in stopped.value.row.note


def test_a_step_with_other_many_images_is_seen(tmp_path: Path) -> None:
    changed = arrays()
    changed["task0/main/rows"][2, 1, 1] = -1
    (found,) = failed(compared(tmp_path, changed)).values()
    assert (found.entry, found.note) == ("task0/main/rows", "first at step 2: 4 here and 3 in the file")


def test_a_term_that_ours_has_alone_is_seen(tmp_path: Path) -> None:
    ours = arrays()
    ours["task0/main/losses"][2, :, 1] = 0.0
    (found,) = failed(compared(tmp_path, arrays(), ours)).values()
    assert (found.entry, found.note) == ("task0/main/losses[distillation]", "first at step 2: none in the file")


def test_a_loss_of_ours_that_is_no_number_is_seen(tmp_path: Path) -> None:
    ours = arrays()
    ours["task0/main/losses"][1, 0, 0] = np.nan
    (found,) = failed(compared(tmp_path, arrays(), ours)).values()
    assert "step 1: none here" in found.note


@pytest.mark.parametrize(
    ("entry", "place", "by"),
    [
        ("task1/main/losses", (1, 1, 1), BOUNDS.loss / 2),
        ("task1/main/lr", 1, BOUNDS.rate / 2),
        ("task0/probe_logits", (1, 1), BOUNDS.logits / 2),
        (f"final/{BIAS}", (0, 0), 100.0),
        ("task0/main/after", (1, 0), 100.0),
    ],
)
def test_rounding_and_what_is_free_are_passed_over(tmp_path: Path, entry: str, place: object, by: float) -> None:
    changed = arrays()
    if entry == "task0/main/after":
        assert changed["task0/main/parameters"][1] == BIAS
    changed[entry][place] += np.asarray(by).astype(changed[entry].dtype)  # type: ignore[index]
    assert failed(compared(tmp_path, changed)) == {}


@pytest.mark.parametrize(("gap", "said"), [(2e-7, "may change places"), (3e-3, "does not change places")])
def test_a_pick_that_was_close_is_reported_by_its_gap(tmp_path: Path, gap: float, said: str) -> None:
    changed = arrays()
    changed["task0/memory/smallest_gap"][:] = [1.0, gap]
    changed["task0/memory/rows"][2:] = changed["task0/memory/rows"][[3, 2]]
    note = failed(compared(tmp_path, changed))["task0/memory/rows"].note
    assert note.startswith(f"first at rank 2, 2 of 4; of class 1, smallest_gap={gap:.1e}: rounding {said}")


def test_the_gap_is_that_of_the_task_which_brought_the_class(tmp_path: Path) -> None:
    changed = arrays()
    changed["task1/memory/rows"][1] += 1  # class 1, of the first task
    changed["task0/memory/smallest_gap"][1] = 7e-7
    assert "of class 1, smallest_gap=7.0e-07" in failed(compared(tmp_path, changed))["task1/memory/rows"].note
    changed = arrays()
    changed["task1/memory/rows"][3] += 1
    changed["task1/memory/smallest_gap"][1] = 8e-7
    assert "of class 3, smallest_gap=8.0e-07" in failed(compared(tmp_path, changed))["task1/memory/rows"].note


def without(*names: str) -> Callable[[Arrays], Arrays]:
    return lambda made: {name: value for name, value in made.items() if not name.startswith(names)}


def longer(made: Arrays) -> Arrays:
    for name in ("rows", "losses"):
        made[f"task0/main/{name}"] = np.concatenate([made[f"task0/main/{name}"]] * 2)
    return made


def shorter(made: Arrays) -> Arrays:
    return made | {f"task0/main/{name}": made[f"task0/main/{name}"][:3] for name in ("rows", "losses")}


@pytest.mark.parametrize(
    ("change", "told", "note"),
    [
        (longer, "task0/main/rows", "first at step 4, which is in the file alone"),
        (shorter, "task0/main/rows", "first at step 3, which is not in the file"),
        (without("task1/finetuning/rows"), "task1/finetuning/rows", "a phase that is not in the file"),
    ],
)
def test_steps_and_phases_of_one_side_alone(
    tmp_path: Path, change: Callable[[Arrays], Arrays], told: str, note: str
) -> None:
    assert failed(compared(tmp_path, change(arrays())))[told].note == note


def test_a_phase_and_a_memory_that_ours_leaves_out(tmp_path: Path) -> None:
    assert failed(compared(tmp_path, arrays(), without("task1/finetuning/")(arrays())))[
        "task1/finetuning/rows"
    ].note == ("in the file alone")
    comparison = RunComparison(run_of(tmp_path / "run.npz", arrays()))
    comparison.on_memory = lambda task, exemplars: None  # type: ignore[method-assign]
    play(comparison, arrays())
    assert {row.entry for row in comparison.rows if row.note == "in the file alone"} == {
        "task0/memory/rows", "task1/memory/rows",
    }  # fmt: skip


def test_a_second_pass_that_ours_leaves_out(tmp_path: Path) -> None:
    found = failed(compared(tmp_path, arrays(), without("task1/main/losses_at_worst")(arrays())))
    assert {row.note for row in found.values()} == {"first at step 0: no second pass here"}
    assert len(found) == 3


def test_entries_that_the_format_promises_are_missed(tmp_path: Path) -> None:
    names = (
        "task0/main/lr", "task0/main/losses", "task0/main/after", "task1/memory/labels", "task1/predictions",
        "task1/probe_logits", "accuracy_matrix", "curve", "avg", "last",
    )  # fmt: skip
    found = failed(compared(tmp_path, without(*names)(arrays())))
    assert {name for name, row in found.items() if row.verdict is Verdict.LACKING} == set(names)


def test_exemplars_answers_and_weights_of_other_number(tmp_path: Path) -> None:
    changed = arrays()
    for name in ("task0/memory/rows", "task1/predictions"):
        changed[name] = changed[name][:-1]
    changed["task0/main/parameters"][0] = "decoder.norm2.weight"
    changed["final/more"] = np.zeros(1, np.float32)
    found = failed(compared(tmp_path, changed))
    assert {name: row.note for name, row in found.items()} == {
        "task0/memory/rows": "4 here, 3 in the file",
        "task1/predictions": "6 here, 5 in the file",
        "task0/main/after": "decoder.norm1.weight is on one side alone",
        "final/more": "on one side alone",
    }


def test_what_nobody_asked_for_is_named(tmp_path: Path) -> None:
    changed = arrays() | {"task0/main/momentum": np.zeros(1), "task7/main/rows": np.zeros((1, 1, 1), np.int16)}
    rows = compared(tmp_path, changed).unchecked()
    assert {(row.entry, row.verdict) for row in rows} == {
        ("task0/main/momentum", Verdict.UNCHECKED), ("task7/main/rows", Verdict.UNCHECKED),
    }  # fmt: skip


# ---- the file's settings ---------------------------------------------------------------------------------------------


def test_words_are_changed_by_their_keys(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run.npz", arrays())
    assert (run.name, run.tasks, list(run.words)) == ("made", 2, SETTINGS["ours"])
    assert run.words_with(("seed=1", "recipe=clean")) == ["method=dytox", "data=digits", "seed=1", "recipe=clean"]


def test_ratios_are_those_of_the_step(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run.npz", arrays() | {"task0/main/ratios": np.array([[0.25, 0.5], [0.75, 1.0]])})
    assert run.ratios(0, "main", 1) == [0.75, 1.0]
    assert run.ratios(0, "main", 2) == run.ratios(0, "finetuning", 0) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{", "settings.json in .* cannot be read"),
        ("[]", 'lacks "ours"'),
        (json.dumps({**SETTINGS, "ours": ["method"]}), 'lacks "ours", a list of KEY=VALUE'),
        (json.dumps({**SETTINGS, "tasks": 0}), 'has "tasks": 0, it must be'),
        (json.dumps({**SETTINGS, "tasks": "2"}), "has \"tasks\": '2'"),
    ],
)
def test_settings_that_cannot_be_used_are_reported(tmp_path: Path, settings: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        run_of(tmp_path / "run.npz", arrays() | {"settings.json": np.array(settings)})
