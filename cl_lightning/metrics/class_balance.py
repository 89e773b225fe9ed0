"""Class-balanced ("macro") accuracy: the mean over classes of each class's accuracy, from whole-number counts.

The accuracy on all images weighs a class by its number of test images; here every class weighs the same. With equally
many images a class the two are equal, to the last bit.

Legend: C classes seen, T tasks seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cl_lightning.core.types import Plain
from cl_lightning.metrics.accuracy import AccuracyMatrix, Counts

ClassCell = tuple[int, int]
"""(right answers, images) of one class."""


def macro_accuracy(cells: Sequence[ClassCell]) -> float | None:
    """Return the mean in [0, 1] of right / images over classes ("balanced accuracy", Brodersen et al. 2010).

    None without classes, or if one has no images: the mean of the rest would be another question.
    """
    if not cells or not all(images for _, images in cells):
        return None
    right_of: Counter[int] = Counter()
    for right, images in cells:
        right_of[images] += right
    if len(right_of) == 1:  # one division, as for the accuracy on all images
        ((images, right),) = right_of.items()
        return right / (images * len(cells))
    return math.fsum(right / images for images, right in right_of.items()) / len(cells)


@dataclass(frozen=True)
class ClassCounts:
    """Counts of each class, of every evaluation of one protocol and read-out: row i, after task i, has all classes
    seen by then. It is a value: :meth:`with_row` returns another one.
    """

    rows: tuple[tuple[ClassCell, ...] | None, ...] = ()
    """rows[i][c] = (right answers, images) of class c after task i; None for an evaluation before this was counted."""

    def __post_init__(self) -> None:
        for after, row in enumerate(self.rows):
            if row is not None and not all(0 <= right <= images for right, images in row):
                raise ValueError(f"after task {after} a class has more right answers than images")

    def with_row(self, after_task: int, counts: Counts) -> ClassCounts:
        """Return these counts with an evaluation, by class, as the last row."""
        before = (*self.rows[:after_task], *[None] * (after_task - len(self.rows)))
        right, _, images = counts.to_tensor().tolist()
        return ClassCounts((*before, tuple(zip(right, images, strict=True))))

    def macro(self, after_task: int) -> float | None:
        """Return the class-balanced accuracy in [0, 1] on all classes seen after a task; None if not counted."""
        row = self.rows[after_task] if after_task < len(self.rows) else None
        return None if row is None else macro_accuracy(row)

    def check(self, matrix: AccuracyMatrix, sizes: Sequence[int]) -> None:
        """Raise ``ValueError`` unless the counts of each task's classes add up to those of the task; ``sizes`` are the
        numbers of classes of the tasks.
        """
        offsets = [sum(sizes[:task]) for task in range(len(sizes) + 1)]
        for after, row in enumerate(self.rows):
            if row is None:
                continue
            parts = [row[low:high] for low, high in pairwise(offsets[: after + 2])]
            sums = [tuple(map(sum, zip(*part, strict=True))) for part in parts]
            tasks = [(right, images) for right, _, images in matrix.rows[after]] if after < len(matrix) else []
            if len(row) != offsets[min(after + 1, len(sizes))] or sums != tasks:
                raise ValueError(f"the counts of classes after task {after} do not add up to those of its tasks")

    def to_plain(self) -> Plain:
        """Return lists of lists of [right, images], or None, for a checkpoint."""
        return [None if row is None else [list(cell) for cell in row] for row in self.rows]

    @staticmethod
    def from_plain(rows: Plain) -> ClassCounts:
        """Invert :meth:`to_plain`."""
        return ClassCounts(
            tuple(None if row is None else tuple((int(right), int(n)) for right, n in row) for row in rows)
        )
