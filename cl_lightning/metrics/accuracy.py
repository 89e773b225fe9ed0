"""Correct predictions as counts: the only numbers that evaluation stores, from which every metric is computed.

Sums of integers do not depend on batch sizes, on the number of processes or on the order of images. Averages over
tasks of unequal size need them: an accuracy "over all classes seen" weighs images, not tasks.

Legend: B batch, C classes seen, T tasks seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cl_lightning.core.types import CLASS_INCREMENTAL, PROTOCOLS, Plain

Cell = tuple[int, int, int]
"""(hits1, hits5, total) on one task's test images."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Correct predictions on the test images of each task (or of each class, then T is their number), ready for a sum
    over batches (``+``) and over processes.
    """

    hits1: Int64[Tensor, " T"]
    """Images whose class (or task) has the highest score."""
    hits5: Int64[Tensor, " T"]
    """Images whose class (or task) is among the five highest scores (or among all, where fewer compete)."""
    total: Int64[Tensor, " T"]
    """Images."""

    @staticmethod
    def zeros(num_tasks: int, device: torch.device | str = "cpu") -> Counts:
        """Return counts of no images."""
        return Counts.from_tensor(torch.zeros(3, num_tasks, dtype=torch.int64, device=device))

    @staticmethod
    def from_tensor(stacked: Int64[Tensor, "3 T"]) -> Counts:
        """Invert :meth:`to_tensor`."""
        return Counts(*stacked.unbind())

    def to_tensor(self) -> Int64[Tensor, "3 T"]:
        """Stack the counts into one tensor to sum over processes."""
        return torch.stack([self.hits1, self.hits5, self.total])

    def cells(self) -> tuple[Cell, ...]:
        """Return one cell a task; waits for the device."""
        hits1, hits5, total = self.to_tensor().tolist()
        return tuple(zip(hits1, hits5, total, strict=True))

    def by_task(self, offsets: Sequence[int]) -> Counts:
        """Sum counts of classes into counts of tasks; ``offsets`` are the T + 1 class boundaries of the tasks."""
        parts = self.to_tensor().split([high - low for low, high in pairwise(offsets)], dim=1)
        return Counts.from_tensor(torch.stack([part.sum(dim=1) for part in parts], dim=1))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits1 + other.hits1, self.hits5 + other.hits5, self.total + other.total)


def count(
    logits_BC: Float[Tensor, "B C"],
    labels_B: Int64[Tensor, " B"],
    offsets: Sequence[int],
    protocol: str = CLASS_INCREMENTAL,
) -> Counts:
    """Count correct predictions, task by task: the sums of ``count_by_class``, which explains the arguments."""
    return count_by_class(logits_BC, labels_B, offsets, protocol).by_task(offsets)


def count_by_class(
    logits_BC: Float[Tensor, "B C"],
    labels_B: Int64[Tensor, " B"],
    offsets: Sequence[int],
    protocol: str = CLASS_INCREMENTAL,
) -> Counts:
    """Count correct predictions, class by class.

    Of equal scores the lowest class wins. A row with a score that is not a number counts as wrong: a diverged network
    must not look right.

    Args:
        logits_BC: scores over all classes seen.
        labels_B: global labels in [0, C).
        offsets: the T + 1 class boundaries of the tasks seen, 0 first and C last.
        protocol: who competes: all classes, those of the image's own task, or tasks by their best class
            (``PROTOCOLS``).

    Returns:
        Counts of C classes, on the logits' device, without a synchronisation.

    Raises:
        ValueError: offsets that do not go from 0 up to C, or another protocol.
    """
    if list(offsets) != sorted(set(offsets)) or offsets[0] != 0 or offsets[-1] != logits_BC.shape[1]:
        got = f"class offsets {list(offsets)} do not rise from 0 to the {logits_BC.shape[1]} scores"
        raise ValueError(f"{got}: pass each task's first class, then the number of classes")
    device = logits_BC.device
    sizes = torch.tensor([b - a for a, b in pairwise(offsets)])
    tasks_C = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device, non_blocking=True)
    tasks_B = tasks_C[labels_B]
    match protocol:
        case "class_incremental":
            ahead = _ahead(logits_BC, labels_B)
        case "task_incremental":
            ahead = _ahead(logits_BC, labels_B) & (tasks_C == tasks_B[:, None])
        case "task_inference":
            ahead = _ahead(_best(logits_BC, tasks_C, len(sizes)), tasks_B)
        case _:
            raise ValueError(f"there is no protocol {protocol}: ask for {', '.join(PROTOCOLS)}")
    rank_B = ahead.sum(dim=1)
    right_B = ~logits_BC.isnan().any(dim=1)
    counted_3B = torch.stack([right_B & (rank_B < 1), right_B & (rank_B < 5), torch.ones_like(right_B)]).long()
    return Counts.from_tensor(labels_B.new_zeros(3, logits_BC.shape[1]).index_add_(1, labels_B, counted_3B))


def _best(
    logits_BC: Float[Tensor, "B C"], tasks_C: Int64[Tensor, " C"], num_tasks: int
) -> Float[Tensor, "B {num_tasks}"]:
    """Return each task's highest score."""
    lowest_BT = logits_BC.new_full((len(logits_BC), num_tasks), -torch.inf)
    return lowest_BT.scatter_reduce(1, tasks_C.expand(len(logits_BC), -1), logits_BC, "amax")


def _ahead(logits_BC: Float[Tensor, "B C"], labels_B: Int64[Tensor, " B"]) -> Bool[Tensor, "B C"]:
    """Mark the classes (or tasks) that rank before the label's."""
    # Counting who is ahead needs no sort and settles ties, which top-k and argmax leave open on some devices.
    own_B1 = logits_BC.gather(1, labels_B[:, None])
    earlier_BC = torch.arange(logits_BC.shape[1], device=logits_BC.device) < labels_B[:, None]
    return (logits_BC > own_B1) | ((logits_BC == own_B1) & earlier_BC)


@dataclass(frozen=True)
class AccuracyMatrix:
    """Counts of every evaluation of one protocol and read-out: row i, after task i, has tasks 0 to i.

    A task whose test images are no longer available when a later one is added has a total of 0 there: it was not
    evaluated, and metrics that would need it are None. The task learnt last always has images. It is a value:
    :meth:`with_row` returns another one.
    """

    rows: tuple[tuple[Cell, ...], ...] = ()
    """rows[i][j] = (hits1, hits5, total) on task j's test images after task i."""

    def __post_init__(self) -> None:
        for after, row in enumerate(self.rows):
            if len(row) != after + 1:
                need = f"evaluate tasks 0 to {after} after task {after}"
                raise ValueError(f"row {after} of an accuracy matrix has {len(row)} tasks: {need}")
            for task, (hits1, hits5, total) in enumerate(row):
                if not 0 <= hits1 <= hits5 <= total or (total == 0 and task == after):
                    got = f"{hits1} and {hits5} right of {total} images after task {after}"
                    raise ValueError(f"task {task} has {got}: each task needs test images, each counted once")

    def __len__(self) -> int:
        """Return the number of tasks learnt and evaluated."""
        return len(self.rows)

    def with_row(self, after_task: int, counts: Counts) -> AccuracyMatrix:
        """Return a matrix with this evaluation as its last row, in place of an earlier evaluation after the same task.

        Raises:
            ValueError: it does not come next, or a task was evaluated on another number of images before: then these
                are other images, and its column would compare what must not be compared.
        """
        if after_task not in (len(self) - 1, len(self)):
            got = f"an evaluation after task {after_task} does not continue {len(self)} rows"
            raise ValueError(f"{got}: evaluate after every task in turn")
        cells = counts.cells()
        for before, row in enumerate(self.rows[:after_task]):
            for task, (*_, images) in enumerate(row):
                now = cells[task][2]
                if images and now not in (0, images):
                    got = f"task {task} was evaluated on {images} images after task {before}"
                    raise ValueError(
                        f"{got}, and on {now} after task {after_task}: the test images of a run stay the same"
                    )
        return AccuracyMatrix((*self.rows[:after_task], cells))

    def accuracies(self, top: int = 1) -> list[list[float | None]]:
        """Return R: ``R[i][j]`` in [0, 1] on task j after task i, None where not evaluated; ``top`` is 1 or 5."""
        return [accuracies_of_each(row, top) for row in self.rows]

    def seen(self, after_task: int, top: int = 1) -> float | None:
        """Return the accuracy in [0, 1] on all tasks seen after ``after_task``: images weigh the same, tasks do not.

        None if one of them was not evaluated: the rest would be another, mostly easier, question.
        """
        return accuracy_of_all(self.rows[after_task], top)

    def to_plain(self) -> Plain:
        """Return lists of lists of [hits1, hits5, total], for a checkpoint."""
        return [[list(cell) for cell in row] for row in self.rows]

    @staticmethod
    def from_plain(rows: Plain) -> AccuracyMatrix:
        """Invert :meth:`to_plain`."""
        return AccuracyMatrix(tuple(tuple((int(a), int(b), int(n)) for a, b, n in row) for row in rows))


def accuracies_of_each(row: Sequence[Cell], top: int = 1) -> list[float | None]:
    """Return one evaluation's accuracies in [0, 1], task by task, None where a task was not evaluated."""
    return [cell[_column(top)] / cell[2] if cell[2] else None for cell in row]


def accuracy_of_all(row: Sequence[Cell], top: int = 1) -> float | None:
    """Return one evaluation's accuracy in [0, 1] on all tasks together: as :meth:`AccuracyMatrix.seen`."""
    if not all(cell[2] for cell in row):
        return None
    return sum(cell[_column(top)] for cell in row) / sum(cell[2] for cell in row)


def _column(top: int) -> int:
    if top not in (1, 5):
        raise ValueError(f"top-{top} accuracy is not counted: ask for 1 or 5")
    return 0 if top == 1 else 1
