"""Randomness as an argument: every draw is a pure function of a key and of counters.

A run has no hidden random state. A :class:`Key` names a stream (seed, task, phase, epoch, purpose ...); within it a
draw is addressed by the position of the image in the epoch and by a slot (the k-th number that this image
needs). So the number of processes, of loader workers and of interruptions cannot change a draw, repeated copies of an
image differ, and the second pass of sharpness-aware minimisation can ask for other noise.

The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014) in counter mode, applied twice. It uses
wrapping 64-bit integer products and shifts alone, which give the same bits on CPU and GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB


def _signed(x: int) -> int:
    """Return the 64-bit pattern of ``x`` as torch's signed integer."""
    return x - (1 << 64) if x >= 1 << 63 else x


def _mix_int(z: int) -> int:
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    return z ^ (z >> 31)


def _mix(z: Tensor) -> Tensor:
    # torch has no unsigned 64-bit shift: mask off the bits that the arithmetic shift drags in.
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * _signed(_M1)
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * _signed(_M2)
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


def _word(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    return part & _MASK


@dataclass(frozen=True)
class Key:
    """The name of a random stream: 64 bits, made by folding words into a seed.

    >>> Key(0).fold("order", 3) == Key(0).fold("order").fold(3)
    True
    """

    value: int

    def fold(self, *parts: int | str) -> Key:
        """Return the key of a stream within this one; order matters, integers and names may be mixed."""
        value = self.value & _MASK
        for part in parts:
            value = _mix_int((_mix_int((value + _GOLDEN) & _MASK) + _word(part)) & _MASK)
        return Key(value)


def streams(key: Key, positions: Tensor) -> Tensor:
    """Return the stream of each position as an int64: all that a device needs to draw its numbers (:func:`bits_of`), so
    that noise of any size can be fed to a step as 64 bits.
    """
    return _mix((positions.to(torch.int64) + 1) * _signed(_GOLDEN) + _signed(key.value & _MASK))


def bits_of(streams: Tensor, slots: int | Tensor = 0) -> Tensor:
    """Return 64 random bits for each slot of ``streams``, as int64; both broadcast."""
    if isinstance(slots, Tensor):
        return _mix(streams + (slots.to(torch.int64) + 1) * _signed(_GOLDEN))
    return _mix(streams + _signed(((slots + 1) * _GOLDEN) & _MASK))


def bits(key: Key, positions: Tensor, slots: int | Tensor = 0) -> Tensor:
    """Return 64 random bits for each (position, slot), as int64; ``positions`` and ``slots`` broadcast."""
    return bits_of(streams(key, positions), slots)


def uniform(key: Key, positions: Tensor, slots: int | Tensor = 0) -> Tensor:
    """Return float32 uniform on [0, 1), multiples of 2^-24, the same on every device."""
    return uniform_of(streams(key, positions), slots)


def uniform_of(streams: Tensor, slots: int | Tensor = 0) -> Tensor:
    """Return the same of streams: float32 uniform on [0, 1)."""
    return ((bits_of(streams, slots) >> 40) & 0xFFFFFF).to(torch.float32) * (1.0 / (1 << 24))


def integers(key: Key, positions: Tensor, high: int | Tensor, slots: int | Tensor = 0) -> Tensor:
    """Return int64 uniform on {0, ..., high - 1}; the bias is below high / 2^32. ``high`` broadcasts too."""
    return (((bits(key, positions, slots) >> 32) & 0xFFFFFFFF) * high) >> 32


def normal(key: Key, positions: Tensor, slots: int | Tensor = 0) -> Tensor:
    """Return float32 standard normal by inversion, computed in double so that devices agree."""
    return normal_of(bits(key, positions, slots))


def normal_of(random: Tensor) -> Tensor:
    """Return float32 standard normal numbers of random bits (:func:`bits_of`)."""
    return torch.special.ndtri((((random >> 12) & ((1 << 52) - 1)).to(torch.float64) + 0.5) / (1 << 52)).float()


def permutation(key: Key, count: int) -> Tensor:
    """Return a random order of 0 .. count - 1, on the CPU."""
    return torch.argsort(bits(key, torch.arange(count)), stable=True)


def scalar(key: Key) -> float:
    """Return one double uniform on (0, 1), on the host."""
    return ((_mix_int(key.value & _MASK) >> 12) + 0.5) / (1 << 52)


@contextmanager
def torch_seeded(key: Key) -> Iterator[None]:
    """Let torch's own initialisers draw from ``key`` within the block; restore the global CPU stream after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key.value & _MASK)
        yield
