"""Class folders below a data root, the images in each, and the names of both.

Two rules. ``any``: every image of a format that we read, in a class's folder and, if that holds images itself, in the
folders below it too; accents written in two ways make one name. ``by_suffix``, of runs that were begun before: files
directly in a class's folder with one of nine suffixes.
All other files are counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.data.sources.image_formats import EXTENSIONS, FORMATS, OLD_EXTENSIONS, is_image, suffix
from cl_lightning.data.sources.skipped_files import SYSTEM, Aside, in_words
from cl_lightning.data.sources.unicode_names import nfc

ANY, BY_SUFFIX = "any", "by_suffix"

Entry = os.DirEntry[str] | Path
"""Entry of a folder."""

_SYSTEM_FILES = frozenset({".ds_store", ".directory", "desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"})
_SYSTEM_FOLDERS = frozenset({"$recycle.bin", "@eadir", "__macosx", "lost+found", "system volume information"})
"""Names in lower case. The images in such folders are thumbnails, or no images at all."""
_LONGEST_SUFFIX = 12


def class_folders(root: Path, rule: str = ANY, aside: Aside | None = None, shown: str = "") -> dict[str, str]:
    """Return the name of each class in ``root`` -> name of its folder, sorted; ``aside`` collects everything else.

    Raises ValueError for two folders of one name.
    """
    found: dict[str, str] = {}
    for entry in _entries(root, rule):
        kind = kind_of(entry, rule)
        if kind == "folder":
            name = _name(entry.name, rule)
            if name in found:
                reason = (
                    f"has class folders {found[name]!a} and {entry.name!a}, which are one name, {name}, whose accents "
                    "are written in two ways"
                )
                raise InvalidFileError(root, reason, "put their images into one of them, or rename one")
            found[name] = entry.name
        elif aside is not None:
            aside.add(kind or "images beside class folders", shown + entry.name)
    return found


def class_images(root: Path, folder: str, rule: str = ANY, aside: Aside | None = None, shown: str = "") -> list[str]:
    """Return the paths of a class's images below ``root``, with forward slashes, sorted; ``aside`` collects everything
    else, by its path below ``root`` after ``shown``.

    Raises ValueError if there is no such folder, or no image in it.
    """
    place = root / folder
    if not place.is_dir():
        wanted = {"root": "DIR, with the same classes in each part"}
        raise InvalidFileError(place, "does not exist", allowed=wanted, kind="class folder")
    own = Aside()
    try:
        found = list(_images(root, folder, rule, own, shown, ()))
    except PermissionError as error:
        reason = f"cannot be listed ({error.strerror})"
        raise InvalidFileError(place, reason, "permit it", kind="class folder") from error
    if not found:
        raise _without(place, rule, own)
    for path in found:
        if any("\ud800" <= letter <= "\udfff" for letter in path):
            reason = "is not UTF-8, so it cannot be kept as a key"
            raise InvalidFileError(repr(path), reason, "rename it", kind="the file name")
    if aside is not None:
        aside.merge(own)
    return found


def keys_of(paths: Sequence[str], rule: str) -> tuple[str, ...] | None:
    """Return the permanent names of images; None if those are the paths themselves.

    Raises ValueError for two files of one name.
    """
    if rule == BY_SUFFIX or all(map(str.isascii, paths)):
        return None
    keys = tuple(map(nfc, paths))
    if keys == tuple(paths):
        return None
    met: dict[str, str] = {}
    for key, path in zip(keys, paths, strict=True):
        if met.setdefault(key, path) != path:
            reason = f"and {path!a} are one name, {key}, whose accents are written in two ways"
            raise InvalidFileError(ascii(met[key]), reason, "rename or remove one", kind="the files")
    return keys


def kind_of(entry: Entry, rule: str = ANY) -> str | None:
    """Return None for an image, ``folder`` for a folder to read, else the kind of a skipped entry."""
    kind = _kind(entry)
    if kind == "folder":
        return "system folders" if rule == ANY and entry.name.casefold() in _SYSTEM_FOLDERS else kind
    return kind or _kind_of_file(entry, rule)


def _images(
    root: Path, folder: str, rule: str, aside: Aside, shown: str, above: tuple[tuple[int, int], ...]
) -> Iterator[str]:
    """Yield the images of a folder itself, and then, if there are any, of the folders in it."""
    inner: list[str] = []
    any_here = False
    for entry in _entries(root / folder, rule):
        path = f"{folder}/{entry.name}"
        kind = kind_of(entry, rule)
        if kind is None:
            any_here = True
            yield path
        elif kind == "folder":
            inner.append(path)
        else:
            aside.add(kind, shown + path)
    if not (any_here or above):
        return
    above = (*above, _identity(root / folder))
    for path in inner:
        kind = _kind_of_subfolder(root / path, rule, above)
        if kind:
            aside.add(kind, shown + path)
        else:
            yield from _images(root, path, rule, aside, shown, above)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _kind_of_subfolder(folder: Path, rule: str, above: tuple[tuple[int, int], ...]) -> str | None:
    """Return the reason why a class's subfolder is not read, None if it is."""
    if rule == BY_SUFFIX:
        return "folders in class folders"
    if _identity(folder) in above:
        return "links to a folder above"
    try:
        with os.scandir(folder) as entries:
            return None if next(entries, None) else "empty folders"
    except PermissionError:
        return "unreadable folders"


def _entries(folder: Path, rule: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: _name(entry.name, rule))


def _name(name: str, rule: str) -> str:
    return name if rule == BY_SUFFIX else nfc(name)


def _kind(entry: Entry) -> str | None:
    """Return ``folder`` for a folder to read, None for a file to examine, else the kind of a skipped entry."""
    name = entry.name
    if name.casefold() in _SYSTEM_FILES:
        return SYSTEM
    if name.startswith("._"):
        return "AppleDouble files"
    folder = entry.is_dir()
    if name.startswith("."):
        return "hidden folders" if folder else "hidden files"
    if folder:
        return "folder"
    if entry.is_file():
        return None
    return "dangling links" if entry.is_symlink() and not os.path.exists(entry) else "special files"


def _kind_of_file(entry: Entry, rule: str) -> str | None:
    """Return None for an image, else the kind of a skipped file."""
    end = suffix(entry.name)
    if end in (OLD_EXTENSIONS if rule == BY_SUFFIX else EXTENSIONS):
        return None
    if rule == ANY:
        try:
            if is_image(os.fspath(entry)):
                return None
        except OSError:
            return "unreadable files"
    if not end:
        return "files without a suffix"
    return f"{end} files" if len(end) <= _LONGEST_SUFFIX and end[1:].isalnum() else "other files"


def _without(folder: Path, rule: str, aside: Aside) -> InvalidFileError:
    """Return the message for a class folder without an image: its content, and what to do."""
    deeper = _with_an_image(folder, rule)
    if deeper is not None:
        return InvalidFileError(
            folder,
            f"holds no image, but {deeper} does",
            "move the images up",
            {"root": f"{folder} if its folders are the classes"},
            kind="class folder",
        )
    kinds = in_words(aside.kinds())
    formats = " ".join(OLD_EXTENSIONS) if rule == BY_SUFFIX else ", ".join(FORMATS)
    there = f" ({kinds})" if kinds else ""
    mend = f"add some ({formats}) or remove the folder"
    return InvalidFileError(folder, f"holds no image{there}", mend, kind="class folder")


def _with_an_image(folder: Path, rule: str) -> str | None:
    """Return the first folder below that directly holds an image."""
    for top, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if top == str(folder):
            continue
        with os.scandir(top) as entries:
            if any(kind_of(entry, rule) is None for entry in entries):
                return top
    return None
