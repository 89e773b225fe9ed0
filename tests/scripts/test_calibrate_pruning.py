"""Bisection of the weight of the sparsity loss on made-up counts, and what is refused; the runs themselves are long."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cl_lightning.core.errors import UserError
from scripts.calibrate_pruning import Point, Request, bisect, check_folder, main, parse, record


def falling(sparsity: float) -> Point:
    """A count that halves with each tenfold weight."""
    return Point(sparsity, 1e6 * sparsity**-0.3010299956639812, {})


def search(request: Request, measure: Callable[[float], Point] = falling) -> tuple[Point, list[float]]:
    seen: list[float] = []

    def found(points: Sequence[Point]) -> None:
        seen[:] = [point.sparsity for point in points]

    return bisect(request, measure, found), seen


@pytest.mark.parametrize("target", [3.9e6, 2e6, 5e5, 1.3e5])
def test_the_weight_of_a_target_is_found_in_eight_runs(target: float) -> None:
    request = Request(target)
    best, seen = search(request)
    assert request.meets(best)
    assert len(seen) <= 8
    assert seen[0] == request.low


def test_fewer_runs_give_the_nearest() -> None:
    request = Request(7e5, tolerance=1e-6, runs=4)
    best, seen = search(request)
    assert len(seen) == 4
    assert not request.meets(best)
    distances = {sparsity: abs(falling(sparsity).average_parameters - 7e5) for sparsity in seen}
    assert best.sparsity == min(distances, key=lambda sparsity: distances[sparsity])


@pytest.mark.parametrize(
    ("target", "told", "runs"), [(1e7, "no more; type a smaller target", 1), (1e4, "still .* a larger target", 2)]
)
def test_a_target_out_of_reach_is_refused_in_a_line(target: float, told: str, runs: int) -> None:
    tried: list[float] = []

    def measure(sparsity: float) -> Point:
        tried.append(sparsity)
        return falling(sparsity)

    with pytest.raises(UserError, match=rf"^target={re.escape(f'{target:g}')} is not reached: [^\n]*{told}[^\n]*$"):
        search(Request(target), measure)
    assert len(tried) == runs


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["data=digits"], "target= is missing"),
        (["target"], "type key=value"),
        (["target=1", "target=2"], "each key once"),
        (["target=x"], "target=x is no number above 0"),
        (["target=1e5", "runs=9"], "runs=9 is out of range: type runs=N with N from 2 to 8"),
        (["target=1e5", "low=2", "high=1"], "low=2 is not below high=1"),
        (["target=1e5", "method=wa"], "method=wa is decided here"),
        (["target=1e5", "method.pruning.sparsity=3"], "is decided here"),
        (["target=1e5", "data.validation=0"], "data.validation=0 is no number above 0"),
        (["target=1e5", "data.validation=1"], "is no share of the training images"),
    ],
)
def test_wrong_input_is_one_line(typed: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err


def test_training_images_alone_decide() -> None:
    assert parse(["target=1e5", "data=digits"]).overrides == ("data=digits", "data.validation=0.1")
    assert parse(["target=1e5", "data.validation=0.2"]).overrides == ("data.validation=0.2",)


def test_what_was_found_is_a_file_with_its_evidence(tmp_path: Path) -> None:
    request = parse(["target=9.9e5", f"out={tmp_path}", "data=digits"])
    check_folder(request)
    record(request, [Point(1.0, 1e6, {"parameters_by_task": [5e5, 1.5e6]}), Point(3.0, 8e5, {})])
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert (content["met"], content["sparsity"], content["average_parameters"]) == (True, 1.0, 1e6)
    assert content["runs"][0]["evidence"] == {"parameters_by_task": [5e5, 1.5e6]}
    assert content["overrides"][:2] == ["method=der", "method.pruning.rule=masks"]
    check_folder(request)
    with pytest.raises(UserError, match=r"^[^\n]*type the same, or out=ANOTHER_FOLDER$"):
        check_folder(parse(["target=9.9e5", f"out={tmp_path}", "data=digits", "seed=1"]))


def test_help_is_the_text_of_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "in at most eight runs" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_real_calibration_and_again_without_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    typed = ["target=30000", "tolerance=0.2", f"out={tmp_path}", "data=digits", "data.increment=5", "model=resnet8"]
    typed += ["epochs_scale=0.02", "balanced_epochs_scale=0.1", "high=1000", "report.page=false"]
    status = main(typed)
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert status == (0 if content["met"] else 1)
    assert {run["evidence"]["evaluates_on"] for run in content["runs"]} == {"validation"}
    capfd.readouterr()
    assert main(typed) == status
    assert len(capfd.readouterr().out.splitlines()) == 1, "nothing was run"
    assert json.loads((tmp_path / "calibration.json").read_text()) == content
