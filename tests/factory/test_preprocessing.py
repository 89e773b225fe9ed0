"""Arrays are augmented at their own size and resized, files are read at the network's: from options to objects."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.config.schema import DataConfig, SetConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, augment, normalise
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.data.sources.decoding import USUAL, Scaling, resized, to_tensor
from cl_lightning.factory.data import build_pipeline
from cl_lightning.factory.preprocessing import as_seen, mean_and_std, read_size, resizing, scaling
from tests.config.made import data_of, filled


def changed(choice: str, **preprocess: Any) -> DataConfig:
    data = data_of(choice)
    return dataclasses.replace(data, preprocess=dataclasses.replace(data.preprocess, **preprocess))


def pipeline(*overrides: str) -> Pipeline:
    config = filled(*overrides)
    channels = 1 if config.data.name == "digits" else 3
    scenario = as_seen(without_images("made", ["a"], [1], config.data.image_size, channels), config.data)
    return build_pipeline(config, scenario, Key(5))


def pixels(side: int, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (6, channels, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_where_nothing_is_asked_the_pipeline_does_what_it_did() -> None:
    images, positions = pixels(32), torch.arange(6)
    found = pipeline("data=cifar100_10steps", "method=wa").on_device(images, positions, 2)
    before = Augmentation(crop_padding=4, flip=True, brightness=63 / 255)
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    changed_images = augment(images, before, Key(5).fold("augment", 2), positions)
    assert torch.equal(found, normalise(changed_images, mean, std))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_arrays_are_augmented_small_then_resized(interpolation: str) -> None:
    """As timm's pipelines have it the other way round, and slowly: see docs/adr/0031."""
    own = pipeline(
        "data=cifar100_10steps", "data.preprocess.size=48", f"data.preprocess.interpolation={interpolation}",
        "data.augmentation=basic", "data.preprocess.normalise=none",
    )  # fmt: skip
    images, positions = pixels(32), torch.arange(6)
    found = own.on_device(images, positions, 1)
    small = augment(images, Augmentation(crop_padding=4, flip=True), Key(5).fold("augment", 1), positions)
    expected = torch.stack([resized(image, 48, interpolation) for image in small])
    assert found.dtype == torch.float32
    assert torch.equal((found * 255).round(), expected.float())
    assert float(found.max()) <= 1
    assert own.image_size == 32, "read and augmented at their own size"
    assert torch.equal(found[2:4], own.on_device(images[2:4], positions[2:4], 1)), "whatever the batch"


def test_files_are_read_at_the_network_s_size() -> None:
    own = pipeline("data=imagenet100_10steps", "data.root=x", "data.preprocess.size=96", "data.preprocess.resize=whole")
    assert (own.image_size, own.scaling) == (96, Scaling(whole=True))
    images = pixels(96)
    assert own.resize is not None
    assert own.resize(images) is images, "nothing is left to resize"
    usual = pipeline("data=imagenet100_10steps", "data.root=x")
    assert (usual.image_size, usual.scaling) == (224, USUAL)


def test_the_sizes_of_a_scenario() -> None:
    """Networks, costs and memory go by the one, readers and augmentation by the other."""
    cifar = without_images("cifar100", ["a"], [1], 32, 3)
    for size, stored in ((32, None), (224, 32)):
        seen = as_seen(cifar, changed("cifar100_10steps", size=size))
        assert (seen.image_size, seen.stored_size, seen.read_size) == (size, stored, 32)
    files = as_seen(cifar, changed("imagenet100_10steps", size=96))
    assert (files.image_size, files.read_size) == (96, 96)


def test_arrays_among_files_are_read_as_these() -> None:
    mixed = dataclasses.replace(changed("digits", size=48), sets=[SetConfig("digits"), SetConfig("cub200")])
    arrays = dataclasses.replace(mixed, sets=[SetConfig("digits"), SetConfig("cifar100")])
    assert (read_size(mixed), read_size(arrays)) == (48, 8)


def test_the_way_of_scaling() -> None:
    cropped = changed("cifar100_10steps", size=224, resize="crop", crop_share=0.9)
    assert resizing(cropped) == Resize(224, 248, "bicubic")
    assert resizing(changed("cifar100_10steps", size=224)) == Resize(224, 224, "bicubic")
    assert scaling(cropped) == USUAL, "arrays are stored in one way"
    assert scaling(changed("image_folder", crop_share=0.9, interpolation="bilinear")) == Scaling(False, 0.9, "bilinear")


def test_what_normalises() -> None:
    digits, cifar = changed("digits"), changed("cifar100_10steps", normalise="none")
    assert mean_and_std(digits, 1) == ((0.3053,), (0.376,))
    assert mean_and_std(cifar, 3) == ((0.0,) * 3, (1.0,) * 3)
    weights = dataclasses.replace(
        changed("digits", normalise="weights"), mean=[0.25, 0.5, 0.75], std=[0.25, 0.25, 0.25]
    )
    assert mean_and_std(weights, 1) == ((0.5,), (0.25,)), "grey images take the mean of the colours"
    assert mean_and_std(weights, 3) == ((0.25, 0.5, 0.75), (0.25,) * 3)
    with pytest.raises(UserError, match=r"^data.mean=\[0.3053\] needs 3 values, one a channel: type data.mean=null$"):
        mean_and_std(digits, 3)


def test_pixels_that_are_not_normalised_are_shares() -> None:
    own = pipeline("data.preprocess.normalise=none", "data.augmentation=none")
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    assert own.on_device(levels, torch.arange(3), 0)[:, 0, 0, 0].tolist() == pytest.approx([0, 0.2, 1])


def test_pillow_s_filters_are_meant(tmp_path: Any) -> None:
    """A file that is read whole, or bilinearly, is what Pillow makes of it."""
    from cl_lightning.data.sources.base import FolderSource

    picture = Image.fromarray(pixels(40)[0].permute(1, 2, 0).numpy()).crop((0, 0, 40, 30))
    (tmp_path / "a").mkdir()
    picture.save(tmp_path / "a" / "1.png")
    source = FolderSource.scan(tmp_path, "made")
    for name, kind in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        whole = to_tensor(picture.resize((16, 16), kind))
        assert torch.equal(source.load_test(0, 16, Scaling(True, interpolation=name)), whole)
    cropped = source.load_test(0, 16, Scaling(crop_share=1.0))
    assert not torch.equal(cropped, source.load_test(0, 16))
    crops = [source.load_train(0, 16, Key(0), 3, Scaling(interpolation=name)) for name in ("bicubic", "bilinear")]
    assert not torch.equal(*crops)
    assert torch.equal(crops[0], source.load_train(0, 16, Key(0), 3))
