"""A trained model on labelled images: right answers class by class, in each protocol and read-out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from torch import Tensor

from cl_lightning.core.types import CLASS_INCREMENTAL, PROTOCOLS, TASK_INCREMENTAL
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.reading import Skipped, read_batches
from cl_lightning.metrics.accuracy import Counts, count_by_class
from cl_lightning.metrics.confusion import Answers, Tally


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of known classes, read one by one."""

    names: Sequence[Path]
    """Name of each image, for messages."""
    labels: Tensor
    """(n,) int64, the model's label of each image."""
    read: Callable[[int], Tensor]
    """Number of an image -> (channels, side, side) uint8. Raises ``UnreadableImageError``."""
    origin: str
    """Description of where they are from."""

    def of_labels(self, labels: range) -> LabelledImages:
        """Return the images of these classes alone."""
        kept = [number for number, label in enumerate(self.labels.tolist()) if label in labels]
        names = [self.names[number] for number in kept]
        return LabelledImages(names, self.labels[kept], lambda number: self.read(kept[number]), self.origin)


@dataclass(frozen=True)
class Competition:
    """The classes that compete, and by which read-outs."""

    labels: range
    """The model's labels of the classes."""
    offsets: tuple[int, ...]
    """The T + 1 boundaries of their tasks, counted from the first of these classes."""
    protocols: tuple[str, ...]
    """The main one first."""
    readouts: tuple[str, ...]
    """The main one first."""


def competition(model: TrainedModel, readout: str | None = None, task: int | None = None) -> Competition:
    """Return who competes: all classes of the model, or those of ``task`` (from 1); by all complete read-outs, or by
    one.

    With a task all protocols are one, the task-incremental. Raises ``UserError`` for no such task or read-out.
    """
    labels = model.classes_of(task)
    readouts = [model.readout(readout)] if readout is not None else model.complete_readouts() or [model.readout(None)]
    if task is not None:
        return Competition(labels, (0, len(labels)), (TASK_INCREMENTAL,), tuple(readouts))
    main = str(model.protocol.get("evaluation", CLASS_INCREMENTAL))
    protocols = sorted(PROTOCOLS, key=lambda protocol: protocol != main)
    return Competition(labels, (0, *accumulate(model.task_sizes)), tuple(protocols), tuple(readouts))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The counts of right answers."""

    competition: Competition
    counts: Mapping[tuple[str, str], Counts]
    """(protocol, read-out) -> counts of each competing class."""
    answers: Mapping[str, Answers]
    """Read-out -> confusions and confidences, all competing classes against each other."""
    skipped: Sequence[Skipped]
    seconds: float
    """Time of reading and computing, without loading the model."""

    @property
    def images(self) -> int:
        """Number of images that were evaluated."""
        return sum(int(answered.confusion.sum()) for answered in list(self.answers.values())[:1])


def evaluate(
    model: TrainedModel,
    images: LabelledImages,
    who: Competition,
    batch: int,
    watch: Callable[[int, list[Skipped]], None],
) -> Evaluation:
    """Evaluate all images that can be read; ``watch`` gets the number of images done, and those skipped since its last
    call. The labels of all images are among the competing classes.
    """
    started, done = time.perf_counter(), 0
    counts: dict[tuple[str, str], Counts] = {}
    answered: dict[str, Tally] = defaultdict(Tally)
    skipped: list[Skipped] = []
    for pixels, read, unreadable in read_batches(images.read, range(len(images.labels)), batch):
        if read:
            labels = images.labels[read] - who.labels.start
            for name, scores in model.scores_by(pixels, who.readouts).items():
                competing = scores[:, who.labels.start : who.labels.stop]
                answered[name].add(model.readouts[name], competing, labels, who.offsets[-2])
                for protocol in who.protocols:
                    # Of one task alone, all of its classes compete.
                    among = protocol if len(who.protocols) > 1 else CLASS_INCREMENTAL
                    _add(counts, (protocol, name), count_by_class(competing, labels, who.offsets, among))
        left_out = [Skipped(images.names[number], reason) for number, reason in unreadable]
        skipped += left_out
        done += len(read) + len(left_out)
        watch(done, left_out)
    ordered = {(protocol, name): counts[protocol, name] for protocol in who.protocols for name in answered}
    answers = {name: tally.total for name, tally in answered.items() if tally.total is not None}
    return Evaluation(who, ordered, answers, skipped, time.perf_counter() - started)


def _add(sums: dict[tuple[str, str], Counts], name: tuple[str, str], value: Counts) -> None:
    sums[name] = sums[name] + value if name in sums else value
