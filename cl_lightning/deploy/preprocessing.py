"""Preprocessing of an image file for a trained network, as in the evaluation of its run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core.errors import UnreadableImageError
from cl_lightning.core.types import Plain
from cl_lightning.data.augmentation.pipeline import normalise
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.sources.class_folders import BY_SUFFIX
from cl_lightning.data.sources.decoding import centre, decode, reason, squashed
from cl_lightning.data.sources.image_formats import MAX_PIXELS, TooLargeError


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing: decode to RGB (alpha is dropped, sixteen bits become eight), apply the EXIF orientation where
    training did, scale the short side and crop the central square (or scale the whole), take the luma where there is
    one channel, resize where the network sees another size than that of stored images, normalise.
    """

    image_size: int
    """Side of the square that is read, in pixels."""
    short_side: int
    """Length of the scaled short side, in pixels: 256/224 of ``image_size`` for a data set in files, ``image_size``
    for one of small images of one size.
    """
    channels: int
    """3: RGB; 1: luma (ITU-R 601)."""
    mean: tuple[float, ...]
    """Mean of each channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    orientation: str = "ignore"
    """EXIF orientation: ``apply`` or ``ignore``; models of exports without this key were trained without it."""
    files: str = BY_SUFFIX
    """Rule for the files of a folder that are images, ``any`` or ``by_suffix``, as for the run's own data."""
    max_pixels: int = MAX_PIXELS
    """Limit to the pixels of an image that is decoded."""
    whole: bool = False
    """True: the whole picture becomes the square, whatever its sides, and ``short_side`` is not used."""
    interpolation: str = "bicubic"
    """Way of scaling a picture to the square: ``bicubic`` or ``bilinear``."""
    resize: Resize | None = None
    """Resizing of that square, for a network that sees stored images at another size; None: it sees the square."""

    @property
    def network_size(self) -> int:
        """Side of the square that the network sees, in pixels."""
        return self.image_size if self.resize is None else self.resize.size

    def read(self, path: Path) -> Tensor:
        """Return (channels, side, side) uint8. Raises ``UnreadableImageError``."""
        try:
            image = decode(path, turned=self.orientation == "apply", max_pixels=self.max_pixels)
            pixels = torch.from_numpy(np.array(self._square(image).convert("RGB" if self.channels == 3 else "L")))
            return pixels.reshape(self.image_size, self.image_size, self.channels).permute(2, 0, 1).contiguous()
        except TooLargeError as error:
            larger = {"max_pixels": f"{error.pixels} to read it"}
            raise UnreadableImageError(path, f": {error}", allowed=larger) from error
        except OSError as error:
            why = error.strerror if error.errno is not None and error.strerror else reason(error)
            raise UnreadableImageError(path, ": " + why.replace(f" {str(path)!r}", "")) from error
        except Exception as error:  # Pillow's readers raise almost anything
            raise UnreadableImageError(path, f": {reason(error)}") from error

    def _square(self, image: Image.Image) -> Image.Image:
        if self.whole:
            return squashed(image, self.image_size, self.interpolation)
        return centre(image, self.image_size, self.short_side, self.interpolation)

    def normalised(self, images: Tensor) -> Tensor:
        """Return float32 (B, channels, side, side) as the network sees the uint8 ``images`` that were read, on their
        device.
        """
        return normalise(images if self.resize is None else self.resize(images), self.mean, self.std)

    def to_plain(self) -> dict[str, Plain]:
        """Return plain values for ``model.json``."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_plain(plain: dict[str, Plain]) -> Preprocessing:
        """Invert :meth:`to_plain`."""
        resize = None if plain.get("resize") is None else Resize(**plain["resize"])
        return Preprocessing(**{**plain, "mean": tuple(plain["mean"]), "std": tuple(plain["std"]), "resize": resize})
