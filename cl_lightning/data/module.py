"""The LightningDataModule: one view of a task's data, for one Trainer call."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cl_lightning.data.loading import Images, Pipeline, PixelStore, RawBatch, StepDataset, Steps, step_loader
from cl_lightning.data.sources import ImageSource


class TaskData(pl.LightningDataModule):
    """Loads the steps of a phase (or the chunks of an evaluation), moves them to the device and augments them there."""

    def __init__(
        self,
        source: ImageSource,
        labels: Tensor,
        steps: Steps,
        pipeline: Pipeline,
        pixels: PixelStore,
        *,
        workers: int = 0,
        wanted: range | None = None,
    ) -> None:
        """``labels`` are global labels of the source's rows; ``wanted`` are the steps to load, by default all."""
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer chunks than processes: some have none
        self._dataset = StepDataset(source, labels, steps, pipeline)
        self._pipeline = pipeline
        self._pixels = pixels
        self._workers = workers
        self._wanted = range(steps.total_steps) if wanted is None else wanted

    def _loader(self) -> DataLoader[RawBatch]:
        return step_loader(self._dataset, self._wanted, self._workers)

    def train_dataloader(self) -> DataLoader[RawBatch]:
        """The phase's steps."""
        return self._loader()

    def predict_dataloader(self) -> DataLoader[RawBatch]:
        """The rows' chunks."""
        return self._loader()

    def transfer_batch_to_device(self, batch: RawBatch, device: torch.device, dataloader_idx: int) -> RawBatch:
        """Everything but the host's copy of the positions."""
        moved: RawBatch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(host_positions=batch.host_positions)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Any:
        """Index, augment and normalise on the device."""
        images = self._pixels.images(batch)
        images = self._pipeline.on_device(images, batch.host_positions, batch.epoch)
        return Images(images, batch.labels, batch.positions, batch.epoch, batch.rows)
