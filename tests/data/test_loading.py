"""From steps to images: the same from any start, with any number of workers, in a batch or one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cl_lightning.core.errors import UnreadableImageError
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import augment
from cl_lightning.data.datamodule import TaskData
from cl_lightning.data.loading import (
    Chunks,
    Pipeline,
    PixelStore,
    StepDataset,
    StepRange,
    step_loader,
)
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.step_sampler import StepIndices
from tests.data.batches import (
    AUGMENTED,
    CLEAN,
    LABELS,
    MEAN,
    PIXELS,
    SETS,
    SIZE,
    STD,
    array,
    expect_equal,
    folder,
    raw,
    source,
    steps,
)

__all__ = ["array", "folder", "source"]  # fixtures that work by being here

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # machines with a single core

# ---- steps -------------------------------------------------------------------------------------------------------


def test_a_batch_is_what_its_step_draws(source: ArraySource | FolderSource) -> None:
    batches, draws = raw(source), steps()
    assert len(batches) == draws.total_steps == 12
    for step, batch in enumerate(batches):
        draw = draws.step(step)
        assert torch.equal(batch.rows, draw.rows)
        assert torch.equal(batch.positions, draw.positions)
        assert torch.equal(batch.labels, source.labels[draw.rows])
        assert batch.epoch == draw.epoch == step // 4


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12])
def test_batches_are_the_same_from_any_start(source: ArraySource | FolderSource, start: int) -> None:
    everything, rest = raw(source), raw(source, start)
    assert len(rest) == 12 - start
    for a, b in zip(everything[start:], rest, strict=True):
        expect_equal(a, b)


@pytest.mark.parametrize("start", [0, 7])
def test_workers_change_nothing(folder: FolderSource, start: int) -> None:
    for a, b in zip(raw(folder, start), raw(folder, start, workers=2), strict=True):
        expect_equal(a, b)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_has_become_unreadable_is_told_whole_by_a_worker_too(
    folder: FolderSource, workers: int, tmp_path: Path
) -> None:
    broken = replace(folder, root=tmp_path)
    for path in broken.paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"nothing")
    pipeline = Pipeline(4, (0.5,) * 3, (0.5,) * 3, None)
    steps = Chunks.of(torch.arange(len(broken)), 2)
    data = TaskData(broken, broken.labels, steps, pipeline, PixelStore(broken), workers=workers)
    told = "^/.* cannot be read as an image .*: repair or remove the file$"
    with pytest.raises(UnreadableImageError, match=told):
        data.transfer_batch_to_device(next(iter(data.predict_dataloader())), torch.device("cpu"), 0)


def test_arrays_need_no_workers(array: ArraySource, folder: FolderSource) -> None:
    for table, workers in ((array, 0), (folder, 2)):
        dataset = StepDataset(table, table.labels, steps(), AUGMENTED)
        assert step_loader(dataset, range(len(dataset)), 2).num_workers == workers


def test_loading_leaves_the_global_stream_alone(folder: FolderSource) -> None:
    before = torch.get_rng_state()
    raw(folder)
    raw(folder, workers=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_range_of_steps() -> None:
    assert list(StepRange(range(3, 6))) == [3, 4, 5]
    assert len(StepRange(range(3, 6))) == 3
    assert len(StepRange(range(6, 6))) == 0


def test_chunks_hold_each_row_once_and_in_order() -> None:
    rows = torch.tensor([5, 3, 8, 0, 9])
    chunks = Chunks.of(rows, 2)
    draws = [chunks.step(k) for k in range(chunks.total_steps)]
    assert [draw.rows.tolist() for draw in draws] == [[5, 3], [8, 0], [9]]
    assert torch.equal(torch.cat([draw.positions for draw in draws]), rows)
    assert {draw.epoch for draw in draws} == {0}
    assert Chunks.of(rows[:0], 2).total_steps == 0
    assert Chunks.of(rows[:4], 2).total_steps == 2


# ---- images ------------------------------------------------------------------------------------------------------


def test_an_array_s_images_are_indexed_on_the_device(array: ArraySource) -> None:
    batch = raw(array)[3]
    assert batch.images.numel() == 0
    assert torch.equal(PixelStore(array).images(batch), PIXELS[batch.rows])


def test_files_are_cropped_at_random_where_there_is_augmentation(folder: FolderSource) -> None:
    batch = raw(folder)[0]
    key = AUGMENTED.key.fold("crop", 0)
    for image, row, position in zip(batch.images, batch.rows.tolist(), batch.positions.tolist(), strict=True):
        assert torch.equal(image, folder.load_train(row, SIZE, key, position))
    assert torch.equal(PixelStore(folder).images(batch), batch.images)
    clean = StepDataset(folder, folder.labels, steps(), CLEAN)[0]
    expected = torch.stack([folder.load_test(row, SIZE) for row in clean.rows.tolist()])
    assert torch.equal(clean.images, expected)
    assert not torch.equal(batch.images, clean.images)


def test_copies_of_a_file_are_cropped_apart_and_again_in_each_epoch(folder: FolderSource) -> None:
    rows = torch.tensor([4, 4])
    copies = AUGMENTED.decode(folder, StepIndices(rows, torch.tensor([0, 1]), 0), folder.labels[rows])
    assert not torch.equal(copies[0], copies[1])
    later = AUGMENTED.decode(folder, StepIndices(rows, torch.tensor([0, 1]), 1), folder.labels[rows])
    assert not torch.equal(copies[0], later[0])
    assert torch.equal(
        copies, AUGMENTED.decode(folder, StepIndices(rows, torch.tensor([0, 1]), 0), folder.labels[rows])
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("augmented", [False, True])
def test_a_batch_is_changed_as_its_images_one_by_one(flip: bool, augmented: bool) -> None:
    pipeline = Pipeline(SIZE, MEAN, STD, AUGMENTED.augmentation if augmented else None, Key(5), flip)
    positions = torch.arange(20) * 3 + 1
    together = pipeline.on_device(PIXELS, positions, epoch=2)
    alone = [pipeline.on_device(PIXELS[k : k + 1], positions[k : k + 1], epoch=2) for k in range(20)]
    assert together.dtype == torch.float32
    assert torch.equal(together, torch.cat(alone))


def test_each_set_is_augmented_in_its_own_way() -> None:
    """Also where they are in one batch: images are what they would be among their own."""
    positions = torch.arange(20)
    mixed = replace(AUGMENTED, augmentation=SETS)
    found = mixed.on_device(PIXELS, positions, 2, LABELS)
    for label, augmentation in enumerate(SETS.each):
        own = label == LABELS
        alone = replace(AUGMENTED, augmentation=augmentation).on_device(PIXELS, positions, 2)
        assert torch.equal(found[own], alone[own])
        assert torch.equal(found[own], mixed.on_device(PIXELS[own], positions[own], 2, LABELS[own]))
        assert torch.equal(found[own], CLEAN.on_device(PIXELS, positions, 2)[own]) == (augmentation is None)
    assert torch.equal(found[7:9], mixed.on_device(PIXELS[7:9], positions[7:9], 2, LABELS[7:9]))


def test_images_of_upright_classes_have_no_mirrored_copy() -> None:
    mirrored = replace(CLEAN, flip=True, no_flip=torch.tensor([False, True, False]))
    found, clean = (each.on_device(PIXELS, torch.arange(20), 0, LABELS) for each in (mirrored, CLEAN))
    no_flip = LABELS == 1
    assert torch.equal(found[no_flip], clean[no_flip])
    assert torch.equal(found[~no_flip], clean[~no_flip].flip(-1))


def test_clean_images_are_normalised_and_nothing_else() -> None:
    images = CLEAN.on_device(PIXELS, torch.arange(20), 0)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    torch.testing.assert_close(images, (PIXELS / 255 - mean) / std, atol=1e-5, rtol=1e-5)


def test_augmentation_comes_before_the_mirror_and_changes_with_the_epoch() -> None:
    assert AUGMENTED.augmentation is not None
    positions = torch.arange(20)
    augmented = augment(PIXELS, AUGMENTED.augmentation, Key(5).fold("augment", 1), positions)
    mirrored = Pipeline(SIZE, MEAN, STD, AUGMENTED.augmentation, Key(5), flip=True)
    expected = CLEAN.on_device(augmented.flip(-1), positions, 0)
    assert torch.equal(mirrored.on_device(PIXELS, positions, 1), expected)
    assert not torch.equal(mirrored.on_device(PIXELS, positions, 2), expected)
