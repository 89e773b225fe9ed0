"""The images that timm's trained weights expect, by name and without a download.

Weights were trained on images of one size, normalised by one mean and deviation; features of other images are worse
for no reason that a curve would show.
"""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.timm_names import pretrained_config


@dataclass(frozen=True)
class ExpectedPreprocessing:
    """The preprocessing with which timm evaluates a network's trained weights."""

    size: int
    """Side of the square image, in pixels."""
    crop_share: float
    """Side of the central square over the scaled short side: 0.875 is 224 of 256 pixels. Above 1 the square is larger
    than the image, which timm then pads.
    """
    interpolation: str
    """Way of scaling pixels: ``bicubic`` or ``bilinear``."""
    mean: tuple[float, ...]
    """Mean of each channel (red, green, blue), of pixels in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel."""


def expected_preprocessing(name: str) -> ExpectedPreprocessing:
    """Return the preprocessing for the weights of ``name``, those of its tag or timm's default ones.

    Raises ``ValueError`` for a name that timm does not know, and for one of images that are no squares.
    """
    from timm.data.config import resolve_data_config

    given = resolve_data_config({}, pretrained_cfg=pretrained_config(name).to_dict())
    _, height, width = given["input_size"]
    if height != width:
        raise InvalidSettingError("name", name, f"is for images of {height} x {width} pixels, not for squares")
    return ExpectedPreprocessing(
        size=int(width),
        crop_share=float(given["crop_pct"]),
        interpolation=str(given["interpolation"]),
        mean=tuple(map(float, given["mean"])),
        std=tuple(map(float, given["std"])),
    )
