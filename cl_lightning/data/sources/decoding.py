"""Decoding of one picture: from a file to cropped and scaled grey levels.

Random crops follow Szegedy et al. 2015 (the "Inception crop", as torchvision and timm draw it), with every draw a pure
function of the key of the random stream and of the image's position in the epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core.rng import Key, uniform
from cl_lightning.data.sources.image_formats import MAX_PIXELS, open_image, upright

_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
_CROP_TRIES = 10
_MOST_SCALED = 1 << 28
"""Largest number of pixels of a scaled image: a strip of one pixel's width would otherwise fill the memory."""


_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Scaling:
    """The way from a picture to a square of pixels."""

    whole: bool = False
    """True: the whole picture is scaled to the square, whatever its sides; False: a crop is."""
    crop_share: float = 224 / 256
    """Side of the central square that is evaluated, over the scaled short side; in (0, 1]."""
    interpolation: str = "bicubic"
    """``bicubic`` or ``bilinear``; shrinking smooths first."""

    def short_side(self, size: int) -> int:
        """Return the length to which the short side of a file is scaled before its centre of ``size`` pixels is
        evaluated; cut down, not rounded, as timm does.
        """
        return int(size / self.crop_share)


USUAL = Scaling()
"""Scaling of files: 256/224, bicubically."""


def resized(pixels: Tensor, size: int, interpolation: str = "bicubic") -> Tensor:
    """Return (C, size, size) uint8 of an image (C, H, W) uint8; shrinking smooths first.

    Pillow computes it in whole numbers, one image at a time: no batch, device or machine changes a level.
    """
    if pixels.shape[1:] == (size, size):
        return pixels
    planes = [squashed(Image.fromarray(plane.numpy()), size, interpolation) for plane in pixels]
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])


def squashed(image: Image.Image, size: int, interpolation: str = "bicubic") -> Image.Image:
    """Return the whole image, scaled to a square of ``size`` pixels."""
    return image.resize((size, size), _FILTERS[interpolation])


def decode(path: Path | BinaryIO, *, turned: bool = False, max_pixels: int | None = MAX_PIXELS) -> Image.Image:
    """Return the whole picture of a file, or of its bytes, in RGB, ``turned`` upright as its EXIF orientation says.
    Depending on format and damage, Pillow's readers raise almost anything; ``TooLargeError`` is raised before anything
    is decoded.
    """
    with open_image(path, max_pixels) as image:
        picture = _to_rgb(image)
        return upright(picture, image) if turned else picture


def centre(image: Image.Image, size: int, short: int, interpolation: str = "bicubic") -> Image.Image:
    """Return the central square of ``size`` pixels, after the short side was scaled to ``short``."""
    width, height = image.size
    # The long side is cut down, not rounded, as torchvision does.
    scaled = (short, short * height // width) if width <= height else (short * width // height, short)
    if scaled[0] * scaled[1] > _MOST_SCALED:
        raise ValueError(f"{width} x {height} pixels are too long a strip to be scaled to {short}")
    image = image.resize(scaled, _FILTERS[interpolation])
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def reason(error: Exception) -> str:
    """Return the first line of an exception's message, or else its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def random_crop(width: int, height: int, key: Key, position: int) -> tuple[int, int, int, int]:
    """Return a random box (left, top, right, bottom) inside a ``width`` x ``height`` image.

    Its share of the area is uniform in [0.08, 1], the logarithm of its aspect ratio uniform between those of 3/4 and
    4/3, its position uniform. A box that does not fit is drawn again; after ten tries, the largest central box with an
    admissible ratio is taken. Try k uses slots 4k to 4k + 3 of the stream ``key.fold("crop")``.
    """
    slots = torch.arange(4 * _CROP_TRIES)
    draws = uniform(key.fold("crop"), torch.tensor([position]), slots).view(_CROP_TRIES, 4)
    low, high = (math.log(ratio) for ratio in _CROP_RATIO)
    for area, shape, across, down in draws.tolist():
        target = width * height * (_CROP_AREA[0] + (_CROP_AREA[1] - _CROP_AREA[0]) * area)
        ratio = math.exp(low + (high - low) * shape)
        box_width, box_height = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = int(across * (width - box_width + 1)), int(down * (height - box_height + 1))
            return left, top, left + box_width, top + box_height
    return central_crop(width, height)


def central_crop(width: int, height: int) -> tuple[int, int, int, int]:
    """Return the largest box (left, top, right, bottom) in the centre whose ratio a random crop may have."""
    box_width = min(width, round(height * _CROP_RATIO[1]))
    box_height = min(height, round(width / _CROP_RATIO[0]))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip sixteen bits to eight: nearly everything white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range; save it with 8 or 16 bits per channel")
    if "transparency" in image.info:
        # Same colours, without Pillow's warning about palettes with several transparent entries.
        image = image.convert("RGBA")
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """Return (channels, height, width) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
