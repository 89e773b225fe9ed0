"""Predictions on test images as counts: the confusion matrix and the reliability of confidences.

Whole numbers again (``metrics/accuracy.py``): their sums do not depend on batches, on the order of images or on the
number of processes. A confidence is counted in 2^-16.

Legend: B batch, C classes seen, K bins of confidence, T tasks seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cl_lightning.core.types import Plain, Readout

BINS = 10
"""Equal bins of confidence in [0, 1]."""
_UNIT = 1 << 16


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions on the test images of all classes seen; sums of batches (``+``) are such counts too."""

    confusion: Int64[Tensor, "C C"]
    """Images of class i that were taken for class j."""
    reliability: Int64[Tensor, "2 K 3"]
    """Old and new classes, by confidence: images, correct predictions, sum of confidences (2^-16). Zeros where scores
    rank only.
    """

    def __add__(self, other: Answers) -> Answers:
        return Answers(self.confusion + other.confusion, self.reliability + other.reliability)

    def cpu(self) -> Answers:
        """Copy the counts to the host."""
        return Answers(self.confusion.cpu(), self.reliability.cpu())

    def to_plain(self) -> Plain:
        """Return the counts by name, for a checkpoint."""
        return {"confusion": self.confusion, "reliability": self.reliability}

    @staticmethod
    def from_plain(plain: Plain) -> Answers:
        """Invert :meth:`to_plain`."""
        return Answers(plain["confusion"], plain["reliability"])


class Tally:
    """A sum of answers that grows in place: a batch costs what it has images, not what the matrix has cells."""

    def __init__(self) -> None:
        self.total: Answers | None = None
        """Counts of all batches so far, on their device; ``None`` before the first."""

    def add(
        self, readout: Readout, scores_BC: Float[Tensor, "B C"], labels_B: Int64[Tensor, " B"], num_old: int
    ) -> None:
        """Count the predictions of a batch of scores; without confidences, where ``readout`` has no probabilities."""
        self.add_probabilities(
            scores_BC if readout.ranks_only else readout.probabilities(scores_BC),
            labels_B,
            num_old,
            with_confidence=not readout.ranks_only,
        )

    def add_probabilities(
        self,
        probabilities_BC: Float[Tensor, "B C"],
        labels_B: Int64[Tensor, " B"],
        num_old: int,
        *,
        with_confidence: bool = True,
    ) -> None:
        """Count the predictions of a batch, on its device and without waiting for it.

        Args:
            probabilities_BC: in [0, 1]; the highest is the prediction, the first of equal ones, and its value the
                confidence. One that is not a number counts as zero.
            labels_B: global labels in [0, C).
            num_old: classes learnt before the newest task; an image is old or new by its own class.
            with_confidence: count confidences too; else only the order of the numbers is read.
        """
        classes = probabilities_BC.shape[1]
        if self.total is None:
            self.total = Answers(labels_B.new_zeros(classes, classes), labels_B.new_zeros(2, BINS, 3))
        confidence_B, answer_B = probabilities_BC.float().nan_to_num(0.0).max(dim=1)
        ones_B = torch.ones_like(labels_B)
        self.total.confusion.view(-1).index_add_(0, labels_B * classes + answer_B, ones_B)
        if with_confidence:
            bin_B = (confidence_B * BINS).long().clamp_(0, BINS - 1) + BINS * (labels_B >= num_old)
            in_units_B = (confidence_B * _UNIT).round().long()
            counts_B3 = torch.stack([ones_B, (answer_B == labels_B).long(), in_units_B], dim=1)
            self.total.reliability.view(2 * BINS, 3).index_add_(0, bin_B, counts_B3)


def between_tasks(confusion_CC: Int64[Tensor, "C C"], offsets: Sequence[int]) -> Int64[Tensor, "T T"]:
    """Count the images of task i that were taken for a class of task j; ``offsets`` are the T + 1 boundaries."""
    sizes = [high - low for low, high in pairwise(offsets)]
    columns = torch.stack([part.sum(dim=1) for part in confusion_CC.split(sizes, dim=1)], dim=1)
    return torch.stack([part.sum(dim=0) for part in columns.split(sizes)])


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of one group of images, bin by bin."""

    images: tuple[int, ...]
    """Number of images in each bin."""
    confidence: tuple[float | None, ...]
    """Mean of each bin; None where it is empty."""
    accuracy: tuple[float | None, ...]
    """Mean of each bin; None where it is empty."""

    @property
    def calibration_error(self) -> float | None:
        """Mean over images of |accuracy - confidence| of their bin (Guo et al. 2017, eq. 3); None without images."""
        total = sum(self.images)
        gaps = zip(self.images, self.confidence, self.accuracy, strict=True)
        return sum(n * abs(a - c) for n, c, a in gaps if c is not None and a is not None) / total if total else None


def reliability(counts_K3: Int64[Tensor, "K 3"]) -> Reliability:
    """Average one group's counts, as in ``Answers.reliability``."""
    rows = counts_K3.tolist()
    return Reliability(
        tuple(n for n, _, _ in rows),
        tuple(total / _UNIT / n if n else None for n, _, total in rows),
        tuple(right / n if n else None for n, right, _ in rows),
    )
