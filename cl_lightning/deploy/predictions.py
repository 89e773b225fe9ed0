"""Classification of image files in batches, with probabilities: threads decode while the network computes."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core.errors import Options, UnreadableImageError
from cl_lightning.core.types import Readout
from cl_lightning.deploy.model import TrainedModel

_OPTIONS = Options(renamed={"max_pixels": "--max-pixels"})


@dataclass(frozen=True)
class Guess:
    """A predicted class of an image."""

    name: str
    probability: float
    """Probability in [0, 1]; its meaning depends on the read-out (:func:`meaning`)."""
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
class Skipped:
    """A file that could not be read as an image."""

    file: Path
    reason: str


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
        probabilities = self.model.readouts[self.readout].probabilities(scores)
        best = scores.argsort(dim=1, descending=True, stable=True)[:, : self.top]
        rows = zip(best.tolist(), probabilities.gather(1, best).tolist(), scores.gather(1, best).tolist(), strict=True)
        return [tuple(self._guess(*triple) for triple in zip(*row, strict=True)) for row in rows]

    def _guess(self, index: int, probability: float, score: float) -> Guess:
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
    for images, read, unreadable in _batches(classifier.model.preprocessing.read, files, batch):
        if read:
            guesses = classifier.guesses(images)
            predictions += [Prediction(file, best) for file, best in zip(read, guesses, strict=True)]
        skipped += unreadable
        done += len(read) + len(unreadable)
        watch(done, unreadable)
    return Outcome(predictions, skipped, time.perf_counter() - started)


def _batches(
    read: Callable[[Path], Tensor], files: Sequence[Path], size: int
) -> Iterator[tuple[Tensor, list[Path], list[Skipped]]]:
    """Yield images of ``size`` files at a time, while threads read the next ones."""
    Image.init()  # or a thread could run before Pillow has registered its formats
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large images are the user's choice
        try:
            ahead: list[tuple[Path, Future[Tensor]]] = []
            for start in range(0, len(files), size):
                current, ahead = ahead, [(file, pool.submit(read, file)) for file in files[start : start + size]]
                if current:
                    yield _collect(current)
            if ahead:
                yield _collect(ahead)
        finally:
            pool.shutdown(cancel_futures=True)


def _collect(reading: list[tuple[Path, Future[Tensor]]]) -> tuple[Tensor, list[Path], list[Skipped]]:
    images: list[Tensor] = []
    read: list[Path] = []
    skipped: list[Skipped] = []
    for file, future in reading:
        try:
            images.append(future.result())
            read.append(file)
        except UnreadableImageError as error:
            skipped.append(Skipped(file, _OPTIONS.why(error)))
    return torch.stack(images) if images else torch.empty(0), read, skipped


def meaning(readout: Readout) -> str:
    """Return a sentence on how probabilities are computed from scores."""
    if readout.means is not None:
        return (
            "softmax of minus the squared distance to each class mean; nothing was trained to make these probabilities,"
            " they rank the classes"
        )
    score = "score" if readout.temperature == 1 else f"score / {readout.temperature:g}"
    if readout.probability == "sigmoid":
        return f"sigmoid of each class's {score} by itself, as in training: they need not sum to one"
    return f"softmax of {score} over the classes that compete, as in training"
