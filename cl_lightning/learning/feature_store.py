"""Features of a network's frozen trunk: each image passes it once, however often it is trained on or evaluated.

A classifier on frozen features costs little but the passes through what is frozen, and those are always the same. So
the vectors of clean images are kept, in memory and, if wanted, in files. They belong to the trunk's weights: other
weights begin anew.

The images of a class are a group that shares its batches with no other, so vectors depend neither on the order in which
classes are asked for nor on the number of processes. (Batches of another composition differ by rounding.)

Legend: D width, n images of a source, B batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from cl_lightning.core.classes import rows_by_class
from cl_lightning.data.sources.base import ImageSource
from cl_lightning.data.sources.features import FeatureSource

Compute = Callable[[str, Sequence[Tensor]], list[Tensor]]
"""From a digest of the weights and groups of rows to the vectors (m, D) of each group, float32 on the CPU."""


class FeatureStore:
    """Vectors of the images of some sources, by one trunk at a time."""

    def __init__(self) -> None:
        self._weights = ""
        self._kept: dict[int, tuple[FeatureSource, Bool[Tensor, " n"]]] = {}
        """Identity of a source -> its features, and the rows that are set."""

    def of(
        self, trunk: nn.Module, source: ImageSource, labels: Int64[Tensor, " n"], rows: Tensor, compute: Compute
    ) -> FeatureSource:
        """Return the features of a source, of which those of ``rows`` are set; those that are missing are computed.

        ``labels`` say which images are a group.
        """
        weights = weights_digest(trunk)
        if weights != self._weights:
            self._weights, self._kept = weights, {}
        features, known = self._kept.get(id(source), (None, torch.zeros(len(labels), dtype=torch.bool)))
        missing = rows[~known[rows]].unique()
        if features is None or len(missing):
            own = labels[missing]
            classes = int(own.max()) + 1 if len(own) else 0
            groups = [missing[rows] for rows in rows_by_class(own, classes) if len(rows)]
            found = compute(weights, groups)
            if features is None:
                width = found[0].shape[1] if found else 0
                # Pages that nobody writes to take no memory.
                features = FeatureSource(source.name, torch.empty(len(labels), width), labels)
            for group, vectors in zip(groups, found, strict=True):
                features.pixels[group] = vectors
            known[missing] = True
            if found:
                self._kept[id(source)] = features, known
        return features


def weights_digest(trunk: Any) -> str:
    """Return a digest of all weights and statistics of a trunk, and of what it does with them: its layers and its own
    description, as the same weights under another number of heads make other vectors.
    """
    whole = hashlib.blake2b(f"{trunk!r} {trunk.structure()}".encode(), digest_size=16)
    for name, value in trunk.state_dict().items():
        whole.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        whole.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def vectors_of(trunk: nn.Module, images: Tensor) -> Float[Tensor, "B D"]:
    """Return the vectors of a batch of images, in float32."""
    found = trunk(images)
    vectors: Tensor = found[0] if isinstance(found, tuple) else found
    return vectors.float()


def is_as_in_evaluation(trunk: nn.Module) -> bool:
    """Return whether the mode of a trunk changes no vector: there are no batch statistics, and nothing is dropped."""
    return not any(
        module.training and (isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0))
        for module in trunk.modules()
    )
