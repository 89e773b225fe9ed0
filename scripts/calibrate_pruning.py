"""Find the weight of DER's sparsity loss for a number of parameters: `python scripts/calibrate_pruning.py target=N`.

    python scripts/calibrate_pruning.py target=N [key=value ...]

DER's authors tuned that weight for each setting until the average number of parameters was comparable with other
methods (issue 4 of their code), and published neither weights nor rule. Here it is found by bisection of its logarithm,
in at most eight runs of `method=der method.pruning.rule=masks`, on training images alone: a tenth of them
(data.validation) is set aside, and no test image is looked at. Counted is the mean over tasks of the network's
parameters. Other keys go to each run: data, model, epochs_scale=0.05 to make them short.

Options of this script: low= and high= are the smallest and the largest weight (0.01, 1000), tolerance= how far from the
target the count may be (0.05 of it), runs= the most runs (8), out= where they go (outputs/calibrate_pruning). What was
found is in out/calibration.json, with the count of every run; what was interrupted goes on when this is typed again.
Exit status: 0 found, 1 not within the tolerance (the nearest is in the file) or a run failed, 2 wrong input, or a
target that no weight between low and high reaches.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cl_lightning.core.atomic_write import replace_file
from cl_lightning.core.cli import carried_out
from cl_lightning.core.errors import UserError
from cl_lightning.core.exit_codes import DONE, INTERRUPTED, PARTLY, STOPPED

_ROOT = Path(__file__).parents[1]
_MOST_RUNS = 8
_FIXED = ("method=der", "method.pruning.rule=masks")
_OWN = (
    *("method", "method.pruning.rule", "method.pruning.sparsity", "run_dir", "hydra.run.dir"),
    *("if_exists", "resume", "learn"),
)
"""Keys that are not the user's here."""


@dataclass(frozen=True)
class Point:
    """A weight that was tried."""

    sparsity: float
    average_parameters: float
    """Mean over tasks of the network's parameters after each."""
    evidence: dict[str, Any]
    """Counts, accuracies and origin of its run."""


@dataclass(frozen=True)
class Request:
    """Options of a calibration, as typed."""

    target: float
    low: float = 0.01
    high: float = 1000.0
    tolerance: float = 0.05
    runs: int = _MOST_RUNS
    out: Path = Path("outputs/calibrate_pruning")
    overrides: tuple[str, ...] = ()

    def meets(self, point: Point) -> bool:
        """Return whether a count is near enough."""
        return abs(point.average_parameters - self.target) <= self.tolerance * self.target

    def nearest(self, points: Sequence[Point]) -> Point:
        """Return the point whose count is nearest to the target."""
        return min(points, key=lambda point: abs(point.average_parameters - self.target))


def parse(arguments: Sequence[str]) -> Request:
    """Return the request. Raises ``UserError`` for a wrong one."""
    given = {key: value for key, sign, value in (each.partition("=") for each in arguments) if sign}
    if len(given) < len(arguments):
        raise UserError("type key=value, each key once: target=4.96e6 data=cifar100_10steps")
    own = {name: given.pop(name) for name in ("target", "low", "high", "tolerance", "runs", "out") if name in given}
    taken = [key for key in given if key in _OWN]
    if taken:
        raise UserError(f"{taken[0]}={given[taken[0]]} is decided here: leave it out")
    if "target" not in own:
        raise UserError("target= is missing: type target=N, the average number of parameters, as 4.96e6")
    numbers = {name: _number(name, own[name]) for name in ("target", "low", "high", "tolerance", "runs") if name in own}
    runs = int(numbers.pop("runs", _MOST_RUNS))
    if not 2 <= runs <= _MOST_RUNS:
        raise UserError(f"runs={runs} is out of range: type runs=N with N from 2 to {_MOST_RUNS}")
    request = Request(**numbers, runs=runs, overrides=_overrides(given), **_folder(own))  # type: ignore[arg-type]
    if request.low >= request.high:
        raise UserError(f"low={request.low:g} is not below high={request.high:g}: type a smaller low=")
    return request


def _folder(own: dict[str, str]) -> dict[str, Path]:
    return {"out": Path(own["out"])} if "out" in own else {}


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name}={text} is no number above 0: type {name}=N")
    return value


def _overrides(given: dict[str, str]) -> tuple[str, ...]:
    share = given.setdefault("data.validation", "0.1")
    if _number("data.validation", share) >= 1:
        raise UserError(f"data.validation={share} is no share of the training images: type data.validation=0.1")
    return tuple(f"{key}={value}" for key, value in given.items())


def bisect(request: Request, measure: Callable[[float], Point], found: Callable[[Sequence[Point]], None]) -> Point:
    """Return the nearest point found: the ends first, then the middle of the logarithms.

    Args:
        request: target, ends and the most runs.
        measure: tries a weight.
        found: is told of all points so far, after each.

    Raises:
        UserError: the target lies beyond an end.
    """
    points: list[Point] = []

    def tried(sparsity: float) -> Point:
        points.append(measure(sparsity))
        found(points)
        return points[-1]

    low, high = request.low, request.high
    most = tried(low)
    if request.meets(most):
        return most
    if most.average_parameters < request.target:
        raise UserError(
            f"target={request.target:g} is not reached: with method.pruning.sparsity={low:g} there are "
            f"{most.average_parameters:,.0f} parameters on average, no more; type a smaller target, or a smaller low="
        )
    fewest = tried(high)
    if not request.meets(fewest) and fewest.average_parameters > request.target:
        raise UserError(
            f"target={request.target:g} is not reached: with method.pruning.sparsity={high:g} there are still "
            f"{fewest.average_parameters:,.0f} parameters on average; type a larger target, a larger high= or more "
            "epochs"
        )
    while not request.meets(request.nearest(points)) and len(points) < request.runs:
        middle = float(f"{math.sqrt(low * high):.4g}")
        if tried(middle).average_parameters > request.target:
            low = middle
        else:
            high = middle
    return request.nearest(points)


def run(request: Request, sparsity: float) -> Point:
    """Return what a run with this weight counts, from its folder if it is there. Raises ``UserError`` where it fails,
    or looks at test images.
    """
    folder = request.out / f"sparsity_{sparsity:g}"
    results = _results(folder)
    if results is None:
        own = (f"method.pruning.sparsity={sparsity:g}", f"run_dir={folder}", "if_exists=resume")
        command = [sys.executable, "-m", "cl_lightning", *_FIXED, *request.overrides, *own]
        code = subprocess.run(command, check=False).returncode
        if code in (INTERRUPTED, STOPPED):
            raise KeyboardInterrupt
        results = _results(folder)
        if code or results is None:
            raise UserError(f"the run in {folder} ended with exit code {code}: mend what it says, then type this again")
    if results["protocol"]["evaluates_on"] != "validation":
        raise UserError(f"{folder} was evaluated on test images: type data.validation=0.1, and another out=DIR")
    counts = [task["parameters"] for task in results["tasks"]]
    evidence = {
        "parameters_by_task": counts,
        "average_incremental_accuracy": results["average_incremental_accuracy"],
        "last_accuracy": results["last_accuracy"],
        "evaluates_on": results["protocol"]["evaluates_on"],
        "epochs": results["protocol"]["epochs"],
        "commit": results["provenance"].get("commit"),
        "folder": folder.name,
    }
    return Point(sparsity, sum(counts) / len(counts), evidence)


def _results(folder: Path) -> dict[str, Any] | None:
    """Return the results of a run that is finished."""
    file = folder / "results.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"tasks": []}
    finished = bool(content["tasks"]) and len(content["tasks"]) == len(content["protocol"]["tasks"])
    return content if finished else None


def record(request: Request, points: Sequence[Point]) -> None:
    """Write what has been found so far, with its evidence."""
    best = request.nearest(points)
    content = {
        "target": request.target,
        "tolerance": request.tolerance,
        "met": request.meets(best),
        "sparsity": best.sparsity,
        "average_parameters": best.average_parameters,
        "overrides": [*_FIXED, *request.overrides],
        "runs": [asdict(point) for point in points],
    }
    text = json.dumps(content, indent=2) + "\n"
    replace_file(request.out / "calibration.json", lambda file: file.write(text.encode()))


def check_folder(request: Request) -> None:
    """Make the folder of the runs. Raises ``UserError`` for one that holds runs under other options."""
    request.out.mkdir(parents=True, exist_ok=True)
    file = request.out / "calibration.json"
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))["overrides"]
        if before != [*_FIXED, *request.overrides]:
            raise UserError(f"{file} is of {' '.join(before)}: type the same, or out=ANOTHER_FOLDER")


def calibrate(request: Request) -> int:
    """Carry out a request; return the exit status."""
    check_folder(request)
    best = bisect(request, lambda sparsity: run(request, sparsity), lambda points: record(request, points))
    met = request.meets(best)
    print(
        f"{'found' if met else 'nearest'}: method.pruning.sparsity={best.sparsity:g} with "
        f"{best.average_parameters:,.0f} parameters on average over the tasks (target {request.target:,.0f}); "
        f"{request.out / 'calibration.json'} has all runs"
    )
    return DONE if met else PARTLY


def main(arguments: Sequence[str]) -> int:
    """Carry out a command line; return the exit status."""
    if not arguments or set(arguments) & {"--help", "-h"}:
        print(__doc__, end="")
        return DONE
    return carried_out(lambda: calibrate(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
