"""The comparison of a recorded run with ours, while ours is running: the differences, and the first of each.

A difference in rows, exemplars, answers or cells is one, however small; ``BOUNDS`` says what others may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cl_lightning.core.types import Phase
from scripts.reference.check_vectors import Comparison
from scripts.reference.difference import Row, Verdict, difference, failure, lacking
from scripts.reference.events import Evaluation, Step
from scripts.reference.recorded import PHASES, TERMS, RecordedRun, describes
from scripts.reference.replay import replay
from scripts.reference.series import Series


@dataclass(frozen=True)
class Bounds:
    """The bounds for two runs that differ in rounding alone: float32, other orders of sums, hundreds of steps."""

    rate: float = 1e-12
    """Bound of a learning rate."""
    loss: float = 1e-4
    """Bound of a loss term of a step."""
    logits: float = 5e-3
    weights: float = 1e-2
    """Bound relative to a parameter's norm after a phase, and to the whole state's at the end."""
    accuracy: float = 1e-9
    """Bound of an accuracy in [0, 1]: equal counts, divided."""
    gap: float = 1e-6
    """Difference of herding distances below which images may swap ranks on another processor; reported, no bound."""


BOUNDS = Bounds()
FREE = "attn.pos_proj.bias"
"""Parameter whose true gradient is zero: Adam makes steps of its rounding errors. It is in no output."""
_PASSES = ("losses", "losses_at_worst")


class DifferenceError(Exception):
    """The runs differ."""

    def __init__(self, row: Row) -> None:
        super().__init__(f"{row.entry}: {row.verdict.value} {row.note}")
        self.row = row


class RunComparison:
    """An ``events.Observer`` that compares."""

    def __init__(self, run: RecordedRun, *, stop: bool = False) -> None:
        """Compare with ``run``; with ``stop``, raise the first difference as ``DifferenceError``."""
        self.rows: list[Row] = []
        self.accuracies: list[list[float | None]] = []
        """Our accuracy matrix, in [0, 1]."""
        self._file = run.file
        self._stop = stop
        self._begun: set[str] = set()
        self._series: dict[tuple[str, str], Series] = {}
        self._curve: list[float] = []

    def on_step(self, task: int, phase: str, step: Step) -> None:
        """Compare rows, rate and loss terms."""
        folder, place = f"task{task}/{phase}/", f"step {step.index}"
        if folder not in self._begun:
            self._begun.add(folder)
            self._series = self._of_phase(folder)
        for (kind, term), series in self._series.items():
            index = step.epoch if kind == "lr" else step.index
            if index >= len(series):
                series.differ(f"{place}, which is not in the file")
            else:
                _add(series, kind, term, step, series.recorded[index])
            self._look_at(series)

    def on_phase_end(self, task: int, phase: str, weights: dict[str, Tensor]) -> None:
        """Compare the number of steps, and the weights."""
        folder = f"task{task}/{phase}/"
        for series in self._series.values():
            if series.entry == f"{folder}rows" and series.compared < len(series):
                series.differ(f"step {series.compared}, which is in the file alone")
            self._tell(series.row())
        self._series = {}
        self._tell(self._after(folder, weights))

    def on_memory(self, task: int, exemplars: dict[int, Tensor]) -> None:
        """Compare exemplars and their ranks."""
        folder = f"task{task}/memory/"
        self._begun.add(folder)
        labels = torch.cat([torch.full_like(rows, label) for label, rows in exemplars.items()])
        self._compare_whole(f"{folder}labels", "rank", labels)
        self._compare_whole(f"{folder}rows", "rank", torch.cat(list(exemplars.values())), self._about_gap(task))

    def on_evaluation(self, task: int, found: Evaluation) -> None:
        """Compare scores, answers and the row of the matrix; check that no entry of the task was skipped."""
        folder = f"task{task}/"
        for part in (*PHASES, "memory"):
            if f"{folder}{part}/rows" in self._file and f"{folder}{part}/" not in self._begun:
                self._tell(failure(f"{folder}{part}/rows", "in the file alone"))
        self._tell(self._difference(f"{folder}probe_logits", found.probe_logits, BOUNDS.logits))
        margin = self._said(f"{folder}smallest_margin")
        self._compare_whole(f"{folder}predictions", "image", found.answers, lambda at: f"smallest_margin={margin}")
        self._cells(task, found.accuracies)
        self.accuracies.append(found.accuracies)
        self._curve.append(float("nan") if found.seen is None else found.seen)

    def on_end(self, weights: dict[str, Tensor]) -> None:
        """Compare the state, and the metrics of the matrix."""
        curve = torch.tensor(self._curve, dtype=torch.float64)
        self._tell(self._difference("curve", curve, BOUNDS.accuracy))
        self._tell(self._difference("avg", 100 * curve.mean(), 100 * BOUNDS.accuracy))
        self._tell(self._difference("last", 100 * curve[-1], 100 * BOUNDS.accuracy))
        theirs = self._file.folder("final/")
        if odd := theirs.keys() ^ weights.keys():
            self._tell(failure(f"final/{min(odd)}", "on one side alone"))
            return
        kept = [name for name in theirs if not name.endswith(FREE)]
        a, b = (torch.cat([state[name].double().flatten() for name in kept]) for state in (weights, theirs))
        self._tell(_share("final/", float((a - b).norm() / b.norm()), f"of its norm, without {FREE}"))

    def unchecked(self) -> list[Row]:
        """Return the entries of the file that nothing was compared with."""
        seen = {row.entry.partition("[")[0] for row in self.rows}
        names = [name for name in self._file.names() if not name.startswith("final/") and not describes(name)]
        return [Row(name, Verdict.UNCHECKED) for name in names if name not in seen]

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _of_phase(self, folder: str) -> dict[tuple[str, str], Series]:
        """Return the series of a phase by kind, and by term where it is a loss."""
        if f"{folder}rows" not in self._file:
            self._tell(failure(f"{folder}rows", "a phase that is not in the file"))
            return {}
        found: dict[tuple[str, str], Series] = {}
        for kind, bound in (("rows", 0.0), ("lr", BOUNDS.rate), *((kind, BOUNDS.loss) for kind in _PASSES)):
            entry = folder + kind
            if entry in self._file:
                shown = {term: f"{entry}[{term}]" for term in TERMS} if kind in _PASSES else {"": entry}
                recorded = self._file[entry]
                found |= {(kind, term): Series(name, recorded, bound) for term, name in shown.items()}
            elif kind != "losses_at_worst":  # of sharpness-aware phases, and not in every file
                self._tell(lacking(entry))
        return found

    def _after(self, folder: str, weights: dict[str, Tensor]) -> Row:
        """Compare norms, and products with cos(1), cos(2) ..., as shares of the norm."""
        for needed in (f"{folder}after", f"{folder}parameters"):
            if needed not in self._file:
                return lacking(needed)
        entry, names = f"{folder}after", self._file.texts(f"{folder}parameters")
        if odd := set(names) ^ set(weights):
            return failure(entry, f"{min(odd)} is on one side alone")
        shares = {
            name: _apart(weights[name].double().flatten(), norm, product)
            for name, (norm, product) in zip(names, self._file[entry].tolist(), strict=True)
            if not name.endswith(FREE)
        }
        worst = max(shares, key=lambda name: shares[name])
        return _share(entry, shares[worst], f"of the norm of {worst}")

    def _cells(self, task: int, ours: list[float | None]) -> None:
        matrix = self._recorded("accuracy_matrix")
        if matrix is None:
            return
        cells = Series(f"accuracy_matrix[{task}]", matrix, BOUNDS.accuracy)
        for column, cell in enumerate(ours):
            value = torch.tensor(float("nan") if cell is None else cell, dtype=torch.float64)
            if max(task, column) < len(matrix):
                cells.add(f"column {column}", value, matrix[task, column])
            else:
                cells.differ("a task that is not in the file")
        self._tell(cells.row())

    def _compare_whole(self, entry: str, unit: str, ours: Tensor, about: Callable[[int], str] = lambda at: "") -> None:
        """Compare whole numbers; ``about`` describes the first that differs."""
        theirs = self._recorded(entry)
        if theirs is None:
            return
        if ours.shape != theirs.shape:
            self._tell(failure(entry, f"{len(ours)} here, {len(theirs)} in the file"))
            return
        row, wrong = difference(entry, ours, theirs, 0.0), (ours != theirs).nonzero().flatten().tolist()
        more = about(wrong[0]) if wrong else ""
        note = f"first at {unit} {wrong[0]}, {len(wrong)} of {len(ours)}{more and '; ' + more}" if wrong else ""
        self._tell(Row(entry, row.verdict, row.absolute, row.relative, row.bound, note))

    def _about_gap(self, task: int) -> Callable[[int], str]:
        """Return a function that describes how close the choice of an exemplar was, from the file."""

        def about(rank: int) -> str:
            label = int(self._file[f"task{task}/memory/labels"][rank])
            sizes = [int(self._file[f"task{t}/memory/labels"].max()) + 1 for t in range(task + 1)]
            own, first = next((t, low) for t, (low, high) in enumerate(pairwise([0, *sizes])) if label < high)
            entry = f"task{own}/memory/smallest_gap"
            if entry not in self._file:
                return f"of class {label}"
            gap = float(self._file[entry][label - first])
            close = gap < BOUNDS.gap
            tie = ": rounding may change places on another processor" if close else ": rounding does not change places"
            return f"of class {label}, smallest_gap={gap:.1e}{tie}"

        return about

    def _difference(self, entry: str, ours: Tensor, bound: float) -> Row | None:
        theirs = self._recorded(entry)
        return None if theirs is None else difference(entry, ours, theirs, bound)

    def _recorded(self, entry: str) -> Tensor | None:
        """Return an entry that the format requires."""
        if entry in self._file:
            return self._file[entry]
        self._tell(lacking(entry))
        return None

    def _said(self, entry: str) -> str:
        return f"{float(self._file[entry]):.1e}" if entry in self._file else "?"

    def _look_at(self, series: Series) -> None:
        """Raise the first difference of a series if ``stop``; else it is reported when its phase ends."""
        if self._stop and series.first is not None:
            self._tell(series.row())

    def _tell(self, row: Row | None) -> None:
        if row is None:
            return
        self.rows.append(row)
        if self._stop and row.verdict.failed:
            raise DifferenceError(row)


def compare_tasks(
    run: RecordedRun,
    *,
    words: Sequence[str] = (),
    change_phase: Callable[[Phase], Phase] | None = None,
    tasks: int | None = None,
) -> RunComparison:
    """Replay ``run``, compare everything; arguments and errors are those of ``replay``."""
    compared = RunComparison(run)
    try:
        replay(run, compared, words=words, change_phase=change_phase, tasks=tasks)
    except FloatingPointError as error:  # what was recorded was finite
        compared.rows.append(failure("run", str(error)))
    return compared


def first_difference(
    run: RecordedRun, *, words: Sequence[str] = (), change_phase: Callable[[Phase], Phase] | None = None
) -> Row | None:
    """Replay ``run`` until it differs; ``None`` where it does not. Arguments and errors are those of ``replay``."""
    try:
        replay(run, RunComparison(run, stop=True), words=words, change_phase=change_phase)
    except DifferenceError as found:
        return found.row
    except FloatingPointError as error:
        return failure("run", str(error))
    return None


def compare_run(run: RecordedRun) -> Comparison:
    """Compare all of a recorded run, entry by entry; errors are those of ``replay``."""
    compared = compare_tasks(run)
    title = f"recorded run of the published DyTox: {run.name}, {run.tasks} tasks"
    return Comparison(title, (*compared.rows, *compared.unchecked()))


def _add(series: Series, kind: str, term: str, step: Step, theirs: Tensor) -> None:
    """Add one step, or its epoch's rate; losses are compared for each replica and for their mean, the training loss."""
    place = f"step {step.index}"
    if kind == "rows":
        series.add(place, step.rows, theirs[theirs >= 0])
    elif kind == "lr":
        series.add(f"epoch {step.epoch}", torch.tensor(step.rate, dtype=torch.float64), theirs)
    elif _PASSES.index(kind) >= len(step.passes):
        series.differ(f"{place}: no second pass here")
    else:
        loss, column = step.passes[_PASSES.index(kind)], TERMS.index(term)
        series.add(place, loss.each[:, column], theirs[:, column])
        series.add(place, loss.whole[column], theirs[:, column].mean())


def _apart(ours: Tensor, norm: float, product: float) -> float:
    cosines = torch.arange(1, len(ours) + 1, dtype=torch.float64).cos()
    off = max(abs(float(ours.norm()) - norm), abs(float(ours @ cosines) - product))
    return off / max(norm, 1e-3)


def _share(entry: str, share: float, note: str) -> Row:
    verdict = Verdict.EQUAL if share <= BOUNDS.weights else Verdict.DIFFERS
    return Row(entry, verdict, share, share, BOUNDS.weights, note)
