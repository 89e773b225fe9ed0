"""Several tables as one: whose a row is, what it is called, and that it is the image that its own table gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation
from cl_lightning.data.loading import Chunks, Pipeline, PixelStore, StepDataset, step_loader
from cl_lightning.data.sources import concat
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.concat import ConcatSource, join
from cl_lightning.data.sources.decoding import resized
from cl_lightning.data.step_sampler import StepIndices

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # machines with a single core

SIZE = 12


def noise(*shape: int) -> Tensor:
    return rng.integers(Key(len(shape)), torch.arange(torch.Size(shape).numel()), 256).to(torch.uint8).view(shape)


GREY = ArraySource("grey", noise(4, 1, 8, 8), torch.tensor([1, 0, 1, 0]), ("a", "b"))
COLOUR = ArraySource("colour", noise(3, 3, 20, 20), torch.tensor([0, 0, 1]), ("c", "d"), (7, 3, 5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> FolderSource:
    root = tmp_path_factory.mktemp("images")
    for row in range(5):
        (root / f"e{row % 2}").mkdir(exist_ok=True)
        picture = np.random.RandomState(row).randint(0, 256, (20 + row, 25, 3), np.uint8)
        Image.fromarray(picture).save(root / f"e{row % 2}" / f"{row}.png")
    return FolderSource.scan(root, "folder")


@pytest.fixture
def mixed(folder: FolderSource) -> ConcatSource:
    source = join("mixed", [GREY, folder, COLOUR], SIZE)
    assert isinstance(source, ConcatSource)
    return source


# ---- rows, labels, keys ------------------------------------------------------------------------------------------


def test_rows_and_classes_follow_one_another(mixed: ConcatSource) -> None:
    assert len(mixed) == 4 + 5 + 3
    assert mixed.class_names == ("a", "b", "e0", "e1", "c", "d")
    assert mixed.labels.tolist() == [1, 0, 1, 0, 2, 2, 2, 3, 3, 4, 4, 5]


def test_keys_are_led_by_the_part_and_lead_back_to_the_row(mixed: ConcatSource) -> None:
    keys = [mixed.key(row) for row in range(len(mixed))]
    assert keys == [
        "1/0", "1/1", "1/2", "1/3", "2/e0/0.png", "2/e0/2.png", "2/e0/4.png", "2/e1/1.png", "2/e1/3.png",
        "3/7", "3/3", "3/5",
    ]  # fmt: skip
    assert [mixed.row(key) for key in keys] == list(range(12))
    with pytest.raises(ValueError, match="image '3/0' is not in mixed"):
        mixed.row("3/0")


def test_the_fingerprint_is_of_all_parts_in_order(folder: FolderSource, mixed: ConcatSource) -> None:
    assert mixed.fingerprint == ConcatSource("other name", (GREY, folder, COLOUR)).fingerprint
    darker = ArraySource("grey", GREY.pixels // 2, GREY.labels, GREY.class_names)
    others = [(folder, GREY, COLOUR), (GREY, folder), (darker, folder, COLOUR)]
    prints = {ConcatSource("mixed", parts).fingerprint for parts in others}
    assert len(prints | {mixed.fingerprint}) == 4


# ---- images ------------------------------------------------------------------------------------------------------


def test_an_image_is_what_its_own_part_gives(folder: FolderSource, mixed: ConcatSource) -> None:
    for row in range(5):
        assert torch.equal(mixed.load_test(4 + row, SIZE), folder.load_test(row, SIZE))
        assert torch.equal(mixed.load_train(4 + row, SIZE, Key(2), 9), folder.load_train(row, SIZE, Key(2), 9))
    for row in range(3):
        assert torch.equal(mixed.load_test(9 + row, SIZE), resized(COLOUR.pixels[row], SIZE))
        assert torch.equal(mixed.load_train(9 + row, SIZE, Key(2), row), resized(COLOUR.pixels[row], SIZE))
    grey = mixed.load_test(2, SIZE)
    assert grey.shape == (3, SIZE, SIZE)
    assert all(torch.equal(plane, resized(GREY.pixels[2], SIZE)[0]) for plane in grey)


def test_resizing_is_pillow_s_in_colour_and_in_grey() -> None:
    picture = Image.fromarray(COLOUR.pixels[0].permute(1, 2, 0).numpy())
    for size in (5, 12, 33):
        wanted = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
        assert np.array_equal(resized(COLOUR.pixels[0], size).permute(1, 2, 0).numpy(), wanted)
    assert resized(GREY.pixels[0], 8) is not None
    assert torch.equal(resized(GREY.pixels[0], 8), GREY.pixels[0]), "an image of this size stays as it is"
    even = torch.full((1, 64, 64), 200, dtype=torch.uint8)
    even[:, ::2] = 100
    assert (resized(even, 8)[:, 1:-1].float() - 150).abs().max() <= 1, "what is shrunk is smoothed, not picked out"


def test_small_arrays_are_resized_once_and_are_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = join("arrays", [GREY, COLOUR], SIZE)
    monkeypatch.setattr(concat, "KEPT_AT_MOST", 7 * 3 * SIZE * SIZE - 1)
    row_by_row = join("arrays", [GREY, COLOUR], SIZE)
    assert isinstance(kept, ArraySource)
    assert isinstance(row_by_row, ConcatSource)
    assert kept.pixels.shape == (7, 3, SIZE, SIZE)
    assert torch.equal(kept.labels, row_by_row.labels)
    assert kept.class_names == row_by_row.class_names
    for row in range(7):
        assert kept.key(row) == row_by_row.key(row)
        assert torch.equal(kept.pixels[row], row_by_row.load_test(row, SIZE))


@pytest.mark.parametrize("augmented", [False, True])
def test_a_batch_of_all_parts_is_what_each_image_is_alone(mixed: ConcatSource, augmented: bool) -> None:
    augmentation = Augmentation(2, True) if augmented else None
    pipeline = Pipeline(SIZE, (0.5,) * 3, (0.5,) * 3, augmentation, Key(4))
    rows = torch.tensor([11, 0, 5, 4, 2, 9])
    labels = mixed.labels[rows]
    together = pipeline.decode(mixed, StepIndices(rows, rows, 1), labels)
    alone = [
        pipeline.decode(mixed, StepIndices(rows[k : k + 1], rows[k : k + 1], 1), labels[k : k + 1]) for k in range(6)
    ]
    assert together.shape == (6, 3, SIZE, SIZE)
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.slow
def test_workers_read_the_same(mixed: ConcatSource) -> None:
    pipeline = Pipeline(SIZE, (0.5,) * 3, (0.5,) * 3, Augmentation(2, True), Key(4))
    dataset = StepDataset(mixed, mixed.labels, Chunks.of(torch.arange(12), 5), pipeline)
    assert PixelStore(mixed).levels == 0
    assert step_loader(dataset, range(3), 2).num_workers == 2
    for a, b in zip(step_loader(dataset, range(3), 0), step_loader(dataset, range(3), 2), strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.host_labels, b.labels)
