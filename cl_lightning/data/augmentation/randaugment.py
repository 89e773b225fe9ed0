"""RandAugment (Cubuk et al. 2020) as DyTox trains with it: timm's policy ``rand-m9-mstd0.5-inc1``, per image, in batch.

This file only chooses the operations of each image: a few numbers, a pure function of key and position, computed on the
host so that they are the same for every device. ``operations`` applies them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.data.augmentation.operations import Operation

MAX_MAGNITUDE = 10.0
"""Upper end of the scale of magnitudes, as in timm."""


@dataclass(frozen=True)
class Scale:
    """Argument of an operation at magnitude m: ``rest + reach * m / 10``, the second term signed or truncated."""

    rest: float = 0.0
    reach: float = 0.0
    signed: bool = False
    whole: bool = False


SCALES: dict[Operation, Scale] = {
    Operation.AUTO_CONTRAST: Scale(),
    Operation.EQUALISE: Scale(),
    Operation.INVERT: Scale(),
    Operation.POSTERISE: Scale(rest=4, reach=-4, whole=True),  # bits kept
    Operation.SOLARISE: Scale(rest=256, reach=-256, whole=True),  # first level that is inverted
    Operation.SOLARISE_ADD: Scale(reach=110, whole=True),  # levels added
    Operation.BRIGHTNESS: Scale(rest=1, reach=0.9, signed=True),  # blend factors
    Operation.CONTRAST: Scale(rest=1, reach=0.9, signed=True),
    Operation.COLOUR: Scale(rest=1, reach=0.9, signed=True),
    Operation.SHARPNESS: Scale(rest=1, reach=0.9, signed=True),
    Operation.SHEAR_X: Scale(reach=0.3, signed=True),  # pixels a row
    Operation.TRANSLATE_X: Scale(reach=0.45, signed=True),  # share of the width
    Operation.SHEAR_Y: Scale(reach=0.3, signed=True),
    Operation.TRANSLATE_Y: Scale(reach=0.45, signed=True),
    Operation.ROTATE: Scale(reach=30, signed=True),  # degrees
}
"""timm's "increasing" scales: a larger magnitude always changes the image more."""

SCALE_TABLE = torch.tensor(
    [(scale.rest, scale.reach, scale.signed, scale.whole) for scale in map(SCALES.__getitem__, Operation)],
    dtype=torch.float64,
).T


@dataclass(frozen=True)
class RandAugment:
    """The policy: ``num_ops`` operations drawn with replacement, each then applied or not.

    Raises ``ValueError`` for values outside the ranges given below.
    """

    num_ops: int = 2
    """Rounds, at least 1."""
    magnitude: float = 9.0
    """Mean strength, 0 to 10."""
    magnitude_std: float = 0.5
    """Standard deviation of the strength of each application, at least 0; draws are clipped to 0 .. 10."""
    probability: float = 0.5
    """Probability of applying an operation that was drawn."""
    fill: tuple[int, int, int] = (124, 116, 104)
    """RGB of the area that rotations, shears and translations uncover; grey images get its luma."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for values that could only fail, or act otherwise than stated, while training."""
        fill_is_colour = len(self.fill) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in self.fill)
        for name, allowed, valid in (
            ("num_ops", "a whole number, at least 1", isinstance(self.num_ops, int) and self.num_ops >= 1),
            ("magnitude", "in [0, 10]", 0 <= self.magnitude <= MAX_MAGNITUDE),
            ("magnitude_std", "finite and at least 0", 0 <= self.magnitude_std < math.inf),
            ("probability", "in [0, 1]", 0 <= self.probability <= 1),
            ("fill", "three whole numbers in 0..255", fill_is_colour),
        ):
            if not valid:
                raise InvalidSettingError(name, getattr(self, name), f"must be {allowed}")


@dataclass(frozen=True)
class Choices:
    """Operations of each image in each round; on the host."""

    operations: Tensor
    """(rounds, B) int64 :class:`Operation`, or -1 where the round leaves the image alone."""
    arguments: Tensor
    """(rounds, B) float64 in the operation's unit."""


def draw(policy: RandAugment, key: rng.Key, positions: Tensor) -> Choices:
    """Choose operations and strengths; an image's draws depend on the key and on its own position (B,) alone."""
    positions = positions.cpu()
    slots = torch.arange(3 * policy.num_ops)[:, None]
    choice, doubt, coin = rng.uniform(key.fold("choice"), positions, slots).view(3, policy.num_ops, -1)
    noise = rng.normal(key.fold("strength"), positions, slots[: policy.num_ops]).to(torch.float64)
    operations = (choice * len(Operation)).to(torch.int64)
    magnitudes = (policy.magnitude + policy.magnitude_std * noise).clamp_(0, MAX_MAGNITUDE)
    rest, reach, signed, whole = SCALE_TABLE[:, operations]
    change = magnitudes / MAX_MAGNITUDE * reach
    change = torch.where(whole > 0, change.trunc(), change)
    change = torch.where((signed > 0) & (coin < 0.5), -change, change)
    return Choices(torch.where(doubt < policy.probability, operations, -1), rest + change)
