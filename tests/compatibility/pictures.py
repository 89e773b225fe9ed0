"""Folders of small pictures that are the same, byte for byte, on any machine: made of integers, kept as PNG files that
no compressor had a part in.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path


def write_pictures(root: Path, classes: dict[str, int], *, each: int = 20, side: int = 12) -> Path:
    """``root/<class>/<number>.png``, ``side`` x ``side`` pixels in colour; a class has a name and stripes of its own.

    Stripes differ in direction, width and colour from one number to the next; each picture has noise of its own.
    """
    for name, stripes in classes.items():
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(each):
            (folder / f"{number:03d}.png").write_bytes(png(_striped(stripes, number, side), side))
    return root


def write_digits(root: Path, each: int = 2) -> None:
    """``root/digit_<d>/<row>.png``: the last ones of scikit-learn's digits 0 to 3."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    for digit in range(4):
        folder = root / f"digit_{digit}"
        folder.mkdir()
        for row in (labels == digit).nonzero()[0][-each:].tolist():
            pixels = bytes((int(value) * 255 + 8) // 16 for value in values[row] for _ in range(3))
            (folder / f"{row:04d}.png").write_bytes(png(pixels, 8))


def _striped(stripes: int, number: int, side: int) -> bytes:
    """(side, side, 3) uint8."""
    noise = hashlib.shake_256(f"{stripes}/{number}".encode()).digest(side * side * 3 + 1)
    start, across, down, width = noise[-1] % 7, stripes % 3, 1 + stripes % 2, 2 + stripes % 4
    pixels = bytearray()
    for y in range(side):
        for x in range(side):
            bright = ((start + across * x + down * y) // width) % 2
            for channel in range(3):
                base = 150 if bright and (stripes + channel) % 3 else 40
                pixels.append(base + noise[len(pixels)] % 80)
    return bytes(pixels)


def png(pixels: bytes, side: int) -> bytes:
    """A PNG file of 8-bit RGB, its data in a single stored block: libraries that compress differ, this does not."""
    row = 3 * side
    data = b"".join(b"\0" + pixels[at : at + row] for at in range(0, len(pixels), row))
    if len(data) > 0xFFFF:
        raise ValueError(f"{side} x {side} pixels do not fit into one stored block")
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data
    stored += struct.pack(">I", zlib.adler32(data))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", stored), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
