"""Which files a user means: named ones, those of folders, and those of patterns that the shell was kept from."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cl_lightning.data.sources import EXTENSIONS
from cl_lightning.errors import UserError
from cl_lightning.paths import typed_path


def image_files(typed: Sequence[str]) -> list[Path]:
    """The files, each once, in the order typed; those of a folder and of a pattern by name.

    A file that is named is taken whatever its suffix; of folders (with all that are in them; links to folders are not
    followed) and of patterns, what has the suffix of an image and is not hidden.

    Raises ``UserError`` for a name that nothing has, and for a folder or a pattern without an image.
    """
    found: dict[Path, None] = {}
    for name in typed:
        path = typed_path(name)
        if path.is_dir():
            files = _checked(_below(path), f"the folder {name} holds no image")
        elif path.exists():
            files = [path]
        elif glob.has_magic(name):
            files = _checked(_matching(str(path)), f"nothing that matches {name} is an image")
        else:
            raise UserError(f"{name} does not exist: type files, folders or quoted patterns such as 'DIR/*.png'")
        found |= dict.fromkeys(files)
    return list(found)


def _checked(files: list[Path], without: str) -> list[Path]:
    if not files:
        raise UserError(f"{without}: type files, folders or patterns with some of {' '.join(EXTENSIONS)}")
    return files


def _matching(pattern: str) -> list[Path]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    return [file for match in matches for file in (_below(match) if match.is_dir() else _images([match]))]


def _below(folder: Path) -> list[Path]:
    files: list[Path] = []
    for top, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += _images(Path(top) / name for name in sorted(names))
    return files


def _images(files: Iterable[Path]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")]


def _refuse(error: OSError) -> None:
    raise UserError(f"the folder {error.filename} cannot be listed: {error.strerror}") from error
