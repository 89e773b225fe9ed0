"""Early stopping: after each epoch of a phase the network is judged by images that were set aside, and the best one is
kept.

Lightning's own callback of this name sees a phase as one epoch, and keeps no weights. Sums are taken in the order of
the images, so that any number of processes stops at the same step.
"""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.types import TASK_INCREMENTAL, Task
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.data.datamodule import TaskData
from cl_lightning.data.loading import Images
from cl_lightning.distributed.process_group import ProcessGroup
from cl_lightning.learning.feature_module import evaluation_mode_restored
from cl_lightning.learning.lightning_module import Learner
from cl_lightning.learning.stopping_rule import ACCURACY, StoppingRule, StoppingState
from cl_lightning.losses.classification import binary_cross_entropy, cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.models.network import Network


class EarlyStopping(Callback):
    """Callback that judges the network after each epoch of the phase, and ends the phase by the rule.

    It comes before the callback that offers checkpoints, so that what is saved after an epoch knows its check.
    """

    def __init__(self, rule: StoppingRule, data: TaskData, processes: ProcessGroup) -> None:
        """Take the images to judge by, ``data``: this process's share of them, in chunks."""
        self._rule = rule
        self._data = data
        self._processes = processes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the first check, or go on with those that were saved."""
        assert isinstance(pl_module, Learner)
        assert pl_module.stopping is not None
        self._plot(pl_module, pl_module.stopping.latest)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Judge the network at the end of an epoch."""
        assert isinstance(pl_module, Learner)
        learner = pl_module
        if learner.steps_done % learner.length.steps_per_epoch:
            return
        state = learner.stopping
        assert state is not None
        state.add(self._value(learner), self._rule, lambda: _weights(learner))
        self._plot(learner, state.latest)
        trainer.should_stop = state.waited >= self._rule.patience

    def _plot(self, learner: Learner, value: float | None) -> None:
        if value is not None:
            learner.monitored = {f"validation/{self._rule.monitor}": value}

    def _value(self, learner: Learner) -> float:
        """Return the value that is monitored, the same on all processes. Raises ``FloatingPointError`` if a score is
        not finite.
        """
        method, task = learner.method, learner.task
        with evaluation_mode_restored(method.network), torch.no_grad():
            method.network.eval()
            mine = [judged(method, task, images).cpu() for images in self._data.batches(learner.device)]
        every = self._processes.gather_shares(mine)
        right, loss, images = torch.stack(every).sum(dim=0).tolist()
        if not math.isfinite(loss):
            raise learner.diverged("the loss of a validation image", loss)
        return (right if self._rule.monitor == ACCURACY else loss) / images


def judged(method: Method, task: Task, images: Images) -> Tensor:
    """Return (3,) float64: how many of the images are recognised, the sum of their losses, and their number.

    All classes seen compete, or those of the task where the method's own protocol gives it. Read by the first read-out
    that knows all classes within a phase; the loss is that of its probabilities: softmax or binary cross-entropy.
    """
    pending = method.pending_readouts()
    name, logits = next((name, logits) for name, logits in method.predict(images.images).items() if name not in pending)
    labels = images.labels
    if method.protocol == TASK_INCREMENTAL:
        labels, logits = labels - task.num_old, logits[:, task.num_old : task.num_seen]
    readout = method.readouts()[name]
    classify = binary_cross_entropy if readout.probability == "sigmoid" else cross_entropy
    loss = classify(logits / readout.temperature, one_hot(labels, logits.shape[1])) * len(labels)
    right = (logits.argmax(dim=1) == labels).sum()
    return torch.stack([right.double(), loss.double(), torch.tensor(len(labels), device=loss.device).double()])


def check_kept(state: StoppingState, network: Network) -> None:
    """Raise ``InvalidFileError`` if the best network of a checkpoint is not one of ``network``'s form."""
    own, needed = network.state_dict(), network.unsettled_state()  # checkpoints of earlier versions have all
    alike = needed.keys() <= state.weights.keys() <= own.keys() and all(
        value.shape == own[name].shape for name, value in state.weights.items()
    )
    if state.checks and not alike:
        raise InvalidFileError("the best network in the checkpoint", "is not of the form of its run's")


def _weights(learner: Learner) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in learner.network.unsettled_state().items()}
