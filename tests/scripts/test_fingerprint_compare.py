"""In what two ledgers differ is found, counted and named; nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.fingerprint.__main__ import main
from scripts.fingerprint.compare import Difference, compare
from scripts.fingerprint.ledger import Ledger, read_ledger, write_ledger
from scripts.fingerprint.numbers import Run

RUN = Run(
    overrides=["data=digits", "data.increment=[2,2]", "method.temperature=1.0"],
    phases=[(0, "main", 2), (1, "main", 2), (1, "finetuning", 1)],
    steps=[1, 2, 3, 4, 5],
    curves={
        "loss/classification": [0.9, 0.8, 0.7, 0.6, 0.5],
        "loss/distillation": [None, None, 0.3, 0.2, 0.1],
        "lr": [0.001, 0.001, 0.002, 0.002, 0.0005],
        "masks/dropped": [0.0, 0.0, 0.25, 0.25, 0.25],
    },
    exemplars=[{"0": [7, 3, 9], "1": [2, 8, 4]}],
    matrices={"class_incremental linear": [[(30, 36)], [(20, 36), (33, 34)]]},
    weights={"network": {"count": 100, "sum": 1.5, "norm": 12.0}},
)
MACHINE = {"processor": "P", "python": "3.11.7", "torch": "2.15.0"}


def ledger(commit: str = "aaaa", machine: dict[str, str] = MACHINE, **runs: Run) -> Ledger:
    return Ledger({"version": "0.1.0", "commit": commit}, machine, runs or {"dytox": RUN, "wa": RUN}, 1.0)


def differences(run: Run) -> list[Difference]:
    """Of ``run`` from the one above, of which nothing else may have been touched."""
    found = compare(ledger(), ledger(dytox=run, wa=RUN))
    assert found.equal == (["wa"] if found.differ else ["dytox", "wa"])
    return found.differ.get("dytox", [])


def with_curve(name: str, *values: float | None) -> Run:
    return replace(RUN, curves={**RUN.curves, name: list(values)})


def test_equal_numbers_are_equal_whatever_the_commit() -> None:
    found = compare(ledger("aaaa"), ledger("bbbb"))
    assert (found.differ, found.equal, found.elsewhere, found.settings) == ({}, ["dytox", "wa"], [], [])


def test_a_loss_is_named_with_the_first_step_and_the_largest_difference() -> None:
    changed = with_curve("loss/distillation", None, None, 0.3, 0.25, 0.5)
    assert differences(changed) == [
        Difference(
            "losses",
            "up to 0.4 (loss/distillation at step 5 (task 2, finetuning)); "
            "first at step 4 (task 2, main): loss/distillation 0.2 -> 0.25",
        )
    ]


def test_the_last_digit_counts() -> None:
    (found,) = differences(with_curve("loss/classification", 0.9, 0.8, 0.7000001, 0.6, 0.5))
    assert "up to 1e-07" in found.how


@pytest.mark.parametrize(
    ("changed", "kind", "how"),
    [
        (with_curve("lr", 0.001, 0.001, 0.002, 0.002, 0.0004), "rates", "first at step 5 (task 2, finetuning): lr"),
        (with_curve("masks/dropped", 0.0, 0.0, 0.25, 0.25, 0.5), "monitored_scalars", "masks/dropped 0.25 -> 0.5"),
        (with_curve("loss/distillation", None, 0.4, 0.3, 0.2, 0.1), "losses", "loss/distillation none -> 0.4"),
        (with_curve("loss/divergence", 1, 1, 1, 1, 1), "losses", "loss/divergence only in the newer"),
        (replace(RUN, weights={}), "weights", "norm of network 12.0 -> none"),
        (replace(RUN, matrices={}), "matrix", "class_incremental linear only in the older"),
        (replace(RUN, exemplars=[]), "exemplars", "1 -> 0 memories"),
    ],
)
def test_every_kind_of_number_is_compared(changed: Run, kind: str, how: str) -> None:
    (found,) = differences(changed)
    assert found.kind == kind
    assert how in found.how


def test_steps_more_or_less_are_reported_and_the_shared_ones_compared() -> None:
    short = replace(
        RUN, steps=[1, 2, 3], curves={name: values[:3] for name, values in RUN.curves.items()}, phases=RUN.phases[:2]
    )
    found = differences(short)
    assert [(one.kind, one.how) for one in found] == [
        (kind, "5 -> 3 points") for kind in ("losses", "rates", "monitored_scalars")
    ]


def test_an_exchanged_exemplar_and_an_exchanged_order_are_distinguished() -> None:
    (image,) = differences(replace(RUN, exemplars=[{"0": [7, 5, 9], "1": [2, 8, 4]}]))
    assert image.how == "1 of 6 places, 1 images that were not kept before; first class 0, rank 2: 3 -> 5"
    (order,) = differences(replace(RUN, exemplars=[{"0": [7, 3, 9], "1": [8, 2, 4]}]))
    assert order.how == "2 of 6 places, 0 images that were not kept before; first class 1, rank 1: 2 -> 8"
    (fewer,) = differences(replace(RUN, exemplars=[{"0": [7, 3, 9], "1": [2, 8]}]))
    assert fewer.how == "1 of 6 places, 0 images that were not kept before; first class 1, rank 3: 4 -> none"


def test_cells_of_the_matrix_are_counted_in_answers() -> None:
    changed = replace(RUN, matrices={"class_incremental linear": [[(30, 36)], [(17, 36), (34, 34)]]})
    (found,) = differences(changed)
    assert found.how == (
        "2 of 3 cells, up to 3 answers; first class_incremental linear after task 2 on task 1: 20/36 -> 17/36"
    )


def test_weights_are_compared_by_sum_and_norm() -> None:
    (found,) = differences(replace(RUN, weights={"network": {"count": 100, "sum": 1.5, "norm": 12.5}}))
    assert found == Difference("weights", "norm of network 12.0 -> 12.5 (by 0.5)")


def test_a_method_that_one_lacks_or_that_failed_is_named_and_the_others_are_compared() -> None:
    broken = Run(RUN.overrides, failed="exit code 1 and no results.json")
    old, new = ledger(dytox=RUN, wa=RUN, der=RUN, icarl=broken), ledger(dytox=RUN, wa=broken, lfl=RUN, icarl=broken)
    found = compare(old, new)
    assert found.equal == ["dytox"]
    assert {name: [one.how for one in differ] for name, differ in found.differ.items()} == {
        "wa": ["went well -> failed, exit code 1 and no results.json"],
        "der": ["only in the older"],
        "icarl": ["failed, exit code 1 and no results.json -> failed, exit code 1 and no results.json"],
        "lfl": ["only in the newer"],
    }
    assert compare(old, new, only=["dytox"]).differ == {}


def test_another_machine_and_other_settings_are_reported_and_are_no_difference() -> None:
    elsewhere = {**MACHINE, "processor": "Q", "timm": "1.0"}
    other = replace(RUN, overrides=["data=digits", "data.increment=[2,2]", "method.temperature=1.1"])
    found = compare(ledger(), ledger("bbbb", elsewhere, dytox=RUN, wa=other))
    assert found.differ == {}
    assert found.elsewhere == ["processor P -> Q", "timm unknown -> 1.0"]
    assert found.settings == ["wa: method.temperature=1.0 -> method.temperature=1.1"]


def written(folder: Path, name: str, content: Ledger) -> str:
    write_ledger(folder / name, content)
    return str(folder / name)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    path = Path(written(tmp_path, "a.json", ledger()))
    assert read_ledger(path) == ledger()
    assert '"steps": [1, 2, 3, 4, 5],\n' in path.read_text(), "a list of numbers to a line"


def test_two_files_are_compared_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, same = written(tmp_path, "old.json", ledger("aaaa")), written(tmp_path, "same.json", ledger("bbbb"))
    new = written(
        tmp_path, "new.json", ledger("cccc+", {**MACHINE, "processor": "Q"}, dytox=replace(RUN, weights={}), wa=RUN)
    )
    assert main(["compare", old, same]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "older: 0.1.0, commit aaaa; newer: 0.1.0, commit bbbb",
        "equal: dytox, wa",
        "no difference in 2 runs",
    ]
    assert main(["compare", old, new]) == 1
    out = capsys.readouterr().out
    assert "not made on one machine with one set of versions (processor P -> Q)" in out
    assert "\nDIFFERENT: dytox\n  weights    count of network 100 -> none" in out
    assert out.endswith("1 of 2 runs differ\n")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', json.dumps({"format": 1, "runs": {"a": 1}})])
def test_what_is_no_ledger_is_refused_in_a_line(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = written(tmp_path, "good.json", ledger())
    (tmp_path / "bad.json").write_text(content)
    assert main(["compare", good, str(tmp_path / "bad.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["compare", good, str(tmp_path / "missing.json")]) == 2
    assert "missing.json: No such file" in capsys.readouterr().err
