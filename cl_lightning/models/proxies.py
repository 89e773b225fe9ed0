"""A classifier with several proxies for each class, and where the proxies of new classes begin.

Douillard et al., PODNet (ECCV 2020), section 3.2: the local similarity classifier.

Legend: B batch, C classes, P proxies of a class, D width.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.types import Plain
from cl_lightning.models.heads import GrowingClassifier

RESTARTS = 10
"""Runs of k-means, of which the best counts."""


class ProxiesByTask(GrowingClassifier):
    """Similarities to proxies, weighed by their own softmax, times one learnt scale that starts at 1 (equations 7, 8).

    The similarity to a proxy is minus the squared distance of unit vectors, in [-4, 0]. The proxies of a task are a
    tensor of their own, those of a class adjacent in it.
    """

    def __init__(self, dim: int, proxies: int) -> None:
        """``proxies`` of each class, at least 1."""
        super().__init__()
        self.dim = dim
        self.proxies = proxies
        self.tasks = nn.ParameterList()
        self.scale = nn.Parameter(torch.ones(1))

    def grow(self, num_new: int) -> None:
        """Add proxies drawn from N(0, 1 / D)."""
        self.tasks.append(nn.Parameter(torch.randn(num_new * self.proxies, self.dim) * self.dim**-0.5))

    def similarities(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return the similarity of each embedding with each class, in [-4, 0], in float32 or float64."""
        with torch.autocast(e_BD.device.type, enabled=False):  # small differences of similarities near zero count
            proxies = torch.cat(list(self.tasks))
            unit_BD = F.normalize(e_BD.to(proxies.dtype), dim=-1)
            cosines = unit_BD @ F.normalize(proxies, dim=-1).T
            to_proxies_BCP = (2 * cosines - 2).clamp(max=0).unflatten(1, (-1, self.proxies))
            return (to_proxies_BCP.softmax(dim=-1) * to_proxies_BCP).sum(dim=-1)

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return the scaled similarities."""
        return self.scale * self.similarities(e_BD)

    def old_rows(self) -> Float[Tensor, "old D"]:
        """Return the proxies of all tasks but the newest."""
        return torch.cat([self.tasks[0][:0], *list(self.tasks)[:-1]])

    def new_rows(self) -> nn.Parameter:
        """Return the proxies of the newest task."""
        return self.tasks[-1]

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the proxies of all tasks but the newest, those of the newest, and the scale."""
        rows = list(self.tasks)
        return {"old_classes": rows[:-1], "new_classes": rows[-1:], "scale": [self.scale]}

    def structure(self) -> dict[str, Plain]:
        """Return its kind, and the proxies of a class."""
        return {"head": "proxies_by_task", "proxies": self.proxies}


def cluster_centres(features_nD: Float[Tensor, "n D"], count: int, seed: int) -> Float[Tensor, "count D"]:
    """Return the centres of ``count`` clusters of a class's unit features (k-means, best of :data:`RESTARTS`), in
    float64 on the CPU.

    A class with fewer different images than ``count`` has centres that are equal. ``seed`` is below 2^32.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    unit_nD = F.normalize(features_nD.double(), dim=-1)
    clusters = min(count, len(torch.unique(unit_nD, dim=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(clusters, n_init=RESTARTS, random_state=seed).fit(unit_nD.numpy())
    centres = torch.from_numpy(found.cluster_centers_)
    return centres[torch.arange(count) % clusters]


def first_proxies(centres: Float[Tensor, "n D"], old_rows: Float[Tensor, "old D"]) -> Float[Tensor, "n D"]:
    """Return the centres times the mean length of the old proxies: not made unit first, as published."""
    return centres * old_rows.norm(dim=-1).mean()
