"""The kind of a file that should have been another, from its first bytes, for the message on it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

ZIP = b"PK\x03\x04"
"""First bytes of a non-empty archive; ``torch.save`` and bundles write such."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def read_file(path: Path) -> bytes:
    """Return all of a file, also through a link; refuse a pipe, which would never end.

    Raises:
        OSError: the file is missing, a folder or a pipe, or may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        return file.read()


def foreign_kind(path: Path) -> str | None:
    """Return the kind of an unexpected file, as text for a message; None where the first bytes do not show it.

    Raises ``OSError`` for a file that cannot be read.
    """
    if path.is_dir():
        return "a folder"
    if path.exists() and not path.is_file():
        return "no file but a device or a pipe"
    with path.open("rb") as file:
        begin = file.read(256)
    return kind_of_bytes(begin)


def kind_of_bytes(begin: bytes) -> str | None:
    """Return the kind of an unexpected file from its first bytes, as :func:`foreign_kind` does."""
    if not begin:
        return "an empty file"
    if begin.startswith(_POINTER):
        return "a pointer of Git LFS, not the file that it stands for (type git lfs pull where it came from)"
    if begin.lstrip().lower().startswith(_MARKUP):
        return "a page of text for a browser, as a server sends it in place of a file"
    return None
