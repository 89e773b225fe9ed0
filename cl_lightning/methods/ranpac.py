"""RanPAC: ridge regression on a random projection of features that never change.

McDonnell, Gong, Parvaneh, Abbasnejad & van den Hengel, "RanPAC: Random Projections and Pre-trained Models for Continual
Learning" (NeurIPS 2023), algorithm 1. Once, W ~ N(0, 1)^(D x M) is drawn; h = relu(f W). In a task:

1. **grow**: rows for the new classes;
2. where no trained weights are given, the first task trains the backbone (``frozen_features.py``; not the paper's,
   which starts from trained transformers), or with ``adapt=true`` adapts one that comes with weights;
3. **accumulate** G <- G + H'H and Q <- Q + H'Y over the task's clean images; choose lambda of 10^-8 ... 10^8 by the
   squared error on a fifth of them; W_o = (G + lambda I)^-1 Q. Scores are h W_o, for old classes too.

Where the authors' code is another: float64 in place of float32, one eigendecomposition in place of 17 systems
(``ridge.py``), the fifth is chosen by the run's seed, and the number of classes to come is not known: columns are
added.
``ridge=task`` chooses lambda by the newest task alone, as published, although G is of all tasks, so that it becomes
weaker as they add up; ``ridge=all`` (ours) keeps the sums of both parts of all tasks, and chooses by them. A task of a
single image has nothing to set aside: the lambda before it stays, 1 where there is none.

Legend: n images of a task, M features behind the projection, C classes seen.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, DataAccess, Outputs, Phase, Plain, PlanItem, Readout, Task
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods import ridge
from cl_lightning.methods.base import Method
from cl_lightning.methods.frozen_features import ACCUMULATE, READOUTS, Source, TaskFeatures, pending, task_features
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.frozen_heads import ProjectedRidge

FIT_SHARE = 0.8
"""Share of a task's images that the ridge is fitted to while lambda is chosen."""
_FIRST_LAMBDA = 1.0
_PARTS = ("", "held_")
"""Prefix in the state of the sums of each kind."""


def fitted_part(rows_n: Int64[Tensor, " n"], key: Key) -> Bool[Tensor, " n"]:
    """Return which images the ridge is fitted to: a share of them by lot, which depends on their rows and not on their
    order.
    """
    drawn = torch.argsort(rng.bits(key, rows_n), stable=True)
    fits = torch.zeros(len(rows_n), dtype=torch.bool)
    fits[drawn[: int(FIT_SHARE * len(rows_n))]] = True
    return fits


class RanPAC(Method):
    """The method of sums on projected, frozen features."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, source: Source, *, all_tasks_choose: bool) -> None:
        """``network`` has a head of :class:`~cl_lightning.models.frozen_heads.ProjectedRidge`; ``all_tasks_choose``:
        lambda is chosen by the images of all tasks.
        """
        super().__init__(network)
        self._source = source
        self.sums = [ridge.no_sums(self._head.width) for _ in range(2 if all_tasks_choose else 1)]
        """Sums over all images; with ``all_tasks_choose`` over those that lambda is fitted to, and those it is chosen
        by.
        """
        self.lambdas: list[float] = []
        """The lambda of each task."""

    @property
    def _head(self) -> ProjectedRidge:
        head: ProjectedRidge = self.network.classifier
        return head

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, train the backbone in a first task that has to, accumulate, evaluate."""
        return self._source.plan(task)

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Add rows; before the first task, load the backbone's weights."""
        self._source.grow(self.network, task, key)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the classification by the linear classifier."""
        return {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Add the task's images to the sums, choose lambda, and solve for the rows."""
        if name != ACCUMULATE:
            return super().act(name, task, look)
        found = task_features(task, look, self.embed)
        fits = fitted_part(found.rows, Key(self._head.seed).fold("held out", task.index))
        if len(self.sums) == 2:
            self._add_apart(found, fits, task)
        else:
            self._add(found, fits, task)
        total = self.sums[0] if len(self.sums) == 1 else self.sums[0] + self.sums[1]
        self._head.fill(ridge.solved(total, self.lambdas[-1]))
        return None

    def _add(self, found: TaskFeatures, fits: Bool[Tensor, " n"], task: Task) -> None:
        """Add the task to the sums; its own images choose lambda, by whichever eigendecomposition is smaller."""
        if int(fits.sum()) >= self._head.width:
            fit, held = (self._sums(found, part, task) for part in (fits, ~fits))
            self.lambdas.append(ridge.best_lambda(ridge.losses_by_sums(fit, held)))
            of_task = fit + held
        else:
            of_task = self._sums(found, torch.ones_like(fits), task)
            if fits.any():
                self.lambdas.append(ridge.best_lambda(self._losses_by_rows(found, fits, task)))
            else:
                self._keep_lambda()
        self.sums = [self.sums[0] + of_task]

    def _add_apart(self, found: TaskFeatures, fits: Bool[Tensor, " n"], task: Task) -> None:
        """Add the two parts of the task to the sums of theirs, which choose lambda."""
        parts = (fits, ~fits)
        self.sums = [old + self._sums(found, part, task) for old, part in zip(self.sums, parts, strict=True)]
        if self.sums[0].count:
            self.lambdas.append(ridge.best_lambda(ridge.losses_by_sums(*self.sums)))
        else:
            self._keep_lambda()

    def _keep_lambda(self) -> None:
        self.lambdas.append(self.lambdas[-1] if self.lambdas else _FIRST_LAMBDA)

    def _sums(self, found: TaskFeatures, part: Bool[Tensor, " n"], task: Task) -> ridge.Sums:
        return ridge.sums_of(
            found.features[part], found.labels[part], task.num_seen, self._head.width, self._head.project
        )

    def _losses_by_rows(self, found: TaskFeatures, fits: Bool[Tensor, " n"], task: Task) -> list[float]:
        """Return the loss of each lambda on the task's own classes: columns of others are zero and change no choice."""
        rows, labels = self._head.project(found.features.double()), found.labels - task.num_old
        return ridge.losses_by_rows(rows[fits], labels[fits], rows[~fits], labels[~fits], task.num_new)

    def readouts(self) -> dict[str, Readout]:
        """Describe the estimates: they rank the classes."""
        return dict(READOUTS)

    def pending_readouts(self) -> frozenset[str]:
        """Return the read-out from growth to the new rows, unless the linear classifier is there."""
        return pending(self.network, len(self.sums[0].cross))

    def extra_state(self) -> dict[str, Plain]:
        """Return the sums, of G the upper triangle, and the lambda of each task."""
        state: dict[str, Plain] = {"lambdas": torch.tensor(self.lambdas, dtype=torch.float64)}
        for part, sums in zip(_PARTS, self.sums, strict=False):
            state[f"{part}gram"] = ridge.upper_triangle(sums.gram)
            state[f"{part}cross"] = sums.cross
            state[f"{part}images"] = sums.count
        return state

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore them. Raises ``InvalidFileError`` for anything else than a value of :meth:`extra_state`."""
        width, parts = self._head.width, _PARTS[: len(self.sums)]
        names = {"lambdas", *(part + name for part in parts for name in ("gram", "cross", "images"))}
        triangle = (width * (width + 1) // 2,)
        fits = set(state) == names and all(
            state[f"{part}gram"].shape == triangle and state[f"{part}cross"].shape[1:] == (width,) for part in parts
        )
        if not fits:
            given = ", ".join(state) or "nothing"
            reason = f"is not {len(parts)} sums of {width} features"
            mend = "resume a run of method=ranpac with its own method.ridge and method.projection"
            raise InvalidFileError(f"state of {given}", reason, mend)
        self.sums = [
            ridge.Sums(
                ridge.from_upper_triangle(state[f"{part}gram"].double().cpu(), width),
                state[f"{part}cross"].double().cpu(),
                int(state[f"{part}images"]),
            )
            for part in parts
        ]
        self.lambdas = state["lambdas"].tolist()
