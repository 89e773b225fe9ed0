"""Image files from a command line: named ones, those of folders, and those of quoted patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cl_lightning.core.errors import UserError
from cl_lightning.core.paths import typed_path
from cl_lightning.data.sources.class_folders import ANY, kind_of
from cl_lightning.data.sources.image_formats import FORMATS
from cl_lightning.data.sources.skipped_files import Aside


def image_files(typed: Sequence[str], rule: str = ANY, aside: Aside | None = None) -> list[Path]:
    """Return the files, each once, in the order typed; those of a folder and of a pattern by name.

    A file that is named is taken whatever it is; of folders (with all subfolders; links to folders are not
    followed) and of patterns, what is not hidden and is an image by ``rule``, which
    :mod:`~cl_lightning.data.sources.class_folders` explains; the rest goes into ``aside``.

    Raises ``UserError`` for a name that does not exist, and for a folder or a pattern without an image.
    """
    found: dict[Path, None] = {}
    left_out: dict[Path, str] = {}
    for name in typed:
        path = typed_path(name)
        if path.is_dir():
            files = _checked(_below(path, rule, left_out), f"the folder {name} holds no image")
        elif path.exists():
            files = [path]
        elif glob.has_magic(name):
            files = _checked(_matching(str(path), rule, left_out), f"nothing that matches {name} is an image")
        else:
            raise UserError(f"{name} does not exist: type files, folders or quoted patterns such as 'DIR/*.png'")
        found |= dict.fromkeys(files)
    for path, kind in left_out.items():
        if aside is not None and path not in found:
            aside.add(kind, str(path))
    return list(found)


def _checked(candidates: Iterable[Path], message: str) -> list[Path]:
    files = list(candidates)
    if not files:
        raise UserError(f"{message}: type files, folders or patterns with some ({', '.join(FORMATS)})")
    return files


def _matching(pattern: str, rule: str, left_out: dict[Path, str]) -> Iterator[Path]:
    for match in map(Path, sorted(glob.glob(pattern, recursive=True))):
        yield from _below(match, rule, left_out) if match.is_dir() else _images([match], rule, left_out)


def _below(root: Path, rule: str, left_out: dict[Path, str]) -> Iterator[Path]:
    for top, folders, names in os.walk(root, onerror=_refuse):
        folder = Path(top)
        for name in folders:
            kind = "links to folders" if (folder / name).is_symlink() else kind_of(folder / name, rule)
            if kind is not None and kind != "folder":
                left_out[folder / name] = kind
        folders[:] = sorted(name for name in folders if folder / name not in left_out)
        yield from _images((folder / name for name in sorted(names)), rule, left_out)


def _images(files: Iterable[Path], rule: str, left_out: dict[Path, str]) -> Iterator[Path]:
    for file in files:
        kind = kind_of(file, rule)
        if kind is None:
            yield file
        else:
            left_out[file] = kind


def _refuse(error: OSError) -> None:
    raise UserError(f"the folder {error.filename} cannot be listed: {error.strerror}") from error
