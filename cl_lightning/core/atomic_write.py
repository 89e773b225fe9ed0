"""Files that are written safely: replaced atomically, so that a reader finds all of the old or of the new, after a kill
at any instant too; and never through a link, which may lead out of its folder.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_UNLINKED = os.O_NOFOLLOW | os.O_CLOEXEC
_LINK = "it is a link, and nothing is written through links"


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace the file at ``path`` by a new one that ``write`` fills. A link at ``path`` is replaced itself.

    Until then the file has a unique temporary name, so that several may write at once: the last one's file stays.

    Raises:
        OSError: no space, no right to write, or a device at ``path``; the old file is still there.
    """
    _refuse_device(path)
    part = beside(path)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _UNLINKED, 0o666), "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            _name(error, path, part)
        raise
    _sync_folder(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Replace a file's text; see :func:`replace_file`. Bytes of a path that are not UTF-8 are escaped."""
    replace_file(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def beside(path: Path) -> Path:
    """Return a unique name in the folder of ``path``, of the form that :func:`remove_parts` removes."""
    return path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")


def open_to_append(path: Path, *, new: bool = True) -> int:
    """Open a file for appending and return the descriptor; create a missing one only if ``new``.

    A file with a second name elsewhere (a hard link) becomes one of its own first.

    Raises:
        OSError: a link, a folder, or anything else but a file; no right to write.
    """
    descriptor = _opened(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT if new else 0))
    if os.fstat(descriptor).st_nlink < 2:
        return descriptor
    os.close(descriptor)
    with path.open("rb") as shared:
        replace_file(path, lambda file: file.write(shared.read()))
    return _opened(path, os.O_WRONLY | os.O_APPEND)


def open_alone(path: Path) -> int:
    """Open a file for reading and writing, create it where it is missing, and return the descriptor.

    Raises:
        OSError: a link, a file with a second name elsewhere, a folder, or anything else but a file; no right to write.
    """
    descriptor = _opened(path, os.O_RDWR | os.O_CREAT)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, "it has a second name elsewhere (a hard link): delete it", str(path))
    return descriptor


def make_folder(path: Path) -> None:
    """Make a folder, unless it is there.

    Raises:
        OSError: a link (which may lead anywhere), a file; no right to write.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        refuse_link(path)
        if not path.is_dir():
            raise


def refuse_link(path: Path) -> None:
    """Raise ``OSError`` if a link is at ``path``."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, _LINK, str(path))


def remove_parts(folder: Path, *names: str) -> None:
    """Remove the temporary files of killed writers of ``names``, or of any file, from ``folder``."""
    for name in names or ("*",):
        for part in folder.glob(f".{name}.part"):
            part.unlink(missing_ok=True)
        for part in folder.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)


def _refuse_device(path: Path) -> None:
    """Raise ``OSError`` for ``/dev/null`` and the like: root could replace the device itself, for everybody."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # nothing there, or no right to look: writing beside it reports that
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a device, and no file", str(path))


def _opened(path: Path, flags: int) -> int:
    """Return the descriptor of a plain file. Without O_NONBLOCK, a pipe would wait for its reader."""
    try:
        descriptor = os.open(path, flags | _UNLINKED | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and path.is_symlink():
            raise OSError(error.errno, _LINK, str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return descriptor


def _name(error: OSError, path: Path, part: Path) -> None:
    """Set the name of the intended file in an error: a full disk names none, others the temporary one."""
    if error.filename is None or str(error.filename) == str(part):
        error.filename, error.filename2 = str(path), None


def _sync_folder(folder: Path) -> None:
    # The new name itself must survive a power cut.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
