"""From step numbers to uint8 images: data sets whose items are whole batches, so that a loader can start at any step.

Arrays stay where training runs and are indexed there; files are decoded and cropped by the loader's workers.
Augmentation follows on the device, then resizing for a network that sees arrays at another size, then normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from cl_lightning.core.errors import UnreadableImageError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Sampling
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, augment, augment_per_dataset, normalise
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.sources.base import ArraySource, ImageSource
from cl_lightning.data.sources.decoding import USUAL, Scaling
from cl_lightning.data.sources.features import FeatureSource
from cl_lightning.data.step_sampler import StepIndices
from cl_lightning.data.workers import start_worker

Source = ImageSource | FeatureSource
"""Source of a loader."""
_IN_MEMORY = (ArraySource, FeatureSource)
"""Sources that are indexed on the device; the images of others are read one by one."""


class Steps(Protocol):
    """Rule that gives the rows of each step."""

    @property
    def total_steps(self) -> int:
        """Number of steps."""
        ...

    def step(self, step: int) -> StepIndices:
        """Return the rows of one step."""
        ...


@dataclass(frozen=True, eq=False)
class Chunks:
    """Rows in pieces, for evaluation and features. The position of a sample is its row."""

    pieces: Sequence[Tensor]

    @staticmethod
    def of(rows: Tensor, size: int) -> Chunks:
        """Split ``rows`` in order into pieces of ``size``; the last piece may be smaller."""
        return Chunks(rows.split(size) if len(rows) else [])

    @property
    def total_steps(self) -> int:
        """Number of pieces."""
        return len(self.pieces)

    def step(self, step: int) -> StepIndices:
        """Return piece ``step``."""
        return StepIndices(self.pieces[step], self.pieces[step], 0)


class RawBatch(NamedTuple):
    """Batch of a loader, before augmentation."""

    rows: Tensor
    """(B,) int64."""
    labels: Tensor
    """(B,) int64 global labels."""
    positions: Tensor
    """(B,) int64, see ``StepIndices``."""
    epoch: int
    images: Tensor
    """(B, channels, size, size) uint8 if they are read one by one; (0,) for arrays, indexed on the device."""
    host_positions: Tensor
    """``positions``, or ``StepIndices.copies``, on the host: augmentation is drawn there, without waiting for a device.
    """
    host_labels: Tensor
    """``labels`` again, likewise: each of several data sets may be augmented in its own way."""


class Images(NamedTuple):
    """A batch on the device, ready for the network."""

    images: Tensor
    """(B, channels, size, size) float, normalised."""
    labels: Tensor
    positions: Tensor
    epoch: int
    rows: Tensor
    scales: tuple[Tensor, ...] = ()
    """(slots, B) for each pass through the network: its noise (stochastic depth)."""


Scales = Callable[[Tensor, int], tuple[Tensor, ...]]
"""``Images.scales`` for the images at positions (n,), on the device, of an epoch."""


@dataclass(frozen=True)
class Pipeline:
    """Processing of images between file or array and network."""

    image_size: int
    """Side of the images that are read one by one, and of those that are augmented."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | PerDataset | None
    """``None``: clean images, cropped in the centre."""
    key: Key = Key(0)
    flip: bool = False
    """Mirror every image (for features of mirrored copies)."""
    no_flip: Tensor | None = None
    """(classes,) bool, on the host, by global label: classes whose images ``flip`` does not mirror. None: no class."""
    scaling: Scaling = USUAL
    """Scaling of images that are read one by one."""
    resize: Resize | None = None
    """Resizing of augmented images to what the network sees. None: it sees them as they are."""
    copies: int = 1
    """Times an epoch goes over each image (``Sampling``)."""
    fixed: bool = False
    """All epochs augment as the first one does (``Sampling``)."""

    def on_device(self, images: Tensor, positions: Tensor, epoch: int, labels: Tensor | None = None) -> Tensor:
        """Augment, resize and normalise uint8 images (B, channels, size, size); ``labels`` (B,), on the host, are
        needed with several data sets.
        """
        key = self.key.fold("augment", 0 if self.fixed else epoch)
        if isinstance(self.augmentation, PerDataset):
            images = augment_per_dataset(images, self.augmentation, key, positions, _known(labels), self.copies)
        elif self.augmentation is not None:
            images = augment(images, self.augmentation, key, positions, self.copies)
        if self.flip:
            images = _mirrored(images, None if self.no_flip is None else self.no_flip[_known(labels)])
        return normalise(images if self.resize is None else self.resize(images), self.mean, self.std)

    def of_phase(self, key: Key, sampling: Sampling) -> Pipeline:
        """Return the pipeline with a phase's random stream and copies."""
        return replace(self, key=key, copies=sampling.copies, fixed=sampling.fixed)

    def clean_identity(self) -> str:
        """Return all that decides how a clean image reaches the network, as text."""
        return f"{self.image_size} {self.mean} {self.std} {self.scaling} {self.resize}"

    def as_stored(self) -> AsStored:
        """Return the pipeline of features that this one's images were turned into before."""
        return AsStored(self.image_size, self.mean, self.std, None, self.key)

    def decode(self, source: ImageSource, draw: StepIndices, labels: Tensor) -> Tensor:
        """Read the images of ``draw`` one by one, of these ``labels`` (B,): files as random resized crops if they are
        augmented, else as central ones.
        """
        key = self.key.fold("crop", 0 if self.fixed else draw.epoch)
        drawn = zip(draw.rows.tolist(), _addresses(draw).tolist(), labels.tolist(), strict=True)
        return torch.stack(
            [
                source.load_train(row, self.image_size, key, position, self.scaling)
                if self._augments(label)
                else source.load_test(row, self.image_size, self.scaling)
                for row, position, label in drawn
            ]
        )

    def _augments(self, label: int) -> bool:
        of_class = self.augmentation.of(label) if isinstance(self.augmentation, PerDataset) else self.augmentation
        return of_class is not None


class AsStored(Pipeline):
    """Pipeline that changes nothing."""

    def on_device(self, images: Tensor, positions: Tensor, epoch: int, labels: Tensor | None = None) -> Tensor:
        """Return the features as they are."""
        return images


def _addresses(draw: StepIndices) -> Tensor:
    """Return what addresses the augmentation of each image, (B,) int64."""
    return draw.positions if draw.copies is None else draw.copies


def _known(labels: Tensor | None) -> Tensor:
    assert labels is not None, "without labels nobody knows which data set an image is of"
    return labels


def _mirrored(images: Tensor, fixed: Tensor | None) -> Tensor:
    mirrored = images.flip(-1)
    if fixed is None:
        return mirrored
    return torch.where(fixed.to(images.device)[:, None, None, None], images, mirrored)


class StepDataset(Dataset[RawBatch | UnreadableImageError]):
    """Dataset whose item ``i`` is the batch of step ``i``.

    In a worker an item may be the error of reading it, for the main process to raise: of an error that a worker raises
    torch hands over the text alone.
    """

    def __init__(self, source: Source, labels: Tensor, steps: Steps, pipeline: Pipeline) -> None:
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
        if not isinstance(self._source, _IN_MEMORY):
            images = self._pipeline.decode(self._source, draw, labels)
        return RawBatch(draw.rows, labels, draw.positions, draw.epoch, images, _addresses(draw), labels)


class StepRange(Sampler[int]):
    """Sampler of steps in order: the rest of a resumed phase, or one process's share of the chunks."""

    def __init__(self, steps: range) -> None:
        self._range = steps

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)


def step_loader(dataset: StepDataset, wanted: range, workers: int) -> DataLoader[RawBatch | UnreadableImageError]:
    """Return a loader over the ``wanted`` steps; the number of workers affects only the speed.

    Arrays need no workers: their items are indices.
    """
    one_by_one = not isinstance(dataset._source, _IN_MEMORY)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=StepRange(wanted),
        num_workers=workers if one_by_one else 0,
        worker_init_fn=start_worker,
        generator=torch.Generator().manual_seed(0),  # else creating workers would advance the global stream
    )


class PixelStore:
    """Images of an array, or their features, on the training device, copied there once for the whole run."""

    def __init__(self, source: Source) -> None:
        self._pixels = source.pixels if isinstance(source, _IN_MEMORY) else None
        self.levels = 0 if self._pixels is None else self._pixels[0].numel()
        """Number of grey levels of an image; 0 if images are read one by one."""

    def largest(self, resize: Resize | None) -> int:
        """Return the number of grey levels of an image where it has most, before or after it was resized."""
        if self._pixels is None or resize is None:
            return self.levels
        return max(self.levels, resize.levels(self._pixels.shape[1]))

    def images(self, batch: RawBatch) -> Tensor:
        """Return the uint8 images of ``batch``, on its device."""
        return batch.images if self._pixels is None else self.of(batch.rows)

    def of(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows`` of an array, on the rows' device."""
        assert self._pixels is not None
        if self._pixels.device != rows.device:
            self._pixels = self._pixels.to(rows.device)
        return self._pixels[rows]
