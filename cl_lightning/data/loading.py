"""From step numbers to uint8 images: data sets whose items are whole batches, so that a loader can start at any step.

Arrays stay where training runs and are indexed there; files are decoded and cropped by the loader's workers.
Augmentation follows on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from cl_lightning.core.errors import UnreadableImageError
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, augment, augment_per_dataset, normalise
from cl_lightning.data.sources.base import ArraySource, ImageSource
from cl_lightning.data.step_sampler import StepIndices
from cl_lightning.data.workers import start_worker


class Steps(Protocol):
    """Something that says, step by step, which rows are wanted."""

    @property
    def total_steps(self) -> int:
        """Number of steps."""
        ...

    def step(self, step: int) -> StepIndices:
        """The rows of one step."""
        ...


@dataclass(frozen=True, eq=False)
class Chunks:
    """Rows in pieces: for evaluation and for features. A draw's position is its row."""

    pieces: Sequence[Tensor]

    @staticmethod
    def of(rows: Tensor, size: int) -> Chunks:
        """All of ``rows`` once, in order, ``size`` at a time; the last piece may be smaller."""
        return Chunks(rows.split(size) if len(rows) else [])

    @property
    def total_steps(self) -> int:
        """Pieces."""
        return len(self.pieces)

    def step(self, step: int) -> StepIndices:
        """Piece ``step``."""
        return StepIndices(self.pieces[step], self.pieces[step], 0)


class RawBatch(NamedTuple):
    """What the loader hands over."""

    rows: Tensor
    """(B,) int64."""
    labels: Tensor
    """(B,) int64 global labels."""
    positions: Tensor
    """(B,) int64, see ``StepIndices``."""
    epoch: int
    images: Tensor
    """(B, channels, size, size) uint8 where they are read one by one; (0,) for arrays, indexed on the device."""
    host_positions: Tensor
    """``positions`` again, left on the host, where augmentation is drawn: nobody has to wait for the device."""
    host_labels: Tensor
    """``labels`` again, likewise: data sets that follow one another may be augmented each in its own way."""


class Images(NamedTuple):
    """A batch on the device, ready for the network."""

    images: Tensor
    """(B, channels, size, size) float, normalised."""
    labels: Tensor
    positions: Tensor
    epoch: int
    rows: Tensor
    scales: tuple[Tensor, ...] = ()
    """(slots, B) for each pass through the network: what is random in it (stochastic depth)."""


Scales = Callable[[Tensor, int], tuple[Tensor, ...]]
"""``Images.scales`` for the images at positions (n,), on the device, of an epoch."""


@dataclass(frozen=True)
class Pipeline:
    """What is done to images between file or array and network."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | PerDataset | None
    """``None``: clean images, cropped in the centre."""
    key: Key = Key(0)
    flip: bool = False
    """Mirror every image (for features of mirrored copies)."""
    no_flip: Tensor | None = None
    """(classes,) bool, on the host, by global label: whose images ``flip`` leaves as they are. None: none's."""

    def on_device(self, images: Tensor, positions: Tensor, epoch: int, labels: Tensor | None = None) -> Tensor:
        """Augment and normalise uint8 images (B, channels, size, size); ``labels`` (B,), on the host, are needed where
        several data sets follow one another.
        """
        key = self.key.fold("augment", epoch)
        if isinstance(self.augmentation, PerDataset):
            images = augment_per_dataset(images, self.augmentation, key, positions, _known(labels))
        elif self.augmentation is not None:
            images = augment(images, self.augmentation, key, positions)
        if self.flip:
            images = _mirrored(images, None if self.no_flip is None else self.no_flip[_known(labels)])
        return normalise(images, self.mean, self.std)

    def decode(self, source: ImageSource, draw: StepIndices, labels: Tensor) -> Tensor:
        """Read the images of ``draw`` one by one, of these ``labels`` (B,): files as random resized crops if there is
        augmentation, else as central ones.
        """
        key = self.key.fold("crop", draw.epoch)
        drawn = zip(draw.rows.tolist(), draw.positions.tolist(), labels.tolist(), strict=True)
        return torch.stack(
            [
                source.load_train(row, self.image_size, key, position)
                if self._augments(label)
                else source.load_test(row, self.image_size)
                for row, position, label in drawn
            ]
        )

    def _augments(self, label: int) -> bool:
        of_class = self.augmentation.of(label) if isinstance(self.augmentation, PerDataset) else self.augmentation
        return of_class is not None


def _known(labels: Tensor | None) -> Tensor:
    assert labels is not None, "without labels nobody knows which data set an image is of"
    return labels


def _mirrored(images: Tensor, fixed: Tensor | None) -> Tensor:
    mirrored = images.flip(-1)
    if fixed is None:
        return mirrored
    return torch.where(fixed.to(images.device)[:, None, None, None], images, mirrored)


class StepDataset(Dataset[RawBatch | UnreadableImageError]):
    """Item ``i`` is the batch of step ``i``. In a worker it may be the error that reading it has met, for who takes it
    to raise: of one that a worker raises torch hands over the text alone.
    """

    def __init__(self, source: ImageSource, labels: Tensor, steps: Steps, pipeline: Pipeline) -> None:
        self._source = source
        self._labels = labels
        self._steps = steps
        self._pipeline = pipeline

    def __len__(self) -> int:
        return self._steps.total_steps

    def __getitem__(self, step: int) -> RawBatch | UnreadableImageError:
        try:
            return self.batch(step)
        except UnreadableImageError as error:
            if get_worker_info() is None:
                raise
            return error

    def batch(self, step: int) -> RawBatch:
        """The batch of a step. Raises ``UnreadableImageError``."""
        draw = self._steps.step(step)
        images, labels = torch.empty(0, dtype=torch.uint8), self._labels[draw.rows]
        if not isinstance(self._source, ArraySource):
            images = self._pipeline.decode(self._source, draw, labels)
        return RawBatch(draw.rows, labels, draw.positions, draw.epoch, images, draw.positions, labels)


class StepRange(Sampler[int]):
    """Steps in order: what a resumed phase has left, or every other chunk, where two processes share them."""

    def __init__(self, steps: range) -> None:
        self._range = steps

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)


def step_loader(dataset: StepDataset, wanted: range, workers: int) -> DataLoader[RawBatch | UnreadableImageError]:
    """A loader over the ``wanted`` steps; the number of workers changes nothing but speed.

    Arrays need no workers: their items are indices.
    """
    one_by_one = not isinstance(dataset._source, ArraySource)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=StepRange(wanted),
        num_workers=workers if one_by_one else 0,
        worker_init_fn=start_worker,
        generator=torch.Generator().manual_seed(0),  # else creating workers would advance the global stream
    )


class PixelStore:
    """An array's images on the device that trains, copied there once for the whole run."""

    def __init__(self, source: ImageSource) -> None:
        self._pixels = source.pixels if isinstance(source, ArraySource) else None
        self.levels = 0 if self._pixels is None else self._pixels[0].numel()
        """Grey levels of an image; 0 where images are read one by one."""

    def images(self, batch: RawBatch) -> Tensor:
        """The uint8 images of ``batch``, on its device."""
        return batch.images if self._pixels is None else self.of(batch.rows)

    def of(self, rows: Tensor) -> Tensor:
        """The images of ``rows`` of an array, on the rows' device."""
        assert self._pixels is not None
        if self._pixels.device != rows.device:
            self._pixels = self._pixels.to(rows.device)
        return self._pixels[rows]
