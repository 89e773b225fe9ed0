"""Digests that identify images of equal content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

DIGEST_SIZE = 16
"""Bytes of a digest: enough that no two different images ever share one."""


def digest(*parts: bytes | memoryview) -> bytes:
    """Return BLAKE2b of all ``parts``, one after another, in ``DIGEST_SIZE`` bytes."""
    whole = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        whole.update(part)
    return whole.digest()


def as_table(digests: Iterable[bytes]) -> Tensor:
    """Return digests as a table (n, DIGEST_SIZE) uint8."""
    taken = bytearray(b"".join(digests))
    if not taken:
        return torch.empty(0, DIGEST_SIZE, dtype=torch.uint8)
    return torch.frombuffer(taken, dtype=torch.uint8).view(-1, DIGEST_SIZE)


def from_hex(digests: Iterable[str]) -> Tensor:
    """Invert :func:`as_hex`. Raises ValueError for text that is no digest."""
    taken = [bytes.fromhex(one) for one in digests]
    if any(len(one) != DIGEST_SIZE for one in taken):
        raise ValueError("a digest of another size")
    return as_table(taken)


def as_hex(table: Tensor) -> list[str]:
    """Return the hexadecimal digits of each row of a table."""
    text, size = table.contiguous().numpy().tobytes().hex(), 2 * DIGEST_SIZE
    return [text[start : start + size] for start in range(0, len(text), size)]
