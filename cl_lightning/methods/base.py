"""What a method of class-incremental learning is, as the rest of the house sees it.

A method has parts (a network, perhaps a teacher, losses) and says what happens in a task as a list of plain items; it
inherits no behaviour beyond the defaults below and knows neither Lightning nor files. Everything that it decides is in
its own file.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    CLASS_INCREMENTAL,
    Batch,
    DataAccess,
    Outputs,
    Phase,
    Plain,
    PlanItem,
    Progress,
    Readout,
    Task,
)
from cl_lightning.models.network import Network


class Method(ABC):
    """One way to learn classes in sequence. Concrete methods are final: compose them of parts, do not derive from
    them.
    """

    protocol = CLASS_INCREMENTAL
    """The evaluation that its results are headed by (``types.PROTOCOLS``); all are counted."""

    couples_batch = False
    """Whether the loss of an image depends on the other images of its batch. It is then taken within each virtual
    replica (``learning/replicas.py``).
    """

    cuda_graph_safe = False
    """Whether all steps of a phase are one computation on other tensors: :meth:`outputs` and :meth:`losses` read no
    number of the host that changes within a phase, and wait for no device. Such a step is recorded once on a GPU, and
    replayed (``learning/replay.py``).
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.teacher: Network | None = None
        """The frozen network of before the current task's growth, where the method keeps one."""

    @abstractmethod
    def plan(self, task: Task) -> list[PlanItem]:
        """What happens in ``task``, in order."""

    @abstractmethod
    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """Named scalar terms, already weighted: the training loss is their sum."""

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Make room for the task's classes; ``look`` gives access to data for growth that needs it."""
        self.network.grow(task.num_new, key)

    def outputs(self, phase: Phase, images: Tensor, scales: Tensor | None) -> Outputs:
        """A training forward pass; ``scales`` is the stochastic-depth noise (``Network.forward``)."""
        features = self.network(images, scales)
        return Outputs(self.network.logits(features), features)

    def train_mode(self, phase: Phase) -> None:
        """Put the network's modules in the mode that ``phase`` wants (batch norm; nothing else depends on it)."""
        self.network.train()

    def embed(self, images: Tensor) -> Tensor:
        """What herding sees of images: (B, F), before any read-out."""
        return self.network(images).embeddings.flatten(1)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Scores (B, C) of all classes seen, for each read-out by name; the first is the method's main one."""
        return {"linear": self.network.logits(self.network(images))}

    def readouts(self) -> dict[str, Readout]:
        """What the scores of each read-out of :meth:`predict` are, in the same order, for those who use a trained
        model: override it where classes were not learnt by softmax cross-entropy, or are not read by the classifier.
        """
        return {"linear": Readout()}

    def pending_readouts(self) -> frozenset[str]:
        """Which read-outs of :meth:`predict` cannot know all classes seen yet, because something of the task's plan is
        still to come (class means ...): an evaluation after a phase leaves them out.
        """
        return frozenset()

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Carry out the plan item ``Act(name)``."""
        raise NotImplementedError(f"{type(self).__name__} plans no action {name!r}")

    def after_step(self, progress: Progress) -> None:
        """Called after each optimiser step (clipping of weights, annealing ...)."""

    def monitored_scalars(self) -> dict[str, Tensor]:
        """Scalars that tell how learning goes, drawn as curves beside the losses: made at a point of the curves, after
        its step, on the network's device and without waiting for it. Names are those of the curves.
        """
        return {}

    def extra_state(self) -> dict[str, Plain]:
        """Tensors and plain values to keep beside network and teacher (class means ...)."""
        return {}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Take back what :meth:`extra_state` gave."""
        if state:
            reason = f"holds {', '.join(state)}, which this method does not know"
            raise InvalidFileError("the state", reason, "resume its own run")


def frozen_copy(network: Network) -> Network:
    """A teacher: the network as it is now, in evaluation mode, without gradients."""
    teacher = copy.deepcopy(network).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return teacher
