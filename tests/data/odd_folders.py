"""A maker of folders with everything that users' folders hold beside plain images.

:data:`ODDITIES` has a line for each: where it lies, how it is made, and what is to become of it. Paths begin in the
data root; ``CLASS`` stands for the folder of the class that has it.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PLAIN = 2
"""Plain images of each class that is made."""


@dataclass(frozen=True)
class Oddity:
    """Something in a folder of data."""

    path: str
    make: Callable[[Path], object]
    images: int = 0
    """That it adds to its class."""
    kind: str | None = None
    """As what it is left out."""


def picture(form: str = "PNG", side: int = 9, **options: object) -> bytes:
    """A file of noise; the same for the same arguments."""
    pixels = np.random.RandomState(side).randint(0, 256, (side, side + 3, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def file(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def empty_folder(path: Path) -> None:
    path.mkdir()


def link(target: str) -> Callable[[Path], object]:
    return lambda path: os.symlink(target, path)


PNG = file(picture())
TEXT = file(b"a text")

ODDITIES = (
    Oddity("CLASS/anim.gif", file(picture("GIF")), images=1),
    Oddity("CLASS/web.jfif", file(picture("JPEG")), images=1),
    Oddity("CLASS/new.avif", file(picture("AVIF")), images=1),
    Oddity("CLASS/map.jp2", file(picture("JPEG2000")), images=1),
    Oddity("CLASS/phone.mpo", file(picture("MPO")), images=1),
    Oddity("CLASS/scan.TIF", file(picture("TIFF")), images=1),
    Oddity("CLASS/0a1b2c3d", file(picture("JPEG")), images=1),
    Oddity("CLASS/photo.jpg.1", file(picture("JPEG")), images=1),
    Oddity("CLASS/photo.jpeg_large", file(picture("JPEG")), images=1),
    Oddity("CLASS/caf\u00e9.png", PNG, images=1),
    Oddity("CLASS/cafe\u0301 2.png", PNG, images=1),
    Oddity("CLASS/more/1.png", PNG, images=1),
    Oddity("CLASS/more/deep/2", PNG, images=1),
    Oddity("CLASS/here.png", link("0.png"), images=1),
    Oddity("CLASS/gone.png", link("nowhere.png"), kind="dangling links"),
    Oddity("CLASS/loop", link("."), kind="links to a folder above"),
    Oddity("CLASS/pipe.png", os.mkfifo, kind="special files"),
    Oddity("CLASS/empty", empty_folder, kind="empty folders"),
    Oddity("CLASS/notes.txt", TEXT, kind=".txt files"),
    Oddity("CLASS/0.json", file(b"{}"), kind=".json files"),
    Oddity("CLASS/LICENSE", TEXT, kind="files without a suffix"),
    Oddity("CLASS/figure.eps", file(picture("EPS")), kind=".eps files"),
    Oddity("CLASS/page.pdf", file(picture("PDF")), kind=".pdf files"),
    Oddity("CLASS/live.heic", file(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic"), kind=".heic files"),
    Oddity("CLASS/.hidden.png", PNG, kind="hidden files"),
    Oddity("CLASS/.thumbnails/0.png", PNG, kind="hidden folders"),
    Oddity("CLASS/._0.png", file(b"\0\5\x16\7"), kind="AppleDouble files"),
    Oddity("CLASS/@eaDir/0.png", PNG, kind="system folders"),
    Oddity("CLASS/.DS_Store", TEXT, kind="system files"),
    Oddity("CLASS/Thumbs.db", TEXT, kind="system files"),
    Oddity("CLASS/desktop.ini", TEXT, kind="system files"),
    Oddity("__MACOSX/cat/._0.png", TEXT, kind="system folders"),
    Oddity("README.md", TEXT, kind=".md files"),
    Oddity("cover.png", PNG, kind="images beside class folders"),
)


def make_folder(
    root: Path, classes: Iterable[str] = ("cat", "dog"), oddities: Iterable[Oddity] = ODDITIES, *, plain: int = PLAIN
) -> Path:
    """Class folders with ``plain`` images each; the first one has the oddities too."""
    classes = list(classes)
    for number, name in enumerate(classes):
        for image in range(plain):
            path = root / name / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(side=7 + number + 20 * image))
    for oddity in oddities:
        path = root / oddity.path.replace("CLASS", classes[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        oddity.make(path)
    return root


def images_of(oddities: Iterable[Oddity] = ODDITIES) -> int:
    """Images that they add to the first class."""
    return sum(oddity.images for oddity in oddities)


def kinds_of(oddities: Iterable[Oddity] = ODDITIES) -> Counter[str]:
    """Return what is left out of them, by kind; system files, which only the log has, are not among it."""
    return Counter(oddity.kind for oddity in oddities if oddity.kind not in (None, "system files"))
