"""Which image files decode, and what is in them: found by one scan before anything is trained, and remembered from run
to run.

A file is read again only when its size or one of its times of change is another than before: the digest of its bytes is
then taken anew, and it is decoded if that is another. What is remembered lies in a cache folder of the user, one file
for each folder of data. It is only ever a saving of time: without it, or where it cannot be read or written, everything
is read and decoded.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
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
from cl_lightning.data.sources.content_digest import DIGEST_SIZE, digest
from cl_lightning.data.sources.decoding import decode, reason
from cl_lightning.data.sources.image_formats import TooLargeError, open_image

log = logging.getLogger(__name__)

_FORMAT = 2
"""Format 1 had no digests and no time of the last change of a file's status: what is in one is looked for again."""
_MANY = 2000
"""Files whose decoding takes so long that the user should know what is going on."""
_SAVE_EVERY = 60.0
"""Seconds of decoding that a killed process may lose."""
_AT_ONCE = 32
"""Files handed to each thread at a time."""


class Stamp(NamedTuple):
    """What a file looks like from outside. Who replaces a file and sets its time back cannot set back ``changed``."""

    size: int
    """Bytes."""
    modified: int
    """Time of the last change of its content (mtime), in nanoseconds."""
    changed: int
    """Time of the last change of content or status (ctime), in nanoseconds."""


class DecodeResult(NamedTuple):
    """What looking at a file brought."""

    stamp: Stamp
    digest: bytes
    """Of its bytes (:func:`~cl_lightning.data.sources.content_digest.digest`); zeros where they could not be read."""
    broken: str | None
    """Why it does not decode; None if it does."""
    pixels: int = 0
    """Of the picture; 0 where that is not known."""
    lasting: bool = True
    """Whether that is so as long as the file stays the same. A disk or a permission that fails may be mended without a
    trace in the file.
    """


@dataclass(frozen=True)
class Scanned:
    """What the scan of a source brought."""

    digests: Tensor
    """(rows, DIGEST_SIZE) uint8: of each file's bytes."""
    broken: dict[int, str]
    """The rows that do not decode, ascending, and why."""
    too_large: int = 0
    """Of the largest picture that was not decoded because of its pixels, those; 0 if there is none."""


@dataclass(frozen=True)
class _Stretch:
    """Consecutive rows of a source whose files lie in one folder."""

    part: int
    """Which source."""
    folder: str
    """Below the data root."""
    start: int
    stop: int


class _Unknown(NamedTuple):
    """A file that must be looked at."""

    stretch: _Stretch
    row: int
    file: str
    before: DecodeResult | None
    """What was known of it until it was touched."""
    max_pixels: int


def scan(root: Path, sources: Sequence[FolderSource], threads: int | None = None) -> list[Scanned]:
    """Return what is in the files of each source; ``root`` is the folder that all sources lie in.

    Each file is read once, for its digest, and decoded from what was read as training does it, in ``threads`` threads
    (None: one for each core); then it is dropped. What is found is kept for later runs, also when the scan is
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
    """The files that must be looked at, and what is known of the other rows."""
    remembered = manifest.known(stretch.folder)
    unknown, known = [], []
    for row in range(stretch.start, stretch.stop):
        file = f"{source.root}/{source.paths[row]}"
        found = remembered.get(file.rpartition("/")[2])
        if found is None or (found.broken is None and not found.pixels) or _stamp(file) != found.stamp:
            unknown.append(_Unknown(stretch, row, file, found, source.max_pixels))
        else:
            known.append((row, found))
    return unknown, known


def _announce(manifest: Manifest, count: int) -> None:
    if count > _MANY:
        kept = f"what is found is kept in {manifest.file}" if manifest.file else "what is found cannot be kept"
        log.warning("reading %d images of %s once, to know what is in them; %s", count, manifest.root, kept)


def _look_at_all(
    pool: ThreadPoolExecutor, manifest: Manifest, unknown: Sequence[_Unknown], at_once: int
) -> Iterator[tuple[int, int, DecodeResult]]:
    """Teach the manifest; (source, row, what was found)."""
    done, saved = 0, time.monotonic()
    _announce(manifest, len(unknown))
    if unknown:
        # Pillow registers formats when a file first needs one; a thread that comes meanwhile would not know the format.
        Image.init()
    rest = iter(unknown)
    while piece := list(islice(rest, at_once)):
        for (stretch, row, file, *_), found in zip(piece, pool.map(_look, piece), strict=True):
            manifest.learn(stretch.folder, file.rpartition("/")[2], found)
            yield stretch.part, row, found
        done += len(piece)
        if time.monotonic() - saved > _SAVE_EVERY:
            manifest.save()
            log.info("read %d of %d images of %s", done, len(unknown), manifest.root)
            saved = time.monotonic()


def _stamp(file: str) -> Stamp | None:
    """None where there is nothing to be read."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _look(unknown: _Unknown) -> DecodeResult:
    """Return what is in a file. The same bytes as before it was touched decode as they did."""
    file, before = unknown.file, unknown.before
    # Taken before reading: a file that changes meanwhile is looked at again.
    stamp = _stamp(file) or Stamp(0, 0, 0)
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
        picture = decode(io.BytesIO(content), max_pixels=unknown.max_pixels)
    except MemoryError:
        raise
    except TooLargeError as error:  # another run may allow more: then it is decoded
        return DecodeResult(stamp, taken, str(error), error.pixels, lasting=False)
    except Exception as error:
        return DecodeResult(stamp, taken, _WITHOUT_FILE.sub("", reason(error)))
    return DecodeResult(stamp, taken, None, picture.width * picture.height)


def _measured(file: str, found: DecodeResult) -> DecodeResult:
    """The same of bytes that are known to decode or not, with the number of pixels, which earlier versions left out."""
    if found.broken is not None or found.pixels:
        return found
    try:
        with open_image(file, None) as image:
            return found._replace(pixels=image.width * image.height)
    except Exception as error:  # it did decode: the disk or a permission
        return found._replace(broken=reason(error), lasting=False)


_WITHOUT_FILE = re.compile(r" <_io\.BytesIO object at 0x[0-9a-f]+>")
"""Pillow names what it was given; whoever reads its reason is told the file's name anyway."""


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
        self._fresh: dict[str, dict[str, DecodeResult]] = {}

    def known(self, folder: str) -> dict[str, DecodeResult]:
        """By the name of the file."""
        try:
            # A reason is worth what the reading version of Pillow is: another one may be able to.
            names, sizes, modified, changed, taken, broken, version, *later = json.loads(
                self._lines.get(folder, _NOTHING)
            )
            pixels = later[0] if later else [0] * len(names)  # earlier versions did not keep them
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
        """Once: what else goes wrong with the file has the same cause or the same consequence."""
        if not self._told:
            log.warning(*message)
        self._told = True


_NOTHING = '[[], [], [], [], "", {}, null]'
"""The line of a folder that has none."""


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
    """Write a file in one step; two runs may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, lambda stream: stream.write(text.encode("ascii")))
