"""List of a run's images in a file of its folder, by which later differences can be reported by name.

``images.csv.gz`` has a line for each image: part, key, class and the first half of its content's digest. The whole
digests in checkpoints decide if images are the same; without the file only the names are missing.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from cl_lightning.core.atomic_write import replace_file
from cl_lightning.core.csv_cells import cell, line_of, text_of
from cl_lightning.core.file_type import read_file
from cl_lightning.data.scenarios.image_identity import WORDS, entries, parts, shown_key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ImageSource
from cl_lightning.data.sources.content_digest import as_hex

log = logging.getLogger(__name__)

LISTING = "images.csv.gz"
Listing = Mapping[str, Mapping[str, tuple[str, str]]]
"""Part -> key -> class and digest."""

_HEAD = ["part", "key", "class", "digest"]
_DIGITS = 16
_GROWTH, _LEAST_ROOM = 200, 1 << 20
"""Digests do not compress, so a line takes at least eight bytes: no unpacked list is larger than this ratio allows."""
_SHOWN = 3


def listing_of(scenario: Scenario) -> Listing:
    """Return the list of all images of a scenario."""
    return {
        part: {key: (class_name, content[:_DIGITS]) for key, class_name, content in entries(source, rows)}
        for part, (source, rows) in parts(scenario).items()
    }


def merged(first: Listing, second: Listing) -> Listing:
    """Return the union of two lists; for an image in both, the entry of the first."""
    return {part: {**second.get(part, {}), **first.get(part, {})} for part in WORDS if part in first or part in second}


def write_listing(file: Path, listing: Listing) -> None:
    """Write a list; equal lists make equal files. Raises ``OSError`` if there is no space or no right to write."""

    def write(stream: BinaryIO) -> None:
        with (
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as packed,
            io.TextIOWrapper(packed, "utf-8", "surrogatepass", newline="") as text,
        ):
            text.write(line_of(_HEAD))
            for part, own in listing.items():
                text.writelines(line_of([part, *map(cell, (key, *value))]) for key, value in own.items())

    replace_file(file, write)


def read_listing(file: Path) -> Listing | None:
    """Return the list of a file; None if the file is missing or, with a warning, damaged."""
    try:
        return parse_listing(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): images that differ cannot be named", file, error)
        return None


def parse_listing(file: Path) -> Listing:
    """Return the list of a file. Raises ``ValueError`` for a file that :func:`write_listing` did not write, also for
    one that would unpack without end, and ``OSError`` if it cannot be read.
    """
    most = _LEAST_ROOM + _GROWTH * file.stat().st_size
    try:
        with gzip.open(io.BytesIO(read_file(file)), "rb") as packed:
            content = packed.read(most + 1)
        if len(content) > most:
            raise ValueError("it would grow far beyond what a listing of images is")
        head, *lines = csv.reader(io.StringIO(content.decode("utf-8", "surrogatepass"), newline=""))
        if head != _HEAD or any(len(line) != len(_HEAD) for line in lines):
            raise ValueError(f"its lines are not {','.join(_HEAD)}")
    except (gzip.BadGzipFile, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise ValueError(f"{file.name} is not what was written ({error})") from error
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for part, key, class_name, content_digest in lines:
        found.setdefault(part, {})[text_of(key)] = text_of(class_name), content_digest
    return found


def how_it_differs(files: Sequence[Path], now: Scenario, task: int | None = None, only: str | None = None) -> str:
    """Describe the images in which a data set differs from its former state; empty if those are unknown.

    Args:
        files: possible paths of the run's list.
        now: the data set, or the folder that was learnt as ``task`` (from 1), in its present state.
        task: see there; it is the prefix of the run's keys of its images.
        only: a single part.
    """
    before = next((one for file in files if (one := read_listing(file)) is not None), None)
    if before is None:
        return ""
    found = {part: own for part, own in listing_of(now).items() if only in (None, part)}
    prefix = "" if task is None else f"+{task}/"
    own = {
        part: {key.removeprefix(prefix): value for key, value in before.get(part, {}).items() if _is_of(key, prefix)}
        for part in found
    }
    return differences(own, found, lambda part, key: shown_key(now, part, key))


def is_listed(listing: Listing | None, source: ImageSource, key: int | str) -> bool:
    """Return True if a training image has the content that a list states."""
    found = (listing or {}).get("train", {}).get(str(key))
    row = source.row(key)
    return found is not None and found[1] == as_hex(source.contents[row : row + 1])[0][:_DIGITS]


def _is_of(key: str, prefix: str) -> bool:
    return key.startswith(prefix) if prefix else _OF_A_FOLDER.match(key) is None


_OF_A_FOLDER = re.compile(r"\+\d+/")
"""Prefix of the keys of images of an added task, see :mod:`~cl_lightning.data.scenarios.added_task`."""


def differences(before: Listing, now: Listing, shown: Callable[[str, str], str]) -> str:
    """Describe the images in which two lists differ; empty if in none. ``shown`` formats part and key.

    >>> one = {"test": {"a.png": ("cat", "00"), "b.png": ("cat", "01")}}
    >>> differences(one, {"test": {"a.png": ("cat", "02"), "c.png": ("cat", "01")}}, lambda part, key: f"{part}/{key}")
    '1 of 2 test images changed: test/a.png; 1 gone: test/b.png; 1 new: test/c.png'
    """
    changes = (_of_part(part, before.get(part, {}), now.get(part, {}), shown) for part in WORDS)
    return "; ".join(filter(None, changes))


def _of_part(
    part: str,
    before: Mapping[str, tuple[str, str]],
    now: Mapping[str, tuple[str, str]],
    shown: Callable[[str, str], str],
) -> str:
    kinds = {
        "changed": [key for key, value in before.items() if key in now and now[key] != value],
        "gone": [key for key in before if key not in now],
        "new": [key for key in now if key not in before],
    }
    changes = [
        (f"{len(keys)} of {len(before)} {WORDS[part]} images {kind}", f"{len(keys)} {kind}", keys)
        if kind != "new"
        else (f"{len(keys)} new beside {len(before)} {WORDS[part]} images", f"{len(keys)} new", keys)
        for kind, keys in kinds.items()
        if keys
    ]
    return "; ".join(
        f"{later if index else first}: {named([shown(part, key) for key in keys])}"
        for index, (first, later, keys) in enumerate(changes)
    )


def named(names: list[str]) -> str:
    """Return the first few names, and the number of the others."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
