"""Class balance of a phase: from its numbers of training images by class, weights for a loss or draws of a sampler.

Both change nothing where all classes of a phase have the same number of images, as in balanced phases.

Legend: C classes seen, n_c images of class c in the phase, N all of them, K classes that have any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.classes import rows_by_class
from cl_lightning.core.rng import Key


def class_counts(rows: Sequence[Tensor], labels: Tensor, num_classes: int) -> Tensor:
    """Return (C,) int64 numbers of images by class; ``rows`` are those of each replica, ``labels`` those of all
    rows.
    """
    return torch.stack([labels[own].bincount(minlength=num_classes) for own in rows]).sum(dim=0)


def is_even(counts: Tensor) -> bool:
    """Return whether all classes that have images have the same number."""
    present = counts[counts > 0]
    return bool((present == present[0]).all()) if len(present) else True


def class_weights(counts: Tensor) -> Tensor:
    """Return (C,) float32 weights by inverse frequency, w_c = N / (K n_c): their mean over the phase's images is 1, and
    each class weighs N / K images. A class without images has 0.

    This is ``class_weight="balanced"`` of scikit-learn (King & Zeng 2001).
    """
    present = counts > 0
    weights = counts.sum() / (present.sum() * counts.clamp_min(1).double())
    return torch.where(present, weights, 0.0).float()


@dataclass(frozen=True, eq=False)
class ClassDraws:
    """Class-balanced draws from the rows of each replica: any class with the same chance, then any of its images with
    the same chance, with replacement (class-balanced sampling: Kang et al. 2020, equation 1, q = 0).

    A draw is a function of key and number alone.
    """

    by_class: tuple[tuple[Tensor, ...], ...]
    """Replica -> class -> (n_c,) int64 places in the replica's rows; classes without images are left out."""

    @classmethod
    def of(cls, rows: Sequence[Tensor], labels: Tensor) -> ClassDraws:
        """Group the ``rows`` of each replica by class; ``labels`` are those of all rows."""
        return cls(tuple(_by_class(labels[own]) for own in rows))

    def draw(self, replica: int, key: Key, numbers: Tensor) -> Tensor:
        """Return (n,) int64 places in the replica's rows, for the draws of these ``numbers``."""
        classes = self.by_class[replica]
        sizes = torch.tensor([len(places) for places in classes])
        first = sizes.cumsum(0) - sizes
        drawn = rng.integers(key, numbers, len(classes), slots=0)
        within = rng.integers(key, numbers, sizes[drawn], slots=1)
        return torch.cat(classes)[first[drawn] + within]


def _by_class(labels: Tensor) -> tuple[Tensor, ...]:
    classes = int(labels.max()) + 1 if len(labels) else 0
    return tuple(rows for rows in rows_by_class(labels, classes) if len(rows))
