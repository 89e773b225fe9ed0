"""Which image files decode: found by one scan before anything is trained, and remembered from run to run.

A file is decoded again only when its size or its time of change is another than before. What is remembered lies in a
cache folder of the user, one file for each folder of data. It is only ever a saving of time: without it, or where it
cannot be read or written, everything is decoded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import PIL
from PIL import Image

from cl_lightning.atomic import replace_file
from cl_lightning.data.sources import FolderSource, decode, reason

log = logging.getLogger(__name__)

_FORMAT = 1
_MANY = 2000
"""Files whose decoding takes so long that the user should know what is going on."""
_SAVE_EVERY = 60.0
"""Seconds of decoding that a killed process may lose."""
_AT_ONCE = 32
"""Files handed to each thread at a time."""


class Found(NamedTuple):
    """What looking at a file brought."""

    size: int
    """Bytes."""
    changed: int
    """Time of its last change in nanoseconds."""
    broken: str | None
    """Why it does not decode; None if it does."""
    lasting: bool = True
    """Whether that is so as long as the file stays the same. A disk or a permission that fails may be mended without a
    trace in the file.
    """


@dataclass(frozen=True)
class _Stretch:
    """Consecutive rows of a source whose files lie in one folder."""

    part: int
    """Which source."""
    folder: str
    """Below the data root."""
    start: int
    stop: int


def find_broken(root: Path, sources: Sequence[FolderSource], threads: int | None = None) -> list[dict[int, str]]:
    """For each source its rows that do not decode, and why; ``root`` is the folder that all sources lie in.

    Each file is decoded as training does it, in ``threads`` threads (None: one for each core), and then dropped. What
    is found is kept for later runs, also when the scan is interrupted.
    """
    manifest = Manifest(root)
    stretches = [stretch for part, source in enumerate(sources) for stretch in _stretches(root, part, source)]
    broken: list[dict[int, str]] = [{} for _ in sources]
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        try:
            unknown: list[tuple[_Stretch, list[int]]] = []
            checks = pool.map(lambda stretch: _compare(manifest, sources[stretch.part], stretch), stretches)
            for stretch, (rows, known) in zip(stretches, checks, strict=True):
                broken[stretch.part] |= known
                if rows:
                    unknown.append((stretch, rows))
            for part, row, why in _decode_all(pool, manifest, sources, unknown, _AT_ONCE * threads):
                broken[part][row] = why
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            manifest.save()
    return [dict(sorted(rows.items())) for rows in broken]


def _stretches(root: Path, part: int, source: FolderSource) -> Iterator[_Stretch]:
    below = os.path.relpath(source.root, root)
    start = 0
    for folder, paths in groupby(source.paths, lambda path: path.rpartition("/")[0]):
        stop = start + sum(1 for _ in paths)
        yield _Stretch(part, folder if below == "." else f"{below}/{folder}", start, stop)
        start = stop


def _compare(manifest: Manifest, source: FolderSource, stretch: _Stretch) -> tuple[list[int], dict[int, str]]:
    """The rows that must be decoded, and those that are known to be broken."""
    known = manifest.known(stretch.folder)
    unknown, broken = [], {}
    for row in range(stretch.start, stretch.stop):
        path = source.paths[row]
        found = known.get(path.rpartition("/")[2])
        if found is None or _stamp(f"{source.root}/{path}") != (found.size, found.changed):
            unknown.append(row)
        elif found.broken is not None:
            broken[row] = found.broken
    return unknown, broken


def _announce(manifest: Manifest, count: int) -> None:
    if count > _MANY:
        kept = f"what is found is kept in {manifest.file}" if manifest.file else "what is found cannot be kept"
        log.warning("decoding %d images of %s once to find broken ones; %s", count, manifest.root, kept)


def _decode_all(
    pool: ThreadPoolExecutor,
    manifest: Manifest,
    sources: Sequence[FolderSource],
    unknown: Sequence[tuple[_Stretch, list[int]]],
    at_once: int,
) -> Iterator[tuple[int, int, str]]:
    """Teach the manifest; (source, row, reason) of what is broken."""
    total, done, saved = sum(len(rows) for _, rows in unknown), 0, time.monotonic()
    _announce(manifest, total)
    if total:
        # Pillow registers formats when a file first needs one; a thread that comes meanwhile would not know the format.
        Image.init()
    wanted = ((stretch, row) for stretch, rows in unknown for row in rows)
    while piece := list(islice(wanted, at_once)):
        files = [f"{sources[stretch.part].root}/{sources[stretch.part].paths[row]}" for stretch, row in piece]
        for (stretch, row), file, found in zip(piece, files, pool.map(_look, files), strict=True):
            manifest.learn(stretch.folder, file.rpartition("/")[2], found)
            if found.broken is not None:
                yield stretch.part, row, found.broken
        done += len(piece)
        if time.monotonic() - saved > _SAVE_EVERY:
            manifest.save()
            log.info("decoded %d of %d images of %s", done, total, manifest.root)
            saved = time.monotonic()


def _stamp(file: str) -> tuple[int, int] | None:
    """Size in bytes and time of change in nanoseconds; None where there is nothing to be read."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _look(file: str) -> Found:
    # Before decoding: a file that changes meanwhile is looked at again.
    size, changed = _stamp(file) or (0, 0)
    try:
        decode(Path(file))
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:
            return Found(size, changed, error.strerror or str(error), lasting=False)
        return Found(size, changed, _without_path(error, file))
    except Exception as error:
        return Found(size, changed, _without_path(error, file))
    return Found(size, changed, None)


def _without_path(error: Exception, file: str) -> str:
    """Pillow's reason; whoever reads it is told the file's name anyway."""
    return reason(error).replace(f" {file!r}", "")


class Manifest:
    """What is known of the image files below one folder.

    Its file holds a line of JSON for all, and one for each folder, which is parsed only when it is asked for: that of
    a million files is read in the time, and takes the memory, of its text.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        place = _cache_folder()
        # A folder is the same by whatever way one comes to it.
        self._root = str(root.resolve())
        name = hashlib.blake2b(os.fsencode(self._root), digest_size=10).hexdigest()
        self.file = None if place is None else place / f"images-{name}.jsonl"
        self._told = False
        self._lines = self._read()
        self._fresh: dict[str, dict[str, Found]] = {}

    def known(self, folder: str) -> dict[str, Found]:
        """By the name of the file."""
        try:
            # A reason is worth what the reading version of Pillow is: another one may be able to.
            names, sizes, times, broken, version = json.loads(self._lines.get(folder, "[[], [], [], {}, null]"))
            every = zip(names, sizes, times, strict=True)
            return {
                name: Found(size, changed, broken.get(name))
                for name, size, changed in every
                if version == PIL.__version__ or name not in broken
            }
        except (ValueError, TypeError, AttributeError):
            self._lines.pop(folder, None)
            self._warn("%s is damaged: what it lost is decoded again", self.file)
            return {}

    def learn(self, folder: str, name: str, found: Found) -> None:
        """Remember it from the next :meth:`save` on."""
        self._fresh.setdefault(folder, {})[name] = found

    def save(self) -> None:
        """Write what was learnt, whole or not at all; a failure is told and has no other consequence."""
        if self.file is None or not self._fresh:
            return
        for folder, fresh in self._fresh.items():
            self._lines[folder] = self._line(folder, fresh)
        self._fresh = {}
        header = json.dumps({"format": _FORMAT, "root": self._root, "folders": len(self._lines)})
        lines = [header, *(f"{json.dumps(folder)}\t{line}" for folder, line in self._lines.items())]
        try:
            _replace(self.file, "\n".join(lines))
        except OSError as error:
            self._warn("%s cannot be written (%s): the next run decodes the same again", self.file, error.strerror)
            self.file = None

    def _line(self, folder: str, fresh: dict[str, Found]) -> str:
        try:
            there = set(os.listdir(f"{self._root}/{folder}"))
        except OSError:
            there = set(fresh)
        merged = {**self.known(folder), **fresh}
        kept = {name: found for name, found in merged.items() if found.lasting and name in there}
        sizes, times = [found.size for found in kept.values()], [found.changed for found in kept.values()]
        broken = {name: found.broken for name, found in kept.items() if found.broken is not None}
        return json.dumps([list(kept), sizes, times, broken, PIL.__version__], separators=(",", ":"))

    def _read(self) -> dict[str, str]:
        """Folder -> the rest of its line."""
        if self.file is None:
            return {}
        try:
            header, *lines = self.file.read_text(encoding="ascii").split("\n")
            about = json.loads(header)
            if (about["format"], about["root"], about["folders"]) != (_FORMAT, self._root, len(lines)):
                raise ValueError(header)
            pairs = (line.partition("\t") for line in lines)
            return {json.loads(folder): rest for folder, _, rest in pairs}
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._warn("%s cannot be read (%s): what it held is decoded again", self.file, error.strerror)
        except (ValueError, TypeError, KeyError):
            self._warn("%s is not whole, or of another version: what it held is decoded again", self.file)
        return {}

    def _warn(self, *message: object) -> None:
        """Once: what else goes wrong with the file has the same cause or the same consequence."""
        if not self._told:
            log.warning(*message)
        self._told = True


def _cache_folder() -> Path | None:
    """Where the user keeps what may be lost; None where that is nowhere."""
    own, common = os.environ.get("CL_LIGHTNING_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if own:
            return Path(own).expanduser()
        # As the XDG specification has it, a relative path is none.
        return (Path(common) if Path(common).is_absolute() else Path.home() / ".cache") / "cl_lightning"
    except RuntimeError:  # no home
        return None


def _replace(file: Path, text: str) -> None:
    """Write a file in one step, under a name of its own until then: two runs may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    replace_file(file, lambda stream: stream.write(text.encode("ascii")), part)
