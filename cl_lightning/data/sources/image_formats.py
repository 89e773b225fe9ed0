"""Which files are images: the formats that are read, wherever a picture of the user's is opened, and no others.

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
"""Pillow's names, for ``Image.open(formats=...)``. Of several pictures in a file, the first is read."""

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
"""Suffixes, in any mixture of upper and lower case, that are taken at their word: such a file is an image, and one that
does not decode is a broken image. Files of other names are looked into (:func:`is_image`).
"""
OLD_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What alone counted as an image before files were looked into (``data.files=by_suffix``)."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what brings the picture upright; 1 is upright."""


MAX_PIXELS = 100_000_000
"""Of a picture that is decoded, where nothing else is said: ten thousand by ten thousand."""


class TooLargeError(ValueError):
    """A picture of more pixels than may be decoded."""

    def __init__(self, pixels: int, limit: int) -> None:
        super().__init__(f"{pixels} pixels, more than max_pixels={limit}")
        self.pixels = pixels


def open_image(file: str | Path | IO[bytes], max_pixels: int | None = MAX_PIXELS) -> Image.Image:
    """``PIL.Image.open``, of :data:`FORMATS` alone: what its header says of the picture, which is not decoded yet.

    Raises ``TooLargeError`` for more than ``max_pixels``; None looks at no number. It takes the place of Pillow's own
    limit, which is of the whole process and warns from half of it on.
    """
    Image.MAX_IMAGE_PIXELS = None
    image = Image.open(file, formats=FORMATS)
    pixels = max(image.width * image.height, _tile_pixels(image))
    if max_pixels is not None and pixels > max_pixels:
        image.close()
        raise TooLargeError(pixels, max_pixels)
    return image


def _tile_pixels(image: Image.Image) -> int:
    """Of a tile of a TIFF, which its decoder makes room for whatever the size of the picture; 0 of other pictures."""
    if not isinstance(image, TiffImageFile):
        return 0
    width, length = (image.tag_v2.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH))
    return int(width) * int(length) if isinstance(width, int) and isinstance(length, int) else 0


def suffix(path: str) -> str:
    """Of the name of a file, in lower case, with its dot; empty if it has none."""
    stem, dot, end = path.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def is_image(path: str | Path) -> bool:
    """Return whether a file begins as an image of :data:`FORMATS` does, whatever it is called. Its end may be missing.

    Raises OSError for a file that may not be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about the picture is told when it is decoded
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
    """``picture``, which was decoded from the opened ``file``, as its EXIF orientation wants it shown.

    A TIFF has been turned by Pillow itself by then, which takes its tag away.
    """
    try:
        turn = _TURNS.get(file.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata: the picture is whole all the same
        return picture
    return picture if turn is None else picture.transpose(turn)
