"""One file that holds other files: a zip archive without compression, whose list of contents has a checksum of each.

What is read has been checked before anything is written, and goes to names that this module knows: no path in a file
can lead out of the folder that it is unpacked into, and nothing grows while it is unpacked.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cl_lightning.atomic import replace_file
from cl_lightning.file_kind import foreign_kind

FORMAT = 1
CONTENTS = "bundle.json"
_KIND = "cl_lightning run"
_NAMES = re.compile(
    r"config\.yaml|results\.json|accuracy_matrix\.csv|images\.csv\.gz|state\.json|state\.safetensors"
    r"|exemplars/(index\.json|pixels\.safetensors|files/\d{6,}(\.[a-z0-9]+)?)"
)
_TIME = (1980, 1, 1, 0, 0, 0)  # equal runs make equal files
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Item:
    """A file to pack: its name in the archive, and its bytes or where they are."""

    name: str
    content: bytes | Path


def pack(file: Path, items: Iterable[Item]) -> int:
    """Write the archive, whole or not at all; returns its size in bytes. Raises ``OSError`` if there is no room."""

    def write(stream: BinaryIO) -> None:
        sums: dict[str, str] = {}
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for item in items:
                assert _NAMES.fullmatch(item.name), f"{item.name} is no part of a bundle"
                sums[item.name] = _add(archive, item)
            contents = {"kind": _KIND, "format": FORMAT, "sha256": sums}
            archive.writestr(zipfile.ZipInfo(CONTENTS, _TIME), json.dumps(contents, indent=1) + "\n")

    replace_file(file, write)
    return file.stat().st_size


def _add(archive: zipfile.ZipFile, item: Item) -> str:
    digest, info = hashlib.sha256(), zipfile.ZipInfo(item.name, _TIME)
    with archive.open(info, "w", force_zip64=True) as target:
        for block in [item.content] if isinstance(item.content, bytes) else _blocks(item.content):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


class Archive:
    """A bundle that is open for reading, all of its contents checked."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    @property
    def names(self) -> list[str]:
        """What is in it, the list of contents left out."""
        return [name for name in self._archive.namelist() if name != CONTENTS]

    def read(self, name: str) -> bytes:
        """One file. Raises ``ValueError`` if it is not in the bundle."""
        try:
            return self._archive.read(name)
        except KeyError:
            raise ValueError(f"it has no {name}") from None

    def unpack(self, name: str, folder: Path) -> None:
        """Write one file to its place below ``folder``."""
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._archive.open(name) as source, target.open("wb") as stream:
            while block := source.read(_BLOCK):
                stream.write(block)


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """The bundle in ``file``. Raises ``ValueError``, saying why, if it is none, or is not what was packed."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive)
            yield Archive(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is {foreign_kind(file) or f'truncated, or no bundle ({error})'}") from error


def _check(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if CONTENTS not in names:
        raise ValueError(f"it is no bundle, it has no {CONTENTS}")
    for info in archive.infolist():
        if info.filename != CONTENTS and not _NAMES.fullmatch(info.filename):
            raise ValueError(f"it holds {info.filename!r}, which is no part of a bundle")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(f"{info.filename} in it is compressed or encrypted, which we do not write")
    try:
        contents = json.loads(archive.read(CONTENTS))
        kind, version, sums = contents["kind"], contents["format"], dict(contents["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"it is no bundle, its {CONTENTS} cannot be read") from error
    if kind != _KIND or version != FORMAT:
        raise ValueError(f"it is a {kind!r} of format {version}, this program reads format {FORMAT}")
    if sorted([*sums, CONTENTS]) != sorted(names):
        raise ValueError("its list of contents is that of another file")
    for name, expected in sums.items():
        digest = hashlib.sha256()
        with archive.open(name) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        if digest.hexdigest() != expected:
            raise ValueError(f"the checksum of {name} in it does not agree with its contents")
