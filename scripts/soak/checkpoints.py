"""Damage to checkpoint files, drawn from a seed: torn, flipped, replaced by something else, with code inside."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import zipfile
from collections.abc import Callable
from typing import Any

import torch

_MARK = b"\ncl_lightning sha256 "
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064x\nsize %d\n"
Damage = Callable[[random.Random, bytes], bytes]


def damage(draw: random.Random, content: bytes) -> tuple[str, bytes]:
    """Return the name of a damage and what it leaves of a checkpoint's bytes, never the same bytes.

    ``code`` alone has a checksum that agrees: it must be refused. All others must be reported, the file before read.
    """
    name = draw.choice(list(_KINDS))
    return name, _KINDS[name](draw, content)


def _cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content))]


def _cut_short(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(8)]


def _cut_end(draw: random.Random, content: bytes) -> bytes:
    return content[: -draw.randrange(1, 80)]


def _without_beginning(draw: random.Random, content: bytes) -> bytes:
    return content[draw.randrange(1, len(content)) :]


def _flipped(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for place in {draw.randrange(len(content)) for _ in range(draw.choice((1, 1, 1, 3, 40)))}:
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _zeros(draw: random.Random, content: bytes) -> bytes:
    """Zero blocks, as a power cut does to a file whose size was written and whose blocks were not."""
    start = draw.randrange(len(content))
    length = max(1, draw.randrange(len(content) - start))
    zeros = content[:start] + b"\0" * length + content[start + length :]
    return zeros if zeros != content else b"\0" * len(content)


def _swapped(draw: random.Random, content: bytes) -> bytes:
    """Exchange the two halves."""
    middle = draw.randrange(1, len(content))
    return content[middle:] + content[:middle]


def _longer(draw: random.Random, content: bytes) -> bytes:
    return content + draw.randbytes(draw.randrange(1, 300))


def _noise(draw: random.Random, content: bytes) -> bytes:
    return draw.randbytes(draw.randrange(1, 4000))


def _page(draw: random.Random, content: bytes) -> bytes:
    return draw.choice((b"<!DOCTYPE html>\n", b"\n <html>", b"<?xml version='1.0'?>")) + b"<body>404 not found</body>"


def _pointer(draw: random.Random, content: bytes) -> bytes:
    return _POINTER % (draw.getrandbits(256), len(content))


def _archive(draw: random.Random, content: bytes) -> bytes:
    """Return a zip file that torch did not write."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(draw.choice(("a.txt", "archive/data.pkl", "archive/version")), draw.randbytes(50))
    return stream.getvalue()


class _Code:
    """An object whose unpickling calls ``print``."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("CODE OF A CHECKPOINT HAS RUN",)


def _code(draw: random.Random, content: bytes) -> bytes:
    """Put code under a valid checksum, or as a pickle of its own."""
    if draw.random() < 0.3:
        return pickle.dumps(_Code())
    stream = io.BytesIO()
    torch.save({"version": 3, "extra": _Code()}, stream)
    whole = stream.getvalue()
    return whole + _MARK + hashlib.sha256(whole).digest()


_KINDS: dict[str, Damage] = {
    "cut": _cut,
    "cut to a few bytes": _cut_short,
    "end cut": _cut_end,
    "beginning gone": _without_beginning,
    "flipped": _flipped,
    "zeros": _zeros,
    "halves swapped": _swapped,
    "longer": _longer,
    "noise": _noise,
    "page": _page,
    "pointer": _pointer,
    "archive": _archive,
    "code": _code,
}
