"""Different operations on the images of one batch, one for each image, without a loop over images.

Images are sorted by operation, so that an operation gets one contiguous part of them; similar operations run together
(tables of grey levels, blends, slides of rows and columns). Operations are chosen on the host and only the pixels are
processed on the images' device: the sizes of all parts are known without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby

import torch
from torch import Tensor

from cl_lightning.data.augmentation import geometric, photometric


class Operation(IntEnum):
    """RandAugment's operations, numbered so that those that run together are neighbours."""

    AUTO_CONTRAST = 0
    EQUALISE = 1
    INVERT = 2
    POSTERISE = 3
    SOLARISE = 4
    SOLARISE_ADD = 5
    BRIGHTNESS = 6
    CONTRAST = 7
    COLOUR = 8
    SHARPNESS = 9
    SHEAR_X = 10
    TRANSLATE_X = 11
    SHEAR_Y = 12
    TRANSLATE_Y = 13
    ROTATE = 14


def apply(images: Tensor, operations: Tensor, arguments: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """Apply one operation an image to uint8 images (B, C, H, W), C = 3 or 1; the input is not changed.

    ``operations`` (B,) int64 holds an :class:`Operation`, or -1 for none, and ``arguments`` (B,) float64 its argument;
    both are on the host. ``fill`` is the RGB colour of what geometric operations uncover; grey images get its luma.
    """
    unchanged, *sizes = torch.bincount(operations + 1, minlength=len(Operation) + 1).tolist()
    order = operations.argsort(stable=True)
    pixels = images.index_select(0, order.to(images.device, non_blocking=True)).split([unchanged, *sizes])
    values = arguments[order[unchanged:]].to(images.device, non_blocking=True).split(sizes)
    parts = [
        Part(operation, _upright(operation, chosen), numbers)
        for operation, chosen, numbers in zip(Operation, pixels[1:], values, strict=True)
        if len(chosen)
    ]
    colour = _fill(fill, images)
    done = [family(list(members), colour) for (family, _), members in groupby(parts, _group)]
    return torch.cat([pixels[0], *done]).index_select(0, order.argsort().to(images.device, non_blocking=True))


def _fill(fill: tuple[int, int, int], images: Tensor) -> Tensor:
    colour = torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1)
    if images.shape[1] == 1:
        colour = photometric.luma(colour[None])[0].to(torch.uint8)
    return colour.to(images.device, non_blocking=True)


@dataclass(frozen=True)
class Part:
    """The images of one operation, and its argument for each of them."""

    operation: Operation
    images: Tensor
    """(n, C, H, W), or (n, C, W, H) for operations that slide columns."""
    arguments: Tensor


def _group(part: Part) -> tuple[Family, torch.Size]:
    """Return the key of parts that run together; operations on rows and columns do so where images are square."""
    return FAMILIES[part.operation], part.images.shape[1:]


TABLES: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    Operation.AUTO_CONTRAST: photometric.auto_contrast,
    Operation.EQUALISE: photometric.equalise,
    Operation.INVERT: photometric.invert,
    Operation.POSTERISE: photometric.posterise,
    Operation.SOLARISE: photometric.solarise,
    Operation.SOLARISE_ADD: photometric.solarise_add,
}
BASES: dict[Operation, Callable[[Tensor], Tensor]] = {
    Operation.BRIGHTNESS: photometric.black,
    Operation.CONTRAST: photometric.mean_luma,
    Operation.COLOUR: photometric.luma,
    Operation.SHARPNESS: photometric.smooth,
}
SHIFTS: dict[Operation, Callable[[Tensor, int, int], Tensor]] = {
    Operation.SHEAR_X: geometric.shear_shifts,
    Operation.TRANSLATE_X: geometric.translation_shifts,
    Operation.SHEAR_Y: geometric.shear_shifts,
    Operation.TRANSLATE_Y: geometric.translation_shifts,
}


def _images(parts: list[Part]) -> Tensor:
    return torch.cat([part.images for part in parts])


def _look_up(parts: list[Part], _: Tensor) -> Tensor:
    tables = [TABLES[part.operation](part.images, part.arguments) for part in parts]
    return photometric.look_up(_images(parts), torch.cat(tables))


def _blend(parts: list[Part], _: Tensor) -> Tensor:
    bases = [BASES[part.operation](part.images).expand_as(part.images) for part in parts]
    return photometric.blend(torch.cat(bases), _images(parts), torch.cat([part.arguments for part in parts]))


def _slide(parts: list[Part], fill: Tensor) -> Tensor:
    images = _images(parts)
    shifts = [SHIFTS[part.operation](part.arguments, *images.shape[2:]) for part in parts]
    moved = geometric.slide_rows(images, torch.cat(shifts), fill).split([len(part.images) for part in parts])
    return torch.cat([_upright(part.operation, lines) for part, lines in zip(parts, moved, strict=True)])


def _rotate(parts: list[Part], fill: Tensor) -> Tensor:
    (part,) = parts
    return geometric.rotate(part.images, part.arguments, fill)


def _upright(operation: Operation, images: Tensor) -> Tensor:
    """Transpose columns into rows, and back, for an operation that slides columns."""
    return images.mT if operation in (Operation.SHEAR_Y, Operation.TRANSLATE_Y) else images


Family = Callable[[list[Part], Tensor], Tensor]
"""Function that applies neighbouring operations together: (parts, fill) -> images in the parts' order."""

FAMILIES: dict[Operation, Family] = {
    **dict.fromkeys(TABLES, _look_up),
    **dict.fromkeys(BASES, _blend),
    **dict.fromkeys(SHIFTS, _slide),
    Operation.ROTATE: _rotate,
}
