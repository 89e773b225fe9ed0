"""The differences of two ledgers, and their sizes. Nothing is run here."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from scripts.fingerprint.ledger import Ledger
from scripts.fingerprint.numbers import Run

RATE = "lr"
LOSS = "loss/"
Point = float | None


@dataclass(frozen=True)
class Difference:
    """One kind of number in which two runs differ."""

    kind: str
    """``run``, ``losses``, ``rates``, ``monitored_scalars``, ``exemplars``, ``matrix`` or ``weights``."""
    how: str
    """Largest difference, and the first one: older -> newer."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of two ledgers."""

    differ: dict[str, list[Difference]]
    """Runs whose numbers differ, or that one of the two lacks, or that failed."""
    equal: list[str]
    elsewhere: list[str]
    """Differences of machines and versions: if there are any, numbers may differ by rounding alone."""
    settings: list[str]
    """Differences of the runs' overrides, a line each."""


def compare(old: Ledger, new: Ledger, only: Collection[str] = ()) -> Comparison:
    """Compare the runs of two ledgers, or those named in ``only``."""
    names = [name for name in dict.fromkeys([*old.runs, *new.runs]) if not only or name in only]
    found = {name: list(_differences(old.runs.get(name), new.runs.get(name))) for name in names}
    both = [name for name in names if name in old.runs and name in new.runs]
    keys = dict.fromkeys([*old.machine, *new.machine])
    return Comparison(
        {name: differences for name, differences in found.items() if differences},
        [name for name, differences in found.items() if not differences],
        [
            f"{key} {old.machine.get(key, 'unknown')} -> {new.machine.get(key, 'unknown')}"
            for key in keys
            if old.machine.get(key) != new.machine.get(key)
        ],
        [line for name in both for line in _settings(name, old.runs[name], new.runs[name])],
    )


def _settings(name: str, old: Run, new: Run) -> Iterator[str]:
    gone = [override for override in old.overrides if override not in new.overrides]
    come = [override for override in new.overrides if override not in old.overrides]
    if gone or come:
        yield f"{name}: {' '.join(gone) or 'nothing'} -> {' '.join(come) or 'nothing'}"


def _differences(old: Run | None, new: Run | None) -> Iterator[Difference]:
    if old is None or new is None:
        yield Difference("run", "only in the newer" if old is None else "only in the older")
    elif old.failed or new.failed:
        yield Difference("run", f"{_failure(old)} -> {_failure(new)}")
    else:
        curves = list(dict.fromkeys([*old.curves, *new.curves]))
        losses = [name for name in curves if name.startswith(LOSS)]
        yield from _of_curves("losses", losses, old, new)
        yield from _of_curves("rates", [name for name in curves if name == RATE], old, new)
        yield from _of_curves("monitored_scalars", [name for name in curves if name not in (*losses, RATE)], old, new)
        yield from _of_exemplars(old, new)
        yield from _of_matrices(old, new)
        yield from _of_weights(old, new)


def _failure(run: Run) -> str:
    return f"failed, {run.failed}" if run.failed else "went well"


@dataclass(frozen=True)
class _Parting:
    """A point of a curve that differs."""

    step: int
    curve: str
    old: Point
    new: Point

    @property
    def size(self) -> float:
        """Size of the difference; 0 where a point is missing."""
        return 0.0 if self.old is None or self.new is None else abs(self.new - self.old)


def _of_curves(kind: str, names: Iterable[str], old: Run, new: Run) -> Iterator[Difference]:
    """Yield the first point that differs, the largest difference, and curves or points that one of the two lacks."""
    told = []
    shared = []
    for name in names:
        if name in old.curves and name in new.curves:
            shared.append(name)
        else:
            told.append(f"{name} only in the {'older' if name in old.curves else 'newer'}")
    if shared and old.steps != new.steps:
        told.append(f"{len(old.steps)} -> {len(new.steps)} points")
    partings = sorted(itertools.chain.from_iterable(_partings(name, old, new) for name in shared), key=_step)
    if partings:
        first, largest = partings[0], max(partings, key=lambda parting: parting.size)
        if largest.size > 0:
            told.append(f"up to {largest.size:.2g} ({largest.curve} at {new.place(largest.step)})")
        told.append(f"first at {new.place(first.step)}: {first.curve} {_shown(first.old)} -> {_shown(first.new)}")
    if told:
        yield Difference(kind, "; ".join(told))


def _step(parting: _Parting) -> int:
    return parting.step


def _partings(name: str, old: Run, new: Run) -> Iterator[_Parting]:
    """Yield the differences of a curve at the steps that both have."""
    before = dict(zip(old.steps, old.curves[name], strict=True))
    after = dict(zip(new.steps, new.curves[name], strict=True))
    for step in before.keys() & after.keys():
        if before[step] != after[step]:
            yield _Parting(step, name, before[step], after[step])


def _of_exemplars(old: Run, new: Run) -> Iterator[Difference]:
    """Yield the numbers of ranks with another image and of images exchanged, and the best rank that differs."""
    if len(old.exemplars) != len(new.exemplars):
        yield Difference("exemplars", f"{len(old.exemplars)} -> {len(new.exemplars)} memories")
        return
    places, total, exchanged, first = 0, 0, 0, ""
    for number, (before, after) in enumerate(zip(old.exemplars, new.exemplars, strict=True)):
        for label in dict.fromkeys([*before, *after]):
            were, are = before.get(label, []), after.get(label, [])
            total += max(len(were), len(are))
            exchanged += len(set(are) - set(were))
            for rank, (one, other) in enumerate(itertools.zip_longest(were, are), start=1):
                if one == other:
                    continue
                places += 1
                memory = f"memory {number + 1}, " if len(old.exemplars) > 1 else ""
                first = first or f"{memory}class {label}, rank {rank}: {_shown(one)} -> {_shown(other)}"
    if places:
        yield Difference(
            "exemplars", f"{places} of {total} places, {exchanged} images that were not kept before; first {first}"
        )


def _of_matrices(old: Run, new: Run) -> Iterator[Difference]:
    """Yield the number of cells that differ, by how many answers at most, and the first of them."""
    told = [
        f"{name} only in the {'older' if name in old.matrices else 'newer'}"
        for name in dict.fromkeys([*old.matrices, *new.matrices])
        if (name in old.matrices) != (name in new.matrices)
    ]
    cells, total, most, first = 0, 0, 0, ""
    for name in (name for name in old.matrices if name in new.matrices):
        before, after = _cells(old, name), _cells(new, name)
        for cell in dict.fromkeys([*before, *after]):
            were, are = before.get(cell), after.get(cell)
            total += 1
            if were == are:
                continue
            cells += 1
            most = max(most, abs(are[0] - were[0]) if were and are else 0)
            first = first or f"{name} {cell}: {_ratio(were)} -> {_ratio(are)}"
    if cells:
        told.append(f"{cells} of {total} cells, up to {most} answers; first {first}")
    if told:
        yield Difference("matrix", "; ".join(told))


def _cells(run: Run, name: str) -> dict[str, tuple[int, int]]:
    return {
        f"after task {after + 1} on task {on + 1}": cell
        for after, row in enumerate(run.matrices[name])
        for on, cell in enumerate(row)
    }


def _ratio(cell: tuple[int, int] | None) -> str:
    return "none" if cell is None else f"{cell[0]}/{cell[1]}"


def _of_weights(old: Run, new: Run) -> Iterator[Difference]:
    """Yield count, sum and norm of each part, where they differ."""
    told = []
    for part in dict.fromkeys([*old.weights, *new.weights]):
        before, after = old.weights.get(part, {}), new.weights.get(part, {})
        for what in dict.fromkeys([*before, *after]):
            were, are = before.get(what), after.get(what)
            if were == are:
                continue
            by = f" (by {abs(are - were):.2g})" if were is not None and are is not None else ""
            told.append(f"{what} of {part} {_shown(were)} -> {_shown(are)}{by}")
    if told:
        yield Difference("weights", "; ".join(told))


def _shown(value: float | str | None) -> str:
    return "none" if value is None else str(value)
