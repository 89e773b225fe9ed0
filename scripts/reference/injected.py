"""Our method with the weights of a recorded run put in where it grows; everything else it does is its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, DataAccess, Features, Fit, Outputs, Phase, PlanItem, Progress, Readout, Task
from cl_lightning.methods.base import Method
from cl_lightning.models.network import Network
from cl_lightning.published.weights import GOLDEN
from scripts.reference.events import Loss
from scripts.reference.recorded import TERMS, RecordedRun


class InjectedMethod(Method):
    """A method that is given weights when it grows, and whose losses and scores are recorded for the observer."""

    def __init__(
        self, method: Method, run: RecordedRun, replicas: int, change_phase: Callable[[Phase], Phase] | None = None
    ) -> None:
        super().__init__(method.network)
        self.protocol, self.couples_batch = method.protocol, method.couples_batch
        self.losses_of_step: list[Loss] = []
        self.scores: list[Tensor] = []
        """Scores of the current task, batch by batch; those of its evaluation's test images come last."""
        self.task = 0
        self._method = method
        self._run = run
        self._replicas = replicas
        self._change_phase = change_phase or (lambda phase: phase)

    def plan(self, task: Task) -> list[PlanItem]:
        """Return the method's own plan, with its phases changed."""
        items = self._method.plan(task)
        return [Fit(self._change_phase(item.phase)) if isinstance(item, Fit) else item for item in items]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Grow, then put the recorded weights in."""
        before = {} if task.index == 0 else dict(self.network.named_parameters())
        self._method.grow(task, key, look)
        self.network, self.teacher = self._method.network, self._method.teacher
        self.task, self.scores = task.index, []
        _put_in(self._run, task.index, self.network, before)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """Return the method's own losses, and record them."""
        terms = self._method.losses(task, phase, batch, outputs)
        whole = _columns(terms)
        each = [whole] if self._replicas == 1 else self._of_each_replica(task, phase, batch, outputs)
        self.losses_of_step.append(Loss(torch.stack(each), whole))
        return terms

    @torch.no_grad()
    def _of_each_replica(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> list[Tensor]:
        size = len(batch.labels) // self._replicas
        parts = [slice(first, first + size) for first in range(0, self._replicas * size, size)]
        return [_columns(self._method.losses(task, phase, *_cut(batch, outputs, part))) for part in parts]

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Return the method's own scores; record those of the main read-out."""
        scores = self._method.predict(images)
        self.scores.append(next(iter(scores.values())).cpu())
        return scores

    def outputs(self, phase: Phase, images: Tensor, scales: Tensor | None) -> Outputs:
        """Call the method's own."""
        return self._method.outputs(phase, images, scales)

    def train_mode(self, phase: Phase) -> None:
        """Call the method's own."""
        self._method.train_mode(phase)

    def embed(self, images: Tensor) -> Tensor:
        """Call the method's own."""
        return self._method.embed(images)

    def readouts(self) -> dict[str, Readout]:
        """Call the method's own."""
        return self._method.readouts()

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Call the method's own."""
        self._method.act(name, task, look)

    def after_step(self, progress: Progress) -> None:
        """Call the method's own."""
        self._method.after_step(progress)

    def monitored_scalars(self) -> dict[str, Tensor]:
        """Call the method's own."""
        return self._method.monitored_scalars()


@torch.no_grad()
def _put_in(run: RecordedRun, task: int, network: Network, before: dict[str, Any]) -> None:
    """Put in the file's weights, which must be those new in the network, and no others."""
    parameters = dict(network.named_parameters())
    new = {GOLDEN.theirs(name): value for name, value in parameters.items() if before.get(name) is not value}
    given = run.start(task)
    for name in sorted(new.keys() ^ given.keys()):
        where = "new in our network and not in the file" if name in new else "in the file and not new in our network"
        raise InvalidFileError(f"task{task}/start/{name}", f"is {where}")
    for name, value in given.items():
        if new[name].shape != value.shape:
            shapes = f"{tuple(value.shape)} in the file, {tuple(new[name].shape)} here"
            raise InvalidFileError(f"task{task}/start/{name}", f"is of shape {shapes}")
        new[name].copy_(value)


def _columns(terms: dict[str, Tensor]) -> Tensor:
    nothing = torch.tensor(float("nan"))
    return torch.stack([terms.get(name, nothing).detach().cpu().float() for name in TERMS])


def _cut(batch: Batch, outputs: Outputs, part: slice) -> tuple[Batch, Outputs]:
    features = Features(outputs.features.embeddings[part])
    auxiliary = None if outputs.auxiliary is None else outputs.auxiliary[part]
    weights = None if batch.weights is None else batch.weights[part]
    images = Batch(batch.images[part], batch.labels[part], batch.targets[part], weights)
    return images, Outputs(outputs.logits[part], features, auxiliary)
