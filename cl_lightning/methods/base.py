"""The interface of methods of class-incremental learning.

A method has parts (a network, perhaps a teacher, losses) and plans a task as a list of plain items; it inherits no
behaviour beyond the defaults below and knows neither Lightning nor files. Everything that it decides is in its own
file.

Legend: B batch, C classes seen, F feature size.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from jaxtyping import Float
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
from cl_lightning.models.backbone import Fill
from cl_lightning.models.network import Network
from cl_lightning.models.tensor_types import Images, Noise, Vectors


class Method(ABC):
    """A way to learn classes in sequence. Concrete methods are final: compose them of parts, do not derive from
    them.
    """

    protocol = CLASS_INCREMENTAL
    """Main evaluation protocol of its results (``types.PROTOCOLS``); all are counted."""

    couples_batch = False
    """True if the loss of an image depends on the other images of its batch. It is then taken within each virtual
    replica (``learning/replicas.py``).
    """

    cuda_graph_safe = False
    """True if all steps of a phase are one computation on other tensors: :meth:`outputs` and :meth:`losses` read no
    number of the host that changes within a phase, and wait for no device. Such a step is recorded once on a GPU, and
    replayed (``learning/cuda_graph.py``).
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.teacher: Network | None = None
        """Frozen copy of the network before the current task's growth, for methods that have one."""
        self.fill: Fill | None = None
        """Function that puts weights from elsewhere into the network's backbone; None: it starts as it was drawn."""

    @abstractmethod
    def plan(self, task: Task) -> list[PlanItem]:
        """Return the items of ``task``, in order."""

    @abstractmethod
    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return named terms, already weighted: the training loss is their sum. Terms that learn the images' classes
        weigh each image by ``batch.weights``.
        """

    def begin(self) -> None:
        """Put weights from elsewhere into the network, once, before the first task's growth: a run that is resumed
        later has them in its checkpoint.
        """
        if self.fill is not None:
            self.network.fill(self.fill)

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Add the task's classes; ``look`` gives access to data for growth that needs it."""
        self.network.grow(task.num_new, key)

    def outputs(self, phase: Phase, images: Images | Vectors, scales: Noise | None) -> Outputs:
        """Run a training forward pass; ``scales`` is the network's noise (``Network.noise``)."""
        features = self.network(images, scales)
        return Outputs(self.network.logits(features), features)

    def train_mode(self, phase: Phase) -> None:
        """Set the mode of the network's modules for ``phase`` (batch norm; nothing else depends on it)."""
        self.network.train()

    def embed(self, images: Images | Vectors) -> Float[Tensor, "B F"]:
        """Return the features that herding uses, before any read-out."""
        return self.network(images).embeddings.flatten(1)

    def predict(self, images: Images | Vectors) -> dict[str, Float[Tensor, "B C"]]:
        """Score all classes seen, for each read-out by name; the first is the method's main one."""
        return {"linear": self.network.logits(self.network(images))}

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores of each read-out of :meth:`predict`, in the same order, for users of a trained model.

        Override it where classes were not learnt by softmax cross-entropy, or are not read by the classifier.
        """
        return {"linear": Readout()}

    def pending_readouts(self) -> frozenset[str]:
        """Return the read-outs of :meth:`predict` that cannot know all classes seen yet, because an item of the task's
        plan is still to come (class means ...): an evaluation after a phase leaves them out.
        """
        return frozenset()

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Carry out the plan item ``Act(name)``."""
        raise NotImplementedError(f"{type(self).__name__} plans no action {name!r}")

    def after_step(self, progress: Progress) -> None:
        """Act after an optimiser step (clip weights, anneal ...)."""

    def monitored_scalars(self) -> dict[str, Float[Tensor, ""]]:
        """Return scalars to plot beside the losses, by the curve's name.

        Called at each point of the curves, after its step; they stay on the device, and nothing waits for it.
        """
        return {}

    def extra_state(self) -> dict[str, Plain]:
        """Return tensors and plain values to save beside network and teacher (class means ...)."""
        return {}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore the values of :meth:`extra_state`."""
        if state:
            reason = f"holds {', '.join(state)}, which this method does not know"
            raise InvalidFileError("the state", reason, "resume its own run")


def frozen_copy(network: Network) -> Network:
    """Return a teacher: a copy of the network as it is now, in evaluation mode, without gradients."""
    teacher = copy.deepcopy(network).eval()
    teacher.leave_out_training()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return teacher
