"""Decode cache: one scan before training finds the image files that do not decode, and the digest of each, and stores
the results from run to run.

A file is read again only when its size or one of its times of change differs: its digest is then computed anew, and it
is decoded if the digest differs. The cache lies in a cache folder of the user, one file for each folder of data. It
only saves time: without it, or where it cannot be read or written, every file is read and decoded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import PIL
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core.atomic_write import replace_file
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.content_digest import DIGEST_SIZE
from cl_lightning.data.sources.decode_result import DecodeResult, Stamp, decode_file, stamp_of
from cl_lightning.data.sources.image_formats import TooLargeError

log = logging.getLogger(__name__)

_FORMAT = 2
"""Version of the file. Version 1 had no digests and no ctime: its content is ignored."""
MANY_FILES = 2000
"""Number of files whose decoding takes so long that the user is told of it."""
SAVE_EVERY = 60.0
"""Seconds of decoding that a killed process may lose."""
_AT_ONCE = 32
"""Number of files submitted to each thread at a time."""


@dataclass(frozen=True)
class Scanned:
    """Result of the scan of a source."""

    digests: Tensor
    """(rows, DIGEST_SIZE) uint8: digest of each file's bytes."""
    broken: dict[int, str]
    """Rows that do not decode, ascending -> the reason."""
    too_large: int = 0
    """Number of pixels of the largest picture that was too large to decode; 0 if there is none."""


@dataclass(frozen=True)
class _Stretch:
    """Consecutive rows of a source whose files lie in one folder."""

    part: int
    """Index of the source."""
    folder: str
    """Folder below the data root."""
    start: int
    stop: int


class _Unknown(NamedTuple):
    """A file that must be read."""

    stretch: _Stretch
    row: int
    file: str
    before: DecodeResult | None
    """Earlier result of a file that was changed since."""
    max_pixels: int


def scan(root: Path, sources: Sequence[FolderSource], threads: int | None = None) -> list[Scanned]:
    """Return the scan of each source; ``root`` is the common folder of all sources.

    Each file is read once, for its digest, and decoded from the same bytes as training does it, in ``threads`` threads
    (None: one for each core); the picture is then dropped. Results are stored for later runs, also when the scan is
    interrupted.
    """
    manifest = Manifest(root)
    stretches = [stretch for part, source in enumerate(sources) for stretch in _stretches(root, part, source)]
    digests = [bytearray(len(source) * DIGEST_SIZE) for source in sources]
    broken: list[dict[int, str]] = [{} for _ in sources]
    too_large = [0 for _ in sources]

    def learn(part: int, row: int, found: DecodeResult) -> None:
        digests[part][row * DIGEST_SIZE : (row + 1) * DIGEST_SIZE] = found.digest
        if found.broken is not None:
            broken[part][row] = found.broken
        if found.pixels > sources[part].max_pixels:
            broken[part][row] = str(TooLargeError(found.pixels, sources[part].max_pixels))
            too_large[part] = max(too_large[part], found.pixels)

    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        try:
            unknown: list[_Unknown] = []
            checks = pool.map(lambda stretch: _compare(manifest, sources[stretch.part], stretch), stretches)
            for stretch, (touched, known) in zip(stretches, checks, strict=True):
                for row, found in known:
                    learn(stretch.part, row, found)
                unknown += touched
            for part, row, found in _look_at_all(pool, manifest, unknown, _AT_ONCE * threads):
                learn(part, row, found)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            manifest.save()
    return [
        Scanned(torch.frombuffer(taken, dtype=torch.uint8).view(-1, DIGEST_SIZE), dict(sorted(rows.items())), largest)
        for taken, rows, largest in zip(digests, broken, too_large, strict=True)
    ]


def _stretches(root: Path, part: int, source: FolderSource) -> Iterator[_Stretch]:
    below = os.path.relpath(source.root, root)
    start = 0
    for folder, paths in groupby(source.paths, lambda path: path.rpartition("/")[0]):
        stop = start + sum(1 for _ in paths)
        yield _Stretch(part, folder if below == "." else f"{below}/{folder}", start, stop)
        start = stop


def _compare(
    manifest: Manifest, source: FolderSource, stretch: _Stretch
) -> tuple[list[_Unknown], list[tuple[int, DecodeResult]]]:
    """Return the files that must be read, and the known results of the other rows."""
    remembered = manifest.known(stretch.folder)
    unknown, known = [], []
    for row in range(stretch.start, stretch.stop):
        file = f"{source.root}/{source.paths[row]}"
        found = remembered.get(file.rpartition("/")[2])
        if found is None or (found.broken is None and not found.pixels) or stamp_of(file) != found.stamp:
            unknown.append(_Unknown(stretch, row, file, found, source.max_pixels))
        else:
            known.append((row, found))
    return unknown, known


def _announce(manifest: Manifest, count: int) -> None:
    if count > MANY_FILES:
        kept = f"what is found is kept in {manifest.file}" if manifest.file else "what is found cannot be kept"
        log.warning("reading %d images of %s once, to know what is in them; %s", count, manifest.root, kept)


def _look_at_all(
    pool: ThreadPoolExecutor, manifest: Manifest, unknown: Sequence[_Unknown], at_once: int
) -> Iterator[tuple[int, int, DecodeResult]]:
    """Read files, add the results to the manifest, and yield (source, row, result)."""
    done, saved = 0, time.monotonic()
    _announce(manifest, len(unknown))
    if unknown:
        # Pillow registers formats when a file first needs one; a thread that comes meanwhile would not know the format.
        Image.init()
    rest = iter(unknown)
    while piece := list(islice(rest, at_once)):
        for (stretch, row, file, *_), found in zip(piece, pool.map(_decoded, piece), strict=True):
            manifest.learn(stretch.folder, file.rpartition("/")[2], found)
            yield stretch.part, row, found
        done += len(piece)
        if time.monotonic() - saved > SAVE_EVERY:
            manifest.save()
            log.info("read %d of %d images of %s", done, len(unknown), manifest.root)
            saved = time.monotonic()


def _decoded(unknown: _Unknown) -> DecodeResult:
    return decode_file(unknown.file, unknown.before, unknown.max_pixels)


class Manifest:
    """Known results of the image files below one folder.

    Its file holds a line of JSON for all, and one for each folder, which is parsed only when it is needed: so a
    manifest of a million files is read in the time, and takes the memory, of its text.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        cache = _cache_folder()
        # A folder is the same whichever path leads to it.
        self._root = str(root.resolve())
        name = hashlib.blake2b(os.fsencode(self._root), digest_size=10).hexdigest()
        self.file = None if cache is None else cache / f"images-{name}.jsonl"
        self._warned = False
        self._lines = self._read()
        self._fresh: dict[str, dict[str, DecodeResult]] = {}

    def known(self, folder: str) -> dict[str, DecodeResult]:
        """Return the results of a folder's files, by file name."""
        try:
            # A reason depends on the version of Pillow: another one may decode the file.
            names, sizes, modified, changed, taken, broken, version, *later = json.loads(
                self._lines.get(folder, _NOTHING)
            )
            pixels = later[0] if later else [0] * len(names)  # earlier versions did not store them
            digests = bytes.fromhex(taken)
            if len(digests) != len(names) * DIGEST_SIZE or not all(type(count) is int for count in pixels):
                raise ValueError(taken)
            every = enumerate(zip(names, map(Stamp, sizes, modified, changed), pixels, strict=True))
            return {
                name: DecodeResult(stamp, digests[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE], broken.get(name), count)
                for at, (name, stamp, count) in every
                if version == PIL.__version__ or name not in broken
            }
        except (ValueError, TypeError, AttributeError):
            self._lines.pop(folder, None)
            self._warn("%s is damaged: what it lost is looked at again", self.file)
            return {}

    def learn(self, folder: str, name: str, found: DecodeResult) -> None:
        """Add a result, for the next :meth:`save`."""
        self._fresh.setdefault(folder, {})[name] = found

    def save(self) -> None:
        """Write all results atomically; a failure is logged and has no other consequence."""
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
            self._warn("%s cannot be written (%s): the next run reads the same again", self.file, error.strerror)
            self.file = None

    def _line(self, folder: str, fresh: dict[str, DecodeResult]) -> str:
        try:
            there = set(os.listdir(f"{self._root}/{folder}"))
        except OSError:
            there = set(fresh)
        merged = {**self.known(folder), **fresh}
        kept = {name: found for name, found in merged.items() if found.lasting and name in there}
        stamps = [[found.stamp[part] for found in kept.values()] for part in range(len(Stamp._fields))]
        taken = b"".join(found.digest for found in kept.values()).hex()
        broken = {name: found.broken for name, found in kept.items() if found.broken is not None}
        pixels = [found.pixels for found in kept.values()]
        return json.dumps([list(kept), *stamps, taken, broken, PIL.__version__, pixels], separators=(",", ":"))

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
            self._warn("%s cannot be read (%s): what it held is looked at again", self.file, error.strerror)
        except (ValueError, TypeError, KeyError):
            self._warn("%s is not whole, or of another version: what it held is looked at again", self.file)
        return {}

    def _warn(self, *message: object) -> None:
        """Log the first warning: further problems with the file have the same cause or the same consequence."""
        if not self._warned:
            log.warning(*message)
        self._warned = True


_NOTHING = '[[], [], [], [], "", {}, null]'
"""Line of a folder without one."""


def _cache_folder() -> Path | None:
    """Return the folder for the user's caches; None if there is none."""
    own, common = os.environ.get("CL_LIGHTNING_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if own:
            return Path(own).expanduser()
        # The XDG specification ignores relative paths.
        return (Path(common) if Path(common).is_absolute() else Path.home() / ".cache") / "cl_lightning"
    except RuntimeError:  # no home folder
        return None


def _replace(file: Path, text: str) -> None:
    """Write a file atomically; two runs may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, lambda stream: stream.write(text.encode("ascii")))
