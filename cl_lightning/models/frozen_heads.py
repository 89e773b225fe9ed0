"""Classifiers of frozen features: their rows are computed from sums over the training images, and never trained.

Cosines to class means (SimpleCIL: Zhou, Cai, Ye, Zhan & Liu, IJCV 2024) and a ridge regression on a random projection
(RanPAC: McDonnell, Gong, Parvaneh, Abbasnejad & van den Hengel, NeurIPS 2023). Where the first task trains the
backbone, it trains a linear classifier with it, which is dropped once the rows are known.

Legend: B batch, D width of the features, M width that the rows read, C classes.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Plain
from cl_lightning.models.heads import CosineByTask, GrowingClassifier


class FrozenFeaturesHead(GrowingClassifier):
    """A classifier whose rows (C, M) are given (:meth:`fill`); those of classes that are new are zero until then."""

    def __init__(self, dim: int, width: int, *, linear: bool, cosine: bool) -> None:
        """``dim`` is D, ``width`` is M; ``linear``: the first task trains a linear classifier in place of the rows, or
        with ``cosine`` one of scaled cosines.
        """
        super().__init__()
        self.dim = dim
        self.linear: nn.Linear | CosineByTask | None = None
        self._begins_linear, self._cosine = linear, cosine
        self.rows = nn.Parameter(torch.zeros(0, width), requires_grad=False)

    @abstractmethod
    def scores(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Score all classes by the rows."""

    def grow(self, num_new: int) -> None:
        """Add rows of zeros; in a first task that trains a linear classifier, draw that as ``nn.Linear`` does."""
        if self._begins_linear:
            self.linear, self._begins_linear = self._first(num_new), False
        new = self.rows.new_zeros(num_new, self.rows.shape[1])
        self.rows = nn.Parameter(torch.cat([self.rows.data, new]), requires_grad=False)

    def _first(self, num_new: int) -> nn.Linear | CosineByTask:
        if not self._cosine:
            return nn.Linear(self.dim, num_new)
        cosines = CosineByTask(self.dim)
        cosines.grow(num_new)
        return cosines

    @torch.no_grad()
    def fill(self, rows_CM: Float[Tensor, "C M"]) -> None:
        """Set the rows of all classes, and drop the linear classifier."""
        self.rows.copy_(rows_CM)
        self.linear = None

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Score all classes seen: by the rows, or by the linear classifier while there is one."""
        return self.scores(e_BD) if self.linear is None else self.linear(e_BD)

    def reads_frozen_features(self) -> bool:
        """Return True unless the first task has still to train the backbone."""
        return self.linear is None and not self._begins_linear

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the linear classifier's parameters, and the rows, which no phase trains."""
        return {"classifier": [] if self.linear is None else list(self.linear.parameters()), "rows": [self.rows]}

    def structure(self) -> dict[str, Plain]:
        """Return whether there is a linear classifier, or will be in the first task."""
        begins: dict[str, Plain] = {"linear": self._begins_linear or self.linear is not None}
        return {**begins, **({"cosine": True} if self._cosine else {})}


class MeanCosines(FrozenFeaturesHead):
    """Cosines of the features and the mean feature of each class, in [-1, 1]; 0 for a class without a mean."""

    def __init__(self, dim: int, *, linear: bool = False, cosine: bool = False) -> None:
        super().__init__(dim, dim, linear=linear, cosine=cosine)

    def scores(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return <f / |f|, w / |w|>, in float32 or float64; lengths count as 1e-12 at least."""
        with torch.autocast(e_BD.device.type, enabled=False):
            return F.normalize(e_BD.to(self.rows.dtype), dim=-1) @ F.normalize(self.rows, dim=-1).T

    def structure(self) -> dict[str, Plain]:
        """Return its kind, and whether there is a linear classifier."""
        return {"head": "mean_cosines", **super().structure()}


class ProjectedRidge(FrozenFeaturesHead):
    """relu(f W) W_o: rows on a random projection W (D, M), which is drawn from N(0, 1) and stays.

    W is drawn from ``seed`` whenever the head is built, so no file holds it.
    """

    projection: Tensor | None
    """W, (D, M); None without a projection."""

    def __init__(self, dim: int, projection: int, seed: int, *, linear: bool = False, cosine: bool = False) -> None:
        """``projection`` is M, 0 for none: the rows then read the features as they are. ``seed`` names the draw."""
        super().__init__(dim, projection or dim, linear=linear, cosine=cosine)
        self.seed = seed
        drawn = None if projection == 0 else _projection(dim, projection, seed)
        self.register_buffer("projection", drawn, persistent=False)

    @property
    def width(self) -> int:
        """Number of values that the rows read: M, or D without a projection."""
        return self.rows.shape[1]

    def project(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B M"]:
        """Return relu(f W), or f without a projection, in the precision of ``e_BD`` and on its device."""
        return e_BD if self.projection is None else (e_BD @ self.projection.to(e_BD)).relu()

    def scores(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return relu(f W) W_o, in float32 or float64: least-squares estimates of 0 and 1."""
        with torch.autocast(e_BD.device.type, enabled=False):
            return F.linear(self.project(e_BD.to(self.rows.dtype)), self.rows)

    def structure(self) -> dict[str, Plain]:
        """Return its kind, M and the seed of W, and whether there is a linear classifier."""
        size = 0 if self.projection is None else self.width
        return {"head": "projected_ridge", "projection": size, "seed": self.seed, **super().structure()}


def _projection(dim: int, width: int, seed: int) -> Float[Tensor, "{dim} {width}"]:
    return rng.normal(Key(seed).fold("projection"), torch.arange(dim)[:, None], torch.arange(width))
