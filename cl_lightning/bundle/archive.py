"""The archive of a bundle: a zip file without compression, whose list of contents has a checksum of each file.

Contents are checked before anything is written, and are written to names that this module knows: no path in a file
can lead out of the folder that it is unpacked into, and nothing grows while it is unpacked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cl_lightning.core.atomic_write import replace_file
from cl_lightning.core.file_type import foreign_kind
from cl_lightning.core.json_schema import mapping_of, read_json, record, text, whole

FORMAT = 1
CONTENTS = "bundle.json"
_KIND = "cl_lightning run"
_NAMES = re.compile(
    r"config\.yaml|results\.json|accuracy_matrix\.csv|images\.csv\.gz|state\.json|state\.safetensors"
    r"|exemplars/(index\.json|pixels\.safetensors|files/\d{6,}(\.[a-z0-9]+)?)"
)
_CONTENTS = record({"kind": text, "format": whole(), "sha256": mapping_of(text)})
_TIME = (1980, 1, 1, 0, 0, 0)  # equal runs make equal files
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Item:
    """A file to pack: its name in the archive, and its bytes or their path."""

    name: str
    content: bytes | Path


def pack(file: Path, items: Iterable[Item]) -> int:
    """Write the archive, whole or not at all; returns its size in bytes. Raises ``OSError`` if there is no room."""

    def write(stream: BinaryIO) -> None:
        sums: dict[str, str] = {}
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for item in items:
                if not _NAMES.fullmatch(item.name):
                    raise ValueError(f"{item.name} is no part of a bundle")
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
        """Names of the files in it, without the list of contents."""
        return [name for name in self._archive.namelist() if name != CONTENTS]

    def read(self, name: str) -> bytes:
        """Read one file. Raises ``ValueError`` if it is not in the bundle."""
        try:
            return self._archive.read(name)
        except KeyError:
            raise ValueError(f"it has no {name}") from None

    def unpack(self, name: str, folder: Path) -> None:
        """Write one file to its path below ``folder``."""
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._archive.open(name) as source, target.open("xb") as stream:
            while block := source.read(_BLOCK):
                stream.write(block)


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """Open the bundle in ``file``. Raises ``ValueError`` with the reason if it is none, or is not what was packed."""
    with file.open("rb") as stream, _as_archive(file, stream) as archive:
        yield Archive(archive)


def _as_archive(file: Path, stream: BinaryIO) -> zipfile.ZipFile:
    """Open a zip archive; whatever the reader raises for bytes that are none, or whose sizes are wrong, becomes a
    ``ValueError``, so that later code reads checked contents alone.
    """
    try:
        archive = zipfile.ZipFile(stream)
        check_archive(archive, os.fstat(stream.fileno()).st_size)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError, struct.error) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"it is truncated, or no bundle ({foreign_kind(file) or why})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset before the beginning was asked for
            raise
        raise ValueError("it is truncated, or no bundle (a place in it is outside of it)") from error
    return archive


def check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Raise ``ValueError`` unless an archive of ``size`` bytes is a whole bundle."""
    names = archive.namelist()
    if CONTENTS not in names:
        raise ValueError(f"it is no bundle, it has no {CONTENTS}")
    for info in archive.infolist():
        if info.filename != CONTENTS and not _NAMES.fullmatch(info.filename):
            raise ValueError(f"it holds {info.filename!r}, which is no part of a bundle")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(f"{info.filename} in it is compressed or encrypted, which we do not write")
    if sum(info.file_size for info in archive.infolist()) > size:
        raise ValueError("its files are larger than itself")
    try:
        contents = read_json(archive.read(CONTENTS), CONTENTS)
        _CONTENTS(contents, CONTENTS)
    except ValueError as error:
        raise ValueError(f"it is no bundle, its {CONTENTS} cannot be read ({error})") from error
    kind, version, sums = contents["kind"], contents["format"], contents["sha256"]
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
