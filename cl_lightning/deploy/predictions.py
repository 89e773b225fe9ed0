"""Classification of image files in batches, with probabilities."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cl_lightning.core.types import Readout
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.reading import Skipped, read_batches


@dataclass(frozen=True)
class Guess:
    """A predicted class of an image."""

    name: str
    probability: float | None
    """Probability in [0, 1]; its meaning depends on the read-out (:func:`meaning`). None where scores rank only."""
    task: int
    """Task of the class, counted from 1."""
    score: float


@dataclass(frozen=True)
class Prediction:
    """The prediction for a file."""

    file: Path
    guesses: tuple[Guess, ...]
    """The highest score first."""


@dataclass(frozen=True)
class Classifier:
    """A model with the read-out, classes and number of guesses to predict."""

    model: TrainedModel
    readout: str
    labels: range
    """The classes that compete."""
    top: int = 1
    """Number of guesses an image; fewer where fewer classes compete."""

    def guesses(self, images: Tensor) -> list[tuple[Guess, ...]]:
        """Predict uint8 images (B, channels, side, side). Of equal scores the class that arrived first wins."""
        scores = self.model.scores(images, self.readout)[:, self.labels.start : self.labels.stop]
        best = scores.argsort(dim=1, descending=True, stable=True)[:, : self.top]
        rows = zip(best.tolist(), self._probabilities(scores, best), scores.gather(1, best).tolist(), strict=True)
        return [tuple(self._guess(*triple) for triple in zip(*row, strict=True)) for row in rows]

    def _probabilities(self, scores: Tensor, best: Tensor) -> Sequence[Sequence[float | None]]:
        readout = self.model.readouts[self.readout]
        if readout.ranks_only:
            return [[None] * best.shape[1]] * len(best)
        found: list[list[float | None]] = readout.probabilities(scores).gather(1, best).tolist()
        return found

    def _guess(self, index: int, probability: float | None, score: float) -> Guess:
        label = self.labels[index]
        return Guess(self.model.class_names[label], probability, self.model.task_of(label), score)


@dataclass(frozen=True)
class Outcome:
    """The result of :func:`classify`."""

    predictions: list[Prediction]
    skipped: list[Skipped]
    seconds: float
    """Time of reading and computing, without loading the model."""


def classify(
    classifier: Classifier, files: Sequence[Path], batch: int, watch: Callable[[int, list[Skipped]], None]
) -> Outcome:
    """Classify all files that can be read; ``watch`` gets the number of files done, and those skipped since its last
    call.
    """
    started = time.perf_counter()
    predictions: list[Prediction] = []
    skipped: list[Skipped] = []
    done = 0
    for images, read, unreadable in read_batches(classifier.model.preprocessing.read, files, batch):
        if read:
            guesses = classifier.guesses(images)
            predictions += [Prediction(file, best) for file, best in zip(read, guesses, strict=True)]
        left_out = [Skipped(file, reason) for file, reason in unreadable]
        skipped += left_out
        done += len(read) + len(left_out)
        watch(done, left_out)
    return Outcome(predictions, skipped, time.perf_counter() - started)


def meaning(readout: Readout) -> str:
    """Return a sentence on how probabilities are computed from scores."""
    if readout.ranks_only:
        return "none, the scores rank the classes and nothing makes probabilities of them"
    if readout.means is not None:
        return (
            "softmax of minus the squared distance to each class mean; nothing was trained to make these probabilities,"
            " they rank the classes"
        )
    score = "score" if readout.temperature == 1 else f"score / {readout.temperature:g}"
    if readout.probability == "sigmoid":
        return f"sigmoid of each class's {score} by itself, as in training: they need not sum to one"
    return f"softmax of {score} over the classes that compete, as in training"
