"""Herding: the choice of a class's exemplars, best first, from their features alone.

An exemplar set should have the mean feature of its class (Welling 2009; iCaRL, Rebuffi et al. 2017, algorithm 4). Both
rules here are one greedy search: pick j = argmax_i <w, d_i>, then w <- w + mean - d_j. Only inner products enter, so a
pick costs one column of the Gram matrix, a row picked again costs none, and scores move by n additions.

Columns are float32, a third of the cost of float64. Scores carry a bound of their own rounding error; rows that it
cannot tell apart are scored again in float64. So the ranks are those of float64, whatever the BLAS and its threads.

Features that are not to be divided by their own lengths are all divided by the longest one: no choice depends on a
common factor, and the bound holds for lengths up to one.

Legend: n images of one class, F feature size, R rows in question.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

_NORM_FLOOR = 1e-8
_UNIT_ROUNDOFF = 2.0**-24
_TIE = 1e-13
_BLOCK = 64

_Vector = NDArray[np.float64]


def herd(
    features: Tensor, count: int, max_iterations: int = 1000, *, normalised: bool = True
) -> Int64[Tensor, " ranks"]:
    """Rank images by the rule of the published DyTox runs ("icarl_all").

    A row chosen before may win again: it then moves ``w`` but fills no rank. After ``max_iterations`` such turns
    the ranks still open go to the rows not chosen yet, in row order. The lowest row wins ties.

    Args:
        features: (n, F) floating point, one row an image.
        count: images wanted, >= 0; a class with fewer gives them all.
        max_iterations: turns of the search, >= 0 (published: 1000).
        normalised: divide each row by its norm + 1e-8 first.

    Returns:
        min(count, n) row numbers on the CPU, best first. A smaller count gives a prefix.

    Raises:
        ValueError: features that are not (n, F) floating point, or a negative count.
        FloatingPointError: features that are not finite: the network has diverged.
    """
    return _rank(features, count, max_iterations, revisit=True, normalised=normalised)


def herd_distinct(features: Tensor, count: int, *, normalised: bool = True) -> Int64[Tensor, " ranks"]:
    """Rank images by iCaRL's own rule: next is the unused row that brings the exemplars' mean nearest the class mean.

    Minimising ||mean - (sum + d)/k|| is maximising <k mean - sum, d> - ||d||^2/2. Arguments, result and errors are
    those of :func:`herd`, from which it differs only from the turn on at which that would choose a row again.
    """
    return _rank(features, count, count, revisit=False, normalised=normalised)


def _rank(features: Tensor, count: int, turns: int, *, revisit: bool, normalised: bool) -> Int64[Tensor, " ranks"]:
    if features.ndim != 2 or not features.is_floating_point():
        got = f"{features.dtype} features of shape {tuple(features.shape)}"
        raise ValueError(f"herding got {got}: pass floats of shape (images, feature size)")
    if count < 0:
        raise ValueError(f"herding was asked for {count} exemplars of a class: pass 0 or more")
    wanted = min(count, len(features))
    if wanted == 0:
        return torch.empty(0, dtype=torch.int64)
    ranked = dict.fromkeys(_greedy(features.detach().cpu(), wanted, turns, revisit, normalised))
    if len(ranked) < wanted:
        ranked.update(dict.fromkeys(range(len(features))))
    return torch.tensor(list(ranked)[:wanted], dtype=torch.int64)


def _greedy(features: Float[Tensor, "n F"], wanted: int, turns: int, revisit: bool, normalised: bool) -> list[int]:
    quick = QuickProducts(features, normalised=normalised)
    exact = _Exact(features, None if normalised else quick.longest)
    step, tie_break = quick.with_mean, np.zeros(len(features)) if revisit else -quick.half_squared_norms
    scores, slack = step + tie_break, np.zeros(len(features))
    columns: dict[int, _Vector] = {}
    for turn in range(turns):
        slack += quick.error_per_turn
        row = _settle(scores, slack, exact, turn, revisit)
        if row not in columns:
            if len(columns) + 1 == wanted:
                return [*columns, row]
            columns[row] = quick.column(row)
        scores += step - columns[row]
        exact.picked.append(row)
        if not revisit:
            scores[row] = -np.inf
    return list(columns)


def _settle(scores: _Vector, slack: _Vector, exact: _Exact, turn: int, revisit: bool) -> int:
    """Return the row of the highest score; scores too close to call are replaced, in place, by float64 values."""
    tie = _TIE * (turn + 1)
    while True:
        best = int(scores.argmax())
        rivals = np.flatnonzero(scores + slack >= scores[best] - slack[best] - tie)
        doubtful = rivals[slack[rivals] > 0]
        if len(rivals) == 1 or len(doubtful) == 0:
            return int(rivals[0])
        scores[doubtful] = exact.scores(doubtful, halve_norms=not revisit)
        slack[doubtful] = 0


class QuickProducts:
    """A class's inner products in float32, between rows divided by their norms, or by the largest of them."""

    def __init__(self, features: Float[Tensor, "n F"], *, normalised: bool = True) -> None:
        # numpy's BLAS reads a matrix of this size from the caches twice as fast as torch's, and nothing of torch must
        # run beside it: the threads of both would fight. Rows are scaled after a product: a normalised copy would cost
        # several picks.
        self._rows_nF: NDArray[np.float32] = features.to(torch.float32).contiguous().numpy()
        norms_n = np.sqrt(np.einsum("nf,nf->n", self._rows_nF, self._rows_nF)).astype(np.float64)
        self.longest = float(norms_n.max())
        """Largest norm."""
        self._scale_n: _Vector = 1 / ((norms_n if normalised else np.full_like(norms_n, self.longest)) + _NORM_FLOOR)
        mean_F = self._scale_n.astype(np.float32) @ self._rows_nF / np.float32(len(norms_n))
        with np.errstate(invalid="ignore", over="ignore"):  # raised below
            self.with_mean: _Vector = (self._rows_nF @ mean_F) * self._scale_n
        if not np.isfinite(self.with_mean).all():
            raise FloatingPointError(
                "herding got features that are not finite, the network has diverged: lower lr_scale"
            )
        self.half_squared_norms: _Vector = np.square(norms_n * self._scale_n) / 2
        # Rounding errors of a sum grow like the square root of its length (Higham & Mary 2019); measured errors, of the
        # row's column and of the mean's together, are ten times smaller, as BLAS sums in blocks.
        self.error_per_turn = (self._rows_nF.shape[1] ** 0.5 + 8) * _UNIT_ROUNDOFF

    def column(self, row: int) -> _Vector:
        """Return the inner products of all n rows with one."""
        return (self._rows_nF @ self._rows_nF[row]) * (self._scale_n * self._scale_n[row])


class _Exact:
    """Scores in float64, for a few rows at a time; ``picked`` are the picks so far, with repetitions.

    Rows are divided by their norms, or all by one ``divisor``.
    """

    def __init__(self, features: Float[Tensor, "n F"], divisor: float | None = None) -> None:
        self._divisor = divisor
        exact = features if features.dtype == torch.float64 else features.float()
        self._rows_nF: _Vector | NDArray[np.float32] = exact.numpy()
        self._mean_F: _Vector | None = None
        self._sum_F: _Vector = np.zeros(features.shape[1])
        self._summed = 0
        self.picked: list[int] = []

    def scores(self, rows: NDArray[np.int64], halve_norms: bool) -> _Vector:
        """Return <w, d_i> for R rows, less ||d_i||^2/2 on demand."""
        if self._mean_F is None:
            # In blocks, which stay in the cache: most classes are decided without, the others need it once.
            count = len(self._rows_nF)
            sums = [self._sum(self._rows_nF[low : low + _BLOCK]) for low in range(0, count, _BLOCK)]
            self._mean_F = np.sum(sums, axis=0) / count
        if len(self.picked) > self._summed:
            self._sum_F += self._sum(self._rows_nF[self.picked[self._summed :]])
            self._summed = len(self.picked)
        rows_RF = self._rows_nF[rows].astype(np.float64)
        norms_R = _norms(rows_RF)
        scale_R = self._scale(norms_R)
        scores_R: _Vector = (rows_RF @ ((len(self.picked) + 1) * self._mean_F - self._sum_F)) * scale_R
        return scores_R - np.square(norms_R * scale_R) / 2 if halve_norms else scores_R

    def _sum(self, rows_RF: _Vector | NDArray[np.float32]) -> _Vector:
        """Sum the divided rows, in float64."""
        exact_RF = rows_RF.astype(np.float64)
        total: _Vector = self._scale(_norms(exact_RF)) @ exact_RF
        return total

    def _scale(self, norms_R: _Vector) -> _Vector:
        divisors = norms_R if self._divisor is None else np.full_like(norms_R, self._divisor)
        scale: _Vector = 1 / (divisors + _NORM_FLOOR)
        return scale


def _norms(rows_RF: _Vector) -> _Vector:
    norms: _Vector = np.sqrt(np.einsum("rf,rf->r", rows_RF, rows_RF))
    return norms
