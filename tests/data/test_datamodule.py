"""The data module: ready images of each step, augmented together where they are small."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.data import datamodule
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.datamodule import TaskData
from cl_lightning.data.loading import (
    Chunks,
    Images,
    Pipeline,
    PixelStore,
)
from cl_lightning.data.sources.base import ArraySource, FolderSource
from tests.data.batches import (
    AUGMENTED,
    CLEAN,
    LABELS,
    PIXELS,
    SETS,
    array,
    drawn,
    expect_equal,
    folder,
    raw,
    source,
    steps,
)

__all__ = ["array", "folder", "source"]  # fixtures that work by being here

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # machines with a single core


def on_cpu() -> Any:
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))


@pytest.mark.parametrize("start", [0, 5])
def test_the_data_module_hands_over_ready_images(source: ArraySource | FolderSource, start: int) -> None:
    data = TaskData(
        source, source.labels, steps(), AUGMENTED, PixelStore(source), wanted=range(start, steps().total_steps)
    )
    data.trainer = on_cpu()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert len(batches) == 12 - start
    for batch, plain in zip(batches, raw(source, start), strict=True):
        pixels = PIXELS[plain.rows] if isinstance(source, ArraySource) else plain.images
        images = AUGMENTED.on_device(pixels, plain.positions, plain.epoch)
        expect_equal(batch, Images(images, plain.labels, plain.positions, plain.epoch, plain.rows))


@pytest.mark.parametrize(("room", "calls"), [(1, 12), (2, 6), (1000, 3)])
def test_steps_of_an_epoch_are_augmented_together_within_bounds(
    array: ArraySource, room: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of four steps: a call for each step, for two steps, for an epoch."""
    seen: list[int] = []

    def on_device(pipeline: Pipeline, images: Tensor, positions: Tensor, epoch: int, labels: Tensor) -> Tensor:
        seen.append(len(images))
        return images.float()

    monkeypatch.setattr(Pipeline, "on_device", on_device)
    phase = steps()
    batch = len(phase.step(0).rows)
    monkeypatch.setitem(datamodule.LEVELS_TOGETHER, "cpu", room * batch * PIXELS[0].numel())
    data = TaskData(array, LABELS, phase, AUGMENTED, PixelStore(array))
    data.trainer = on_cpu()
    loader = data.train_dataloader()
    assert len(loader) == phase.total_steps == 12
    assert [len(batch.rows) for batch in loader] == [len(phase.step(step).rows) for step in range(12)]
    assert len(seen) == calls
    assert max(seen) <= room * batch


def test_resized_images_are_what_has_to_have_room(array: ArraySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored images of twelve pixels would fit together for an epoch, not what the network sees."""
    larger = replace(AUGMENTED, resize=Resize(24, 24, "bicubic"))
    phase, alike = steps(), Pipeline.on_device
    most = len(phase.step(0).rows)
    seen: list[int] = []

    def on_device(pipeline: Pipeline, images: Tensor, positions: Tensor, epoch: int, labels: Tensor) -> Tensor:
        seen.append(len(images))
        return alike(pipeline, images, positions, epoch, labels)

    monkeypatch.setattr(Pipeline, "on_device", on_device)
    monkeypatch.setitem(datamodule.LEVELS_TOGETHER, "cpu", most * 3 * 24 * 24)
    data = TaskData(array, LABELS, phase, larger, PixelStore(array))
    data.trainer = on_cpu()
    batches = list(data.train_dataloader())
    assert max(seen) <= most
    for batch, plain in zip(batches, raw(array), strict=True):
        assert batch.images.shape[1:] == (3, 24, 24)
        expected = alike(larger, PIXELS[plain.rows], plain.positions, plain.epoch, plain.labels)
        assert torch.equal(batch.images, expected)


def test_prediction_goes_through_the_same_rows(array: ArraySource) -> None:
    data = TaskData(array, LABELS, Chunks.of(torch.arange(20), 8), CLEAN, PixelStore(array))
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.predict_dataloader()]
    assert torch.equal(torch.cat([batch.rows for batch in batches]), torch.arange(20))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), LABELS)


def test_sets_are_distinguished_wherever_batches_are_made(source: ArraySource | FolderSource) -> None:
    pipeline = replace(AUGMENTED, augmentation=SETS)
    data = TaskData(source, source.labels, steps(), pipeline, PixelStore(source))
    data.trainer = on_cpu()
    for batch, plain in zip(data.train_dataloader(), raw(source), strict=True):
        ready, still = data.on_after_batch_transfer(batch, 0).images, plain.labels == 1
        if isinstance(source, ArraySource):
            pixels = clean = PIXELS[plain.rows]
        else:
            pixels = pipeline.decode(source, drawn(plain), plain.labels)
            clean = CLEAN.decode(source, drawn(plain), plain.labels)
        assert torch.equal(ready, pipeline.on_device(pixels, plain.positions, plain.epoch, plain.labels))
        assert torch.equal(ready[still], CLEAN.on_device(clean, plain.positions, 0)[still]), "read and shown clean"
