"""Draw a folder of pictures to try the tutorial with: ``python make_pictures.py FOLDER CLASS=COUNT...``.

Each class is a pattern of cloth, in any two colours: checks, dots, plain, rings, stripes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64  # pixels
Field = np.ndarray
PATTERNS: dict[str, Callable[[Field, Field], Field]] = {
    "checks": lambda x, y: np.floor(x) + np.floor(y),
    "dots": lambda x, y: ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.08).astype(int),
    "plain": lambda x, y: 0 * x,
    "rings": lambda x, y: np.floor(np.hypot(x - x.mean(), y - y.mean())),
    "stripes": lambda x, y: np.floor(x),
}
"""Class -> whether a place is of the first colour (even) or of the second (odd); places are counted in repetitions."""


def picture(pattern: str, random: np.random.Generator) -> Image.Image:
    """Draw one picture of a class: its pattern at any scale and place, in any two colours that differ enough."""
    y, x = np.mgrid[:SIDE, :SIDE] / random.uniform(8, 14) + random.uniform(0, 2, size=(2, 1, 1))
    odd = PATTERNS[pattern](x, y) % 2 == 1
    dark, light = random.integers(0, 100, 3), random.integers(140, 256, 3)
    pixels = np.where(odd[..., None], dark, light) + random.normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main(folder: str, *classes: str) -> None:
    """Write the pictures of ``classes`` to ``folder``, a folder for each class."""
    random = np.random.default_rng(len(folder))
    for name, count in (each.split("=") for each in classes):
        place = Path(folder) / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(int(count)):
            picture(name, random).save(place / f"{number:03}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
