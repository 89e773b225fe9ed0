"""A scenario without images, on which networks and methods are built."""

from __future__ import annotations

from collections.abc import Sequence

from cl_lightning.data.scenarios.scenario import Scenario, without_images


def tasks(sizes: Sequence[int] = (2, 2, 2), image_size: int = 32, channels: int = 3) -> Scenario:
    return without_images("toy", [f"class {label}" for label in range(sum(sizes))], sizes, image_size, channels)
