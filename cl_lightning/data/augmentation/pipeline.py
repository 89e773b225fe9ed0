"""Augmentation of training images between storage and network: per image, in batch, on their own device.

Images stay uint8 (B, C, H, W) until they are normalised. The recipe is DyTox's for images of CIFAR's size: a random
crop after zero padding, a horizontal flip, RandAugment; PODNet's and DER's jitter of the brightness or RPS-Net's
rotation can come instead.
Cutout can come last, after any of them.
Every draw is a function of (key, position of the draw in the epoch), so that the result for an image depends neither on
its batch nor on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.data.augmentation import cutout, geometric, operations, photometric, randaugment, variants
from cl_lightning.data.augmentation.randaugment import RandAugment

LEVELS_AT_A_TIME = 1 << 21
"""Largest number of pixels at a time on a CPU: intermediate results of more leave the caches and the allocator's
reach.
"""

__all__ = ["Augmentation", "PerDataset", "RandAugment", "augment", "augment_per_dataset", "normalise"]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of a training image, in this order; the default leaves it unchanged.

    Raises ``ValueError`` for values outside the ranges given below.
    """

    crop_padding: int = 0
    """Black pixels added on each side before a random crop of the original size; 4 for images of CIFAR's size."""
    flip: bool = False
    """Mirror left and right with probability 1/2."""
    brightness: float = 0.0
    """Multiply levels by a factor uniform in [1 - b, 1 + b], 0 <= b <= 1; 63/255 in PODNet's and DER's recipes."""
    rotation: float = 0.0
    """Turn by an angle uniform in [-r, r] degrees, 0 <= r <= 180, corners black; 10 in RPS-Net's recipe."""
    randaugment: RandAugment | None = None
    variants: bool = False
    """End-to-End's variants (``variants.py``), in place of crop and flip."""
    cutout: int = 0
    """Side of a square that becomes black, in pixels; 16 in DKT's recipe. 0: none."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for values that could only fail while training."""
        if not isinstance(self.crop_padding, int) or self.crop_padding < 0:
            reason = "must be a whole number of pixels, 0 or more"
            raise InvalidSettingError("crop_padding", self.crop_padding, reason, 4)
        if not 0 <= self.brightness <= 1:
            raise InvalidSettingError("brightness", self.brightness, "is not in [0, 1]", "63/255, the published one")
        if not 0 <= self.rotation <= 180:
            raise InvalidSettingError("rotation", self.rotation, "is no angle in [0, 180]", "10, the published one")
        if not isinstance(self.cutout, int) or self.cutout < 0:
            raise InvalidSettingError("cutout", self.cutout, "must be a whole number of pixels, 0 or more", 16)


@dataclass(frozen=True, eq=False)
class PerDataset:
    """Augmentations of several data sets that follow one another."""

    each: tuple[Augmentation | None, ...]
    """Augmentation of each set; ``None``: its images stay clean."""
    set_of_class: Tensor
    """(classes,) int64, on the host: index of the set, by global label."""

    def of(self, label: int) -> Augmentation | None:
        """Return the augmentation of images of this class."""
        return self.each[int(self.set_of_class[label])]


def augment_per_dataset(
    images: Tensor, by_set: PerDataset, key: rng.Key, positions: Tensor, labels: Tensor, copies: int = 1
) -> Tensor:
    """Augment each image (:func:`augment`) as the data set of its class; ``labels`` (B,) are on the host. The result
    for an image does not depend on the others in its batch.
    """
    set_B = by_set.set_of_class[labels]
    present = set_B.unique().tolist()
    if len(present) == 1:  # as in all batches of a task that uses its own images alone
        only = by_set.each[present[0]]
        return images if only is None else augment(images, only, key, positions, copies)
    changed = images.clone()
    for index in present:
        augmentation, rows = by_set.each[index], torch.nonzero(set_B == index).flatten()
        if augmentation is None:
            continue
        chosen = rows.to(images.device, non_blocking=True)
        changed[chosen] = augment(images[chosen], augmentation, key, positions.cpu()[rows], copies)
    return changed


def augment(images: Tensor, augmentation: Augmentation, key: rng.Key, positions: Tensor, copies: int = 1) -> Tensor:
    """Return randomly changed copies of uint8 images (B, C, H, W), on their device.

    ``positions`` (B,) are the draws' positions in the epoch. They may be on any device, but the draws are made on
    the host: positions that are already there save the only wait for the device. With several ``copies`` of an image in
    an epoch they are ``row * copies + copy`` (``StepIndices.copies``).
    Raises ``ValueError`` if the images are not uint8, or if RandAugment meets images of neither 3 nor 1 channel.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"augment takes uint8 images, not {images.dtype}: augment before normalise")
    if augmentation.randaugment is not None and images.shape[1] not in (1, 3):
        reason = f"takes colour or grey images, not {images.shape[1]} channels"
        raise InvalidSettingError("augmentation", "randaugment", reason, "basic")
    assert positions.shape == images.shape[:1], "one position an image"
    size = LEVELS_AT_A_TIME // math.prod(images.shape[1:]) if images.device.type == "cpu" else len(images)
    size = max(1, size)
    positions = positions.cpu()
    with torch.inference_mode():  # the cheapest dispatch: small images spend most of their time in it
        changed = [
            _changed(part, augmentation, key, where, copies)
            for part, where in zip(images.split(size), positions.split(size), strict=True)
        ]
    return torch.cat(changed)  # an ordinary tensor again


def _changed(images: Tensor, augmentation: Augmentation, key: rng.Key, positions: Tensor, copies: int) -> Tensor:
    if augmentation.variants:
        padding, flip = augmentation.crop_padding, augmentation.flip
        drawn = variants.draw(key.fold("variants"), positions, copies, padding=padding, flip=flip)
        images = variants.apply(images, drawn, padding)
    elif augmentation.crop_padding or augmentation.flip:
        images = _window(images, augmentation, key.fold("window"), positions)
    if augmentation.brightness:
        images = _jitter(images, augmentation.brightness, key.fold("brightness"), positions)
    if augmentation.rotation:
        images = _turn(images, augmentation.rotation, key.fold("rotation"), positions)
    policy = augmentation.randaugment
    if policy is not None:
        choices = randaugment.draw(policy, key.fold("randaugment"), positions)
        for operation, argument in zip(choices.operations, choices.arguments, strict=True):
            images = operations.apply(images, operation, argument, policy.fill)
    if augmentation.cutout:
        centres = cutout.draw(key.fold("cutout"), positions, *images.shape[2:])
        images = cutout.black_out(images, centres, augmentation.cutout)
    return images


def _window(images: Tensor, augmentation: Augmentation, key: rng.Key, positions: Tensor) -> Tensor:
    """Crop and flip by one gather: both only change the source of a pixel."""
    channels, height, width = images.shape[1:]
    padding = augmentation.crop_padding
    top, left, mirrored = rng.uniform(key, positions, torch.arange(3)[:, None])[..., None]
    rows = torch.arange(height) + (top * (2 * padding + 1)).to(torch.int64)
    columns = torch.arange(width)
    if augmentation.flip:
        columns = torch.where(mirrored < 0.5, width - 1 - columns, columns)
    columns = columns + (left * (2 * padding + 1)).to(torch.int64)
    padded = functional.pad(images, (padding,) * 4)
    starts = (rows * padded.shape[3]).to(images.device, non_blocking=True)
    indices = (starts[:, :, None] + columns.to(images.device, non_blocking=True)[:, None]).flatten(1)
    return padded.flatten(2).gather(2, indices[:, None].expand(-1, channels, -1)).view_as(images)


def _jitter(images: Tensor, strength: float, key: rng.Key, positions: Tensor) -> Tensor:
    factors = 1 + strength * (2 * rng.uniform(key, positions) - 1)
    return photometric.blend(photometric.black(images), images, factors.to(images.device, non_blocking=True))


def _turn(images: Tensor, most: float, key: rng.Key, positions: Tensor) -> Tensor:
    degrees = most * (2 * rng.uniform(key, positions).double() - 1)
    fill = torch.zeros(images.shape[1], 1, 1, dtype=torch.uint8, device=images.device)
    return geometric.rotate(images, degrees.to(images.device, non_blocking=True), fill)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return ``(level / 255 - mean) / std`` for each channel: uint8 (B, C, H, W) -> float32.

    One product and one difference, with constants rounded once, so that devices agree. Raises ``ValueError`` if the
    constants are not one for each channel or a deviation is not positive.
    """
    channels = images.shape[1]
    if not len(mean) == len(std) == channels or min(std) <= 0:
        reason = f"and std={list(std)} must be {channels} numbers each, std above 0"
        grey = f"[{','.join(['0.5'] * channels)}]", f"[{','.join(['0.25'] * channels)}]"
        raise InvalidSettingError("mean", list(mean), reason, {"mean": grey[0], "std": grey[1]})
    scale = torch.tensor([1 / (255 * deviation) for deviation in std], dtype=torch.float32)
    shift = torch.tensor([centre / deviation for centre, deviation in zip(mean, std, strict=True)], dtype=torch.float32)
    scale = scale.to(images.device, non_blocking=True)[:, None, None]
    shift = shift.to(images.device, non_blocking=True)[:, None, None]
    return (images * scale).sub_(shift)
