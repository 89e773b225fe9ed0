"""Continual-learning metrics (forgetting, transfer, averages): pure functions of the accuracy matrix.

``R[i][j]`` is the accuracy on task j after task i, for j <= i; its scale ([0, 1] or %) is that of the results. With one
task there is nothing to forget: those metrics are None (not applicable) then, never 0. They are None too where they
would need an evaluation that was not made (a None in R: the test images were not available). Forward transfer needs
``R[i][j]`` for j > i too, the accuracy on tasks before they are learnt. No method here has it: a class gets its head
when it is learnt, so nothing scores it before.

The DyTox lineage logged forgetting and backward transfer with continuum <= 1.2.7, which leaves out the task learnt last
but one. The ``legacy_continuum_*`` functions repeat that, to recognise published logs and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # that module needs torch, these formulae do not
    from cl_lightning.metrics.accuracy import AccuracyMatrix

Matrix = Sequence[Sequence[float | None]]


def incremental_accuracies(matrix: AccuracyMatrix, top: int = 1) -> list[float | None]:
    """Return the accuracy in [0, 1] over all test images seen so far, after each task (tasks may be unequal)."""
    return [matrix.seen(after, top) for after in range(len(matrix))]


def average_incremental_accuracy(matrix: AccuracyMatrix, top: int = 1) -> float | None:
    """Average :func:`incremental_accuracies` over tasks, the first included ("Avg"; iCaRL, Rebuffi et al. 2017)."""
    return _mean(incremental_accuracies(matrix, top))


def last_accuracy(matrix: AccuracyMatrix, top: int = 1) -> float | None:
    """Return the accuracy in [0, 1] over all test images after the last task ("Last")."""
    return matrix.seen(len(matrix) - 1, top)


def forgetting_by_task(R: Matrix) -> list[float | None]:
    """Return max_{j<=l<k} R[l][j] - R[k][j] for each old task j, where k is the last task: its loss from its best."""
    _check(R)
    last = len(R) - 1
    best = [_best([R[after][task] for after in range(task, last)]) for task in range(last)]
    return [_difference(before, now) for before, now in zip(best, R[last] if R else [], strict=False)]


def forgetting(R: Matrix) -> float | None:
    """Average :func:`forgetting_by_task` (Chaudhry et al. 2018, eq. 3); negative where old tasks got better."""
    return _mean(forgetting_by_task(R))


def backward_transfer(R: Matrix) -> float | None:
    """Average R[i][j] - R[j][j] over *all* pairs j < i: the effect of later tasks on earlier ones.

    This is the definition of Diaz-Rodriguez et al. 2018, which continuum means to compute and the DyTox lineage prints.
    """
    _check(R)
    return _mean([_difference(R[after][task], R[task][task]) for after in range(len(R)) for task in range(after)])


def final_backward_transfer(R: Matrix) -> float | None:
    """Average R[k][j] - R[j][j] over old tasks j after the *last* task k (Lopez-Paz & Ranzato 2017)."""
    _check(R)
    return _mean([_difference(R[-1][task], R[task][task]) for task in range(len(R) - 1)])


def forward_transfer(R: Matrix) -> float | None:
    """Average R[i][j] over all pairs j > i: the accuracy on tasks before they are learnt (Diaz-Rodriguez et al. 2018).

    None where a row ends at its own task, as the rows of learners do that cannot score a class before learning it.
    """
    _check(R)
    ahead = [(after, task) for after in range(len(R)) for task in range(after + 1, len(R))]
    return _mean([R[after][task] if task < len(R[after]) else None for after, task in ahead])


def next_task_transfer(R: Matrix, untrained: Sequence[float]) -> float | None:
    """Average R[j-1][j] - untrained[j] over tasks j > 0, where ``untrained`` are the accuracies of the network before
    any training (forward transfer of Lopez-Paz & Ranzato 2017). None as for :func:`forward_transfer`.
    """
    _check(R)
    before = [R[task - 1][task] if task < len(R[task - 1]) else None for task in range(1, len(R))]
    return _mean([_difference(value, chance) for value, chance in zip(before, untrained[1:], strict=True)])


def legacy_continuum_forgetting(R: Sequence[Sequence[float]]) -> float:
    """Compute forgetting as continuum <= 1.2.7 prints it (wrong): without the last old task, as column and as row."""
    _check(R)
    old = len(R) - 1
    if old <= 0:
        return 0.0
    losses = [max(R[after][task] for after in range(task, old - 1)) - R[old][task] for task in range(old - 1)]
    return sum(losses) / old


def legacy_continuum_bwt(R: Sequence[Sequence[float]]) -> float:
    """Compute backward transfer as continuum <= 1.2.7 prints it (wrong): pairs j < i - 1, divided by those j < i."""
    _check(R)
    if len(R) <= 1:
        return 0.0
    gains = [R[after][task] - R[task][task] for after in range(len(R)) for task in range(after - 1)]
    return sum(gains) / (len(R) * (len(R) - 1) / 2)


def _check(R: Matrix) -> None:
    for after, row in enumerate(R):
        if len(row) <= after:
            need = f"evaluate tasks 0 to {after} after task {after}"
            raise ValueError(f"row {after} of an accuracy matrix has {len(row)} tasks: {need}")


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None without values, or if one is missing: a mean of the others would be another number."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _best(values: Sequence[float | None]) -> float | None:
    """Return the largest; None if one is missing, which might have been it."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
