"""Image formats that are read, wherever a picture of the user's is opened; all others are refused.

Pillow knows many more. Some of them start other programs (EPS), belong to one system (WMF) or are documents rather than
pictures (PDF), and none of those is a photograph.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

FORMATS = (
    "JPEG",  # MPO, of phones that take several pictures at once, is opened as JPEG
    "PNG",
    "BMP",
    "GIF",
    "JPEG2000",
    "PPM",
    "TIFF",
    *(["WEBP"] if features.check("webp") else []),
    *(["AVIF"] if features.check("avif") else []),
)
"""Pillow's names, for ``Image.open(formats=...)``. Only the first picture of a file is read."""

_SUFFIXES = {
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
    "JPEG": ".jfif .jpe .jpeg .jpg .mpo",
    "JPEG2000": ".j2k .jp2 .jpf .jpx",
    "PNG": ".apng .png",
    "PPM": ".pbm .pgm .pnm .ppm",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
}
EXTENSIONS = tuple(sorted(suffix for name in FORMATS for suffix in _SUFFIXES[name].split()))
"""Suffixes, in any mixture of upper and lower case, that are trusted: such a file is an image, and one that does not
decode is a broken image. The content of other files decides (:func:`is_image`).
"""
OLD_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of images before the content of files was examined (``data.files=by_suffix``)."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transposition that turns the picture upright; 1 is upright."""


MAX_PIXELS = 100_000_000
"""Default limit on the pixels of a decoded picture: ten thousand by ten thousand."""


class TooLargeError(ValueError):
    """A picture with more pixels than may be decoded."""

    def __init__(self, pixels: int, limit: int) -> None:
        super().__init__(f"{pixels} pixels, more than max_pixels={limit}")
        self.pixels = pixels


def open_image(file: str | Path | IO[bytes], max_pixels: int | None = MAX_PIXELS) -> Image.Image:
    """Open a file as ``PIL.Image.open`` does, for :data:`FORMATS` alone: only its header is read.

    Raises ``TooLargeError`` for more than ``max_pixels``; None sets no limit. It replaces Pillow's own limit, which
    holds for the whole process and warns from half of it on.
    """
    Image.MAX_IMAGE_PIXELS = None
    image = Image.open(file, formats=FORMATS)
    pixels = max(image.width * image.height, _tile_pixels(image))
    if max_pixels is not None and pixels > max_pixels:
        image.close()
        raise TooLargeError(pixels, max_pixels)
    return image


def _tile_pixels(image: Image.Image) -> int:
    """Return the pixels of a TIFF's tile, for which its decoder allocates memory whatever the picture's size; else
    0.
    """
    if not isinstance(image, TiffImageFile):
        return 0
    width, length = (image.tag_v2.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH))
    return int(width) * int(length) if isinstance(width, int) and isinstance(length, int) else 0


def suffix(path: str) -> str:
    """Return the suffix of a file's name, in lower case, with its dot; empty if it has none."""
    stem, dot, end = path.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def is_image(path: str | Path) -> bool:
    """Return True if a file begins as an image of :data:`FORMATS` does, whatever its name. Its end may be missing.

    Raises OSError for a file that may not be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of the picture are reported when it is decoded
        try:
            open_image(path, None).close()
        except UnidentifiedImageError:
            return False
        except OSError as error:
            if error.errno is not None:
                raise
            return False
        except Exception:  # Pillow's readers raise almost anything
            return False
    return True


def upright(picture: Image.Image, file: Image.Image) -> Image.Image:
    """Return ``picture``, decoded from the opened ``file``, turned as its EXIF orientation says.

    Pillow itself has turned a TIFF by then, and removed its tag.
    """
    try:
        turn = _TURNS.get(file.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata: the picture is whole all the same
        return picture
    return picture if turn is None else picture.transpose(turn)
