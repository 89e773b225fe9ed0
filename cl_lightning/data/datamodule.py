"""The LightningDataModule: one view of a task's data, for one Trainer call.

Images of CIFAR's size are so small that augmenting a batch of them costs more in calls than in arithmetic. The result
for an image depends on its own draw alone, so the images of several steps are augmented together and yielded step by
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cl_lightning.core.errors import UnreadableImageError
from cl_lightning.data.loading import (
    Images,
    Pipeline,
    PixelStore,
    RawBatch,
    Scales,
    Source,
    StepDataset,
    Steps,
    step_loader,
)

LEVELS_TOGETHER = {"cpu": 1 << 21, "cuda": 1 << 25}
"""Number of grey levels of several steps that are augmented together: on a CPU as many as stay in the caches; on a GPU
an epoch of a task of CIFAR's size, since the host starts some 600 operators, however many images there are.
"""


class PreparedBatches:
    """The ``wanted`` steps of an array's images, augmented on the ``device`` for several steps of an epoch at a
    time.
    """

    def __init__(
        self, dataset: StepDataset, wanted: range, pixels: PixelStore, pipeline: Pipeline, scales: Scales,
        device: torch.device,
    ) -> None:  # fmt: skip
        self._dataset = dataset
        self._wanted = wanted
        self._pixels = pixels
        self._pipeline = pipeline
        self._scales = scales
        self._device = device

    def __len__(self) -> int:
        return len(self._wanted)

    def __iter__(self) -> Iterator[Images]:
        together: list[RawBatch] = []
        images, room = 0, max(1, self._levels() // self._pixels.largest(self._pipeline.resize))
        for step in self._wanted:
            batch = self._dataset.batch(step)
            if together and (batch.epoch != together[0].epoch or images + len(batch.rows) > room):
                yield from self._prepared(together)
                together, images = [], 0
            together.append(batch)
            images += len(batch.rows)
        if together:
            yield from self._prepared(together)

    def _levels(self) -> int:
        return LEVELS_TOGETHER.get(self._device.type, LEVELS_TOGETHER["cpu"])

    def _prepared(self, batches: Sequence[RawBatch]) -> Iterator[Images]:
        sizes, epoch = [len(batch.rows) for batch in batches], batches[0].epoch
        host = torch.cat([batch.positions for batch in batches])
        addresses = torch.cat([batch.host_positions for batch in batches])
        host_labels = torch.cat([batch.labels for batch in batches])
        rows, labels, positions = (
            values.to(self._device, non_blocking=True)
            for values in (torch.cat([batch.rows for batch in batches]), host_labels, host)
        )
        images = self._pipeline.on_device(self._pixels.of(rows), addresses, epoch, host_labels)
        parts = zip(*(values.split(sizes) for values in (images, labels, positions, rows)), strict=True)
        scales = [drawn.split(sizes, dim=1) for drawn in self._scales(positions, epoch)]
        for step, (part_images, part_labels, part_positions, part_rows) in enumerate(parts):
            of_step = tuple(of_pass[step].contiguous() for of_pass in scales)  # else compiled code meets other strides
            yield Images(part_images, part_labels, part_positions, epoch, part_rows, of_step)


def no_scales(positions: Tensor, epoch: int) -> tuple[Tensor, ...]:
    """Return the noise of a network that has none."""
    return ()


class TaskData(pl.LightningDataModule):
    """DataModule that loads the steps of a phase (or the chunks of an evaluation) and augments them on the device."""

    def __init__(
        self,
        source: Source,
        labels: Tensor,
        steps: Steps,
        pipeline: Pipeline,
        pixels: PixelStore,
        *,
        workers: int = 0,
        wanted: range | None = None,
        scales: Scales = no_scales,
    ) -> None:
        """Take global ``labels`` of the source's rows, the ``wanted`` steps, by default all, and ``scales``, which
        draws stochastic depth.
        """
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer chunks than processes: some have none
        self._dataset = StepDataset(source, labels, steps, pipeline)
        self._pipeline = pipeline
        self._pixels = pixels
        self._workers = workers
        self._wanted = range(steps.total_steps) if wanted is None else wanted
        self._scales = scales

    def _loader(self) -> DataLoader[RawBatch | UnreadableImageError]:
        return step_loader(self._dataset, self._wanted, self._workers)

    def train_dataloader(self) -> DataLoader[RawBatch | UnreadableImageError] | PreparedBatches:
        """Return the phase's steps."""
        if self._pixels.levels == 0:
            return self._loader()
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        return PreparedBatches(self._dataset, self._wanted, self._pixels, self._pipeline, self._scales, device)

    def predict_dataloader(self) -> DataLoader[RawBatch | UnreadableImageError]:
        """Return the rows' chunks."""
        return self._loader()

    def batches(self, device: torch.device) -> Iterator[Images]:
        """Yield the rows' chunks on a device, without a Trainer. Raises an error that a worker sent."""
        for batch in self.predict_dataloader():
            yield self.on_after_batch_transfer(self.transfer_batch_to_device(batch, device, 0), 0)

    def transfer_batch_to_device(
        self, batch: RawBatch | Images | UnreadableImageError, device: torch.device, dataloader_idx: int
    ) -> RawBatch | Images:
        """Move a batch, except for the host's copies of positions and labels. Raises an error that a worker sent."""
        if isinstance(batch, UnreadableImageError):
            raise batch
        if isinstance(batch, Images):
            return batch
        moved: RawBatch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(host_positions=batch.host_positions, host_labels=batch.host_labels)

    def on_after_batch_transfer(self, batch: RawBatch | Images, dataloader_idx: int) -> Images:
        """Index, augment and normalise a raw batch on the device."""
        if isinstance(batch, Images):
            return batch
        images = self._pixels.images(batch)
        images = self._pipeline.on_device(images, batch.host_positions, batch.epoch, batch.host_labels)
        scales = self._scales(batch.positions, batch.epoch)
        return Images(images, batch.labels, batch.positions, batch.epoch, batch.rows, scales)
