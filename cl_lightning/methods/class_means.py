"""Nearest mean of exemplars: a read-out that several methods share (Rebuffi et al., iCaRL, CVPR 2017, algorithm 1).

A class is represented by the mean of its exemplars' features, each of length one, and an image belongs to the nearest.

Legend: B batch, C classes, F feature size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core.errors import NOT_GIVEN, InvalidFileError, InvalidSettingError
from cl_lightning.core.types import DataAccess, Embed, Plain, Readout

CLASS_MEANS = "class_means"
"""Name of the plan item that takes the means, and of them in a method's state."""


def mean_exemplars(num_seen: int, look: DataAccess, embed: Embed, method: str) -> Float[Tensor, "{num_seen} F"]:
    """Return the mean of each class's exemplars, of length one; mirrored copies count where a mirror image is one of
    the class.

    Raises ``InvalidSettingError`` where a class has no exemplar; ``method`` is named in it.
    """
    rows = [look.exemplars.get(label, torch.empty(0, dtype=torch.int64)) for label in range(num_seen)]
    empty = [label for label, its_rows in enumerate(rows) if len(its_rows) == 0]
    if empty:
        reason = f": {method} needs an exemplar of each class and has none of {len(empty)} of {num_seen}"
        allowed = f"{num_seen} or more for all classes together, 1 or more for each of them"
        raise InvalidSettingError("size", NOT_GIVEN, f"is too small{reason}", allowed)
    # All classes pass together: a call a class would leave an accelerator waiting. Original and mirrored copy weigh
    # the same, so their sum has the direction of their mean.
    embedded = _normalised(look, embed, torch.cat(rows), flip=False)
    if look.flips:
        embedded = embedded + _normalised(look, embed, torch.cat(rows), flip=True)
    means = [of_class.mean(dim=0) for of_class in embedded.split([len(its_rows) for its_rows in rows])]
    return F.normalize(torch.stack(means), dim=-1)


def _normalised(look: DataAccess, embed: Embed, rows: Int64[Tensor, " n"], *, flip: bool) -> Float[Tensor, "n F"]:
    return F.normalize(look.embed(rows, embed, flip=flip), dim=-1)


def nearest_mean_scores(e_BF: Float[Tensor, "B F"], means_CF: Float[Tensor, "C F"]) -> Float[Tensor, "B C"]:
    """Return minus the squared distance between normalised features and class means, always in float32."""
    with torch.autocast(e_BF.device.type, enabled=False):
        return minus_squared_distances(e_BF.float(), means_CF)


def minus_squared_distances(e_BF: Float[Tensor, "B F"], means_CF: Float[Tensor, "C F"]) -> Float[Tensor, "B C"]:
    """Compute :func:`nearest_mean_scores` of float32 features outside autocast, which an export cannot express."""
    unit_BF = F.normalize(e_BF, dim=-1)
    squares_BC = unit_BF.square().sum(-1, keepdim=True) + means_CF.square().sum(-1)
    return 2 * unit_BF @ means_CF.T - squares_BC


def near_or_missing(near_BC: Float[Tensor, "B known"], num_seen: int) -> Float[Tensor, "B {num_seen}"]:
    """Return the scores with minus infinity for classes that have no mean yet."""
    return F.pad(near_BC, (0, num_seen - near_BC.shape[1]), value=-torch.inf)


def restored_means(state: dict[str, Plain], dim: int, method: str) -> Float[Tensor, "C F"]:
    """Return the means out of a method's state. Raises ``InvalidFileError`` for anything else than means of ``dim``
    features.
    """
    means: Plain = state.get(CLASS_MEANS)
    fits = isinstance(means, Tensor) and means.ndim == 2 and means.shape[1] == dim
    if not fits or set(state) != {CLASS_MEANS}:
        given = ", ".join(state) or "nothing"
        raise InvalidFileError(
            f"state of {given}", f"is not class means of {dim} features", f"resume a run of method={method}"
        )
    return means.float().cpu()


class MeansReadout:
    """Nearest mean of exemplars as the second read-out, ``nme``, of a method that has a memory; without one there is no
    such read-out.
    """

    def __init__(self, dim: int, method: str, *, kept: bool) -> None:
        """``method`` is the name that is typed; ``kept``: there is a memory."""
        self._dim = dim
        self._method = method
        self._kept = kept
        self.class_means = torch.empty(0, dim)
        """(C, F), float32 on the CPU, rows of length one."""

    def take(self, num_seen: int, look: DataAccess, embed: Embed) -> None:
        """Take the means of all classes' exemplars. Raises ``InvalidSettingError`` where a class has none."""
        self.class_means = mean_exemplars(num_seen, look, embed, f"method={self._method}")

    def scores(self, linear: Float[Tensor, "B C"], embeddings_BF: Float[Tensor, "B F"]) -> dict[str, Tensor]:
        """Return the classifier's scores, and those by the nearest mean."""
        if not self._kept:
            return {"linear": linear}
        near = nearest_mean_scores(embeddings_BF, self.class_means.to(embeddings_BF.device))
        return {"linear": linear, "nme": near_or_missing(near, linear.shape[1])}

    def readouts(self) -> dict[str, Readout]:
        """Describe both: the classifier's softmax, as trained; ``nme`` ranks the classes, and no more."""
        found = {"linear": Readout()}
        if self._kept:
            found["nme"] = Readout("softmax", means=self.class_means)
        return found

    def pending(self, num_seen: int) -> frozenset[str]:
        """Return ``nme`` from growth to the new class means."""
        return frozenset() if not self._kept or len(self.class_means) == num_seen else frozenset({"nme"})

    def state(self) -> dict[str, Plain]:
        """Return the class means, where there is a memory."""
        return {CLASS_MEANS: self.class_means} if self._kept else {}

    def load(self, state: dict[str, Plain]) -> None:
        """Restore the class means. Raises ``InvalidFileError`` for anything else."""
        if self._kept:
            self.class_means = restored_means(state, self._dim, self._method)
        elif state:
            reason = f"holds {', '.join(state)}, which method={self._method} without a memory does not know"
            raise InvalidFileError("the state", reason, "resume its own run")
