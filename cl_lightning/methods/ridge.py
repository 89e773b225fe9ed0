"""Ridge regression from sums: what RanPAC keeps of its images, and how lambda is chosen and W_o solved for.

McDonnell et al., RanPAC (NeurIPS 2023), section 4. G = H'H and Q = H'Y are sums over images, so images are looked at
once. Where the published code solves a system for each of 17 values of lambda, here one eigendecomposition serves them
all: of H'H (primal), or of H H' where there are fewer images than features (dual). All is in float64 on the CPU: G of
few images is singular, and in float32 a small lambda is then lost in rounding.

Legend: n images, M features, C classes, L values of lambda.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

LAMBDAS = tuple(10.0**power for power in range(-8, 9))
"""Values that are tried."""
_CHUNK = 1024
"""Rows that are projected at once: of 10,000 features they take 80 MB."""

Project = Callable[[Float[Tensor, "n D"]], Float[Tensor, "n M"]]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over images, in float64."""

    gram: Float[Tensor, "M M"]
    """G = H'H, symmetric to the bit."""
    cross: Float[Tensor, "C M"]
    """Q' = Y'H: the sum of each class's rows of H."""
    count: int
    """Number of images, which is also the sum of the squares of Y."""

    def __add__(self, other: Sums) -> Sums:
        classes = max(len(self.cross), len(other.cross))
        cross = _with_classes(self.cross, classes) + _with_classes(other.cross, classes)
        return Sums(self.gram + other.gram, cross, self.count + other.count)


def no_sums(width: int) -> Sums:
    """Return the sums over no image of no class."""
    return Sums(torch.zeros(width, width, dtype=torch.float64), torch.zeros(0, width, dtype=torch.float64), 0)


def sums_of(
    features_nD: Float[Tensor, "n D"], labels_n: Int64[Tensor, " n"], classes: int, width: int, project: Project
) -> Sums:
    """Sum over images, whose ``labels_n`` are below ``classes``; ``project`` maps features to the ``width`` columns of
    H.
    """
    gram = torch.zeros(width, width, dtype=torch.float64)
    cross = torch.zeros(classes, width, dtype=torch.float64)
    for part_nD, labels in zip(features_nD.split(_CHUNK), labels_n.split(_CHUNK), strict=True):
        rows_nM = project(part_nD.double())
        gram.addmm_(rows_nM.T, rows_nM)
        cross.index_add_(0, labels, rows_nM)
    for index in range(width):  # a product of matrices rounds both halves in its own way, and only one of them is saved
        gram[index + 1 :, index] = gram[index, index + 1 :]
    return Sums(gram, cross, len(labels_n))


def losses_by_sums(fit: Sums, held: Sums) -> list[float]:
    """Return the mean squared error on the images of ``held``, of the ridge on those of ``fit`` by each lambda: primal.

    With A = V (c / (s + lambda)), G_fit = V S V' and c = V'Q_fit, the sum of squares is tr(A'G_held A) - 2 tr(A'Q_held)
    + the sum of the squares of Y. Both have at least one image.
    """
    s_M, v_MM = torch.linalg.eigh(fit.gram)
    s_M = s_M.clamp(min=0)  # rounding leaves small negative values, which 1e-8 would turn into poles
    c_MC, held_MC = v_MM.T @ fit.cross.T, v_MM.T @ held.cross.T
    gram_MM = v_MM.T @ held.gram @ v_MM
    losses = []
    for ridge in LAMBDAS:
        a_MC = c_MC / (s_M + ridge)[:, None]
        squares = (a_MC * (gram_MM @ a_MC)).sum() - 2 * (a_MC * held_MC).sum() + held.count
        losses.append(squares.item() / (held.count * len(held.cross)))
    return losses


def losses_by_rows(
    fit_mM: Float[Tensor, "m M"],
    fit_labels_m: Int64[Tensor, " m"],
    held_nM: Float[Tensor, "n M"],
    held_labels_n: Int64[Tensor, " n"],
    classes: int,
) -> list[float]:
    """Return the same from rows of H, by the eigendecomposition of H_fit H_fit' (m x m): dual."""
    s_m, u_mm = torch.linalg.eigh(fit_mM @ fit_mM.T)
    s_m = s_m.clamp(min=0)
    c_mC = u_mm.T @ F.one_hot(fit_labels_m, classes).to(fit_mM)
    p_nm = (held_nM @ fit_mM.T) @ u_mm
    y_nC = F.one_hot(held_labels_n, classes).to(fit_mM)
    return [(p_nm @ (c_mC / (s_m + ridge)[:, None]) - y_nC).square().mean().item() for ridge in LAMBDAS]


def best_lambda(losses: Sequence[float]) -> float:
    """Return the lambda of the least loss, the smallest of equal ones."""
    return LAMBDAS[losses.index(min(losses))]


def solved(sums: Sums, ridge: float) -> Float[Tensor, "C M"]:
    """Return W_o' of (G + lambda I) W_o = Q: by Cholesky, or by eigenvalues where rounding leaves G indefinite."""
    ridged_MM = sums.gram.clone()
    ridged_MM.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(ridged_MM)
    if not failed:
        return torch.cholesky_solve(sums.cross.T, factor).T
    s_M, v_MM = torch.linalg.eigh(sums.gram)
    return (v_MM @ ((v_MM.T @ sums.cross.T) / (s_M.clamp(min=0) + ridge)[:, None])).T


def upper_triangle(gram_MM: Float[Tensor, "M M"]) -> Float[Tensor, " M*(M+1)//2"]:
    """Return the rows of a symmetric matrix from its diagonal on, one after the other: what a checkpoint holds."""
    return torch.cat([row[index:] for index, row in enumerate(gram_MM)])


def from_upper_triangle(values: Float[Tensor, " _count"], width: int) -> Float[Tensor, "{width} {width}"]:
    """Invert :func:`upper_triangle`."""
    gram = torch.zeros(width, width, dtype=torch.float64)
    for index, row in enumerate(values.split(list(range(width, 0, -1)))):
        gram[index, index:] = gram[index:, index] = row
    return gram


def _with_classes(cross_CM: Float[Tensor, "c M"], classes: int) -> Float[Tensor, "{classes} M"]:
    return F.pad(cross_CM, (0, 0, 0, classes - len(cross_CM)))
