"""Losses within each virtual replica.

Most losses are means over images, and a mean over equal parts is the mean of their means. A loss that compares images
of a batch with each other (a margin to the hardest of them, statistics of the batch) differs on a larger batch: it must
be taken within a replica, as separate processes would, however many replicas this process computes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cl_lightning.core.types import Batch, Features, Outputs, Phase, Task
from cl_lightning.methods.base import Method


def losses_by_replica(
    method: Method, task: Task, phase: Phase, batch: Batch, outputs: Outputs, replicas: int
) -> dict[str, Tensor]:
    """Return ``method.losses`` of a batch of ``replicas`` equal consecutive parts; the mean over the parts where the
    method couples images (``Method.couples_batch``).
    """
    if replicas == 1 or not method.couples_batch:
        return method.losses(task, phase, batch, outputs)
    size = len(batch.labels) // replicas
    parts = [slice(first, first + size) for first in range(0, replicas * size, size)]
    terms = [method.losses(task, phase, _batch(batch, part), _outputs(outputs, part)) for part in parts]
    return {name: torch.stack([of[name] for of in terms]).mean() for name in terms[0]}


def _batch(batch: Batch, part: slice) -> Batch:
    weights = None if batch.weights is None else batch.weights[part]
    return Batch(batch.images[part], batch.labels[part], batch.targets[part], weights)


def _outputs(outputs: Outputs, part: slice) -> Outputs:
    features = Features(outputs.features.embeddings[part], tuple(each[part] for each in outputs.features.maps))
    auxiliary = None if outputs.auxiliary is None else outputs.auxiliary[part]
    reconstruction = None if outputs.reconstruction is None else outputs.reconstruction[part]
    return Outputs(outputs.logits[part], features, auxiliary, reconstruction)
