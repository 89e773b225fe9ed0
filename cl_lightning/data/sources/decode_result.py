"""Decode result of an image file: the digest of its bytes, and whether they decode; with the stamp by which a later run
sees whether the file is still the same.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import NamedTuple

from cl_lightning.data.sources.content_digest import DIGEST_SIZE, digest
from cl_lightning.data.sources.decoding import decode, reason
from cl_lightning.data.sources.image_formats import TooLargeError, open_image

_WITHOUT_FILE = re.compile(r" <_io\.BytesIO object at 0x[0-9a-f]+>")
"""Name of Pillow's input in its messages, removed since the message names the file anyway."""


class Stamp(NamedTuple):
    """Size and times of a file. A program that replaces a file and resets its mtime cannot reset ``changed``."""

    size: int
    """Bytes."""
    modified: int
    """Time of the last change of its content (mtime), in nanoseconds."""
    changed: int
    """Time of the last change of content or status (ctime), in nanoseconds."""


class DecodeResult(NamedTuple):
    """Result of reading and decoding a file."""

    stamp: Stamp
    digest: bytes
    """Digest of its bytes (:func:`~cl_lightning.data.sources.content_digest.digest`); zeros if they could not be
    read.
    """
    broken: str | None
    """Reason why it does not decode; None if it does."""
    pixels: int = 0
    """Number of pixels of the picture; 0 if unknown."""
    lasting: bool = True
    """True if the result holds as long as the file stays the same. An error of a disk or a permission may end without a
    trace in the file.
    """


def stamp_of(file: str) -> Stamp | None:
    """Return the stamp of a file, None if there is none to read."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def decode_file(file: str, before: DecodeResult | None, max_pixels: int) -> DecodeResult:
    """Return the result of a file. Bytes that are the same as ``before`` decode as they did."""
    # Taken before reading: a file that changes meanwhile is read again.
    stamp = stamp_of(file) or Stamp(0, 0, 0)
    if before is not None and before.stamp == stamp:
        return _measured(file, before)
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        return DecodeResult(stamp, bytes(DIGEST_SIZE), error.strerror or str(error), lasting=False)
    taken = digest(content)
    if before is not None and before.digest == taken:
        return _measured(file, before._replace(stamp=stamp))
    try:
        picture = decode(io.BytesIO(content), max_pixels=max_pixels)
    except MemoryError:
        raise
    except TooLargeError as error:  # another run may allow more: then it is decoded
        return DecodeResult(stamp, taken, str(error), error.pixels, lasting=False)
    except Exception as error:
        return DecodeResult(stamp, taken, _WITHOUT_FILE.sub("", reason(error)))
    return DecodeResult(stamp, taken, None, picture.width * picture.height)


def _measured(file: str, found: DecodeResult) -> DecodeResult:
    """Add the number of pixels, which earlier versions lack, to the result of unchanged bytes."""
    if found.broken is not None or found.pixels:
        return found
    try:
        with open_image(file, None) as image:
            return found._replace(pixels=image.width * image.height)
    except Exception as error:  # it did decode: the disk or a permission
        return found._replace(broken=reason(error), lasting=False)
