"""What a file is that should have been another: told from its first bytes, so that the line on it can say so."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

ZIP = b"PK\x03\x04"
"""How an archive begins that holds something; ``torch.save`` and bundles write such."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def read_file(path: Path) -> bytes:
    """Return all of a file, also through a link. A pipe would never end, and is none.

    Raises:
        OSError: there is none, it is a folder or a pipe, or nobody may read it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        return file.read()


def foreign_kind(path: Path) -> str | None:
    """Return what stands in the place of a file of numbers, in words; None where the first bytes do not give it away.

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
    """The same of the first bytes of a file."""
    if not begin:
        return "an empty file"
    if begin.startswith(_POINTER):
        return "a pointer of Git LFS, not the file that it stands for (type git lfs pull where it came from)"
    if begin.lstrip().lower().startswith(_MARKUP):
        return "a page of text for a browser, as a server sends it in place of a file"
    return None
