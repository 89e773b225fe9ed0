"""The trained model for inference: images to scores to probabilities of named classes, whether read from a run's
checkpoint or from an export.

Legend: B batch, C classes learnt.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from cl_lightning.core.errors import UserError
from cl_lightning.core.types import Plain, Readout
from cl_lightning.deploy.preprocessing import Preprocessing
from cl_lightning.models.network import Network


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network for inference, and the meaning of its scores."""

    source: str
    """Path of the file or folder that it was read from, for messages."""
    stage: str
    """Description of how much it has learnt: the run may be unfinished."""
    network: Network
    """In evaluation mode."""
    predict: Callable[[Tensor], Mapping[str, Tensor]]
    """Normalised images (B, channels, side, side) on the network's device -> scores (B, C) by read-out."""
    readouts: Mapping[str, Readout]
    """Read-out by name; the first is the method's main one."""
    class_names: tuple[str, ...]
    """Names of the C classes, in order of arrival."""
    task_sizes: tuple[int, ...]
    """Number of classes of each task."""
    preprocessing: Preprocessing
    protocol: Mapping[str, Plain]
    """Protocol that the model was trained under, with the main ``evaluation`` of its ``results.json``."""
    commit: str | None = None
    """Commit of the code that trained it, where it is known."""
    trained_on: str | None = None
    """Fingerprint of the table of its training images, where it is known."""

    def reading_at_most(self, max_pixels: int | None) -> TrainedModel:
        """Return the model with another limit to the pixels of an image that it decodes; None: with its own."""
        if max_pixels is None:
            return self
        limited = dataclasses.replace(self.preprocessing, max_pixels=max_pixels)
        return dataclasses.replace(self, preprocessing=limited)

    def readout(self, name: str | None) -> str:
        """Return ``name``, or the main read-out's for None. Raises ``UserError`` if there is no such read-out."""
        if name is not None and name not in self.readouts:
            raise UserError(
                f"--readout {name} does not exist: {self.source} has {', '.join(self.readouts)}, "
                f"type --readout {next(iter(self.readouts))}"
            )
        chosen = next(iter(self.readouts)) if name is None else name
        means = self.readouts[chosen].means
        if means is not None and len(means) < len(self.class_names):
            others = [other for other, readout in self.readouts.items() if readout.means is None]
            raise UserError(
                f"--readout {chosen} has the means of {len(means)} of {len(self.class_names)} classes, because "
                f"{self.source} was interrupted within a task: type --readout {' or '.join(others)}"
            )
        return chosen

    def exportable(self, name: str | None) -> str:
        """Return the read-out's name as :meth:`readout` does. Raises ``UserError`` for one that no file can hold."""
        chosen = self.readout(name)
        if not self.readouts[chosen].by_network:
            able = [other for other, readout in self.readouts.items() if readout.by_network]
            mend = (
                f"type --readout {' or '.join(able)}"
                if able
                else "it has no other: train with method.readouts=[linear]"
            )
            raise UserError(f"--readout {chosen} infers the task outside of the network and cannot be exported: {mend}")
        return chosen

    def classes_of(self, task: int | None) -> range:
        """Return the labels of a task, counted from 1, or of all. Raises ``UserError`` for no such task."""
        if task is None:
            return range(len(self.class_names))
        if not 1 <= task <= len(self.task_sizes):
            raise UserError(
                f"--task {task} is not among the {len(self.task_sizes)} tasks that {self.source} has learnt: "
                f"type --task 1{f' to {len(self.task_sizes)}' if len(self.task_sizes) > 1 else ''}"
            )
        first = sum(self.task_sizes[: task - 1])
        return range(first, first + self.task_sizes[task - 1])

    def task_of(self, label: int) -> int:
        """Return the task of a class, counted from 1."""
        return 1 + bisect_right(list(accumulate(self.task_sizes)), label)

    def complete_readouts(self) -> list[str]:
        """Return the read-outs that know all classes: not class means of a run interrupted within a task."""
        means = {name: readout.means for name, readout in self.readouts.items()}
        return [name for name, each in means.items() if each is None or len(each) == len(self.class_names)]

    def scores(self, images: Tensor, readout: str) -> Tensor:
        """Return (B, C) float32 on the CPU, of uint8 images (B, channels, side, side) as ``preprocessing`` reads them.

        Raises ``UserError`` if a score is not a number: the training had diverged.
        """
        return self.scores_by(images, [readout])[readout]

    @torch.inference_mode()
    def scores_by(self, images: Tensor, readouts: Sequence[str]) -> dict[str, Tensor]:
        """Return :meth:`scores` for each of ``readouts``, of one pass through the network."""
        device = next(self.network.parameters()).device
        predicted = self.predict(self.preprocessing.normalised(images.to(device)))
        scores = {name: predicted[name].float().cpu() for name in readouts}
        if not all(each.isfinite().all() for each in scores.values()):
            raise UserError(f"{self.source} gives scores that are not finite: it had diverged, use another run")
        return scores
