"""Resampling by hand: where a pixel comes from, what the cubic weighs, what is uncovered."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cl_lightning.data.augmentation.geometric import rotate, shear_shifts, slide_rows, translation_shifts

FILL = torch.tensor([7, 8, 9], dtype=torch.uint8).view(3, 1, 1)


def random_images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def kernel(distance: float) -> float:
    """Keys' cubic with a = -1."""
    t = abs(distance)
    if t <= 1:
        return t**3 - 2 * t**2 + 1
    return -(t**3) + 5 * t**2 - 8 * t + 4 if t < 2 else 0.0


def sample(plane: list[list[int]], x: float, y: float, fill: int) -> int:
    """One output pixel of Pillow's bicubic transform, from the definition."""
    height, width = len(plane), len(plane[0])
    if not (0 <= x < width and 0 <= y < height):
        return fill
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    total = 0.0
    for row in range(top - 1, top + 3):
        for column in range(left - 1, left + 3):
            level = plane[min(max(row, 0), height - 1)][min(max(column, 0), width - 1)]
            total += kernel(y - 0.5 - row) * kernel(x - 0.5 - column) * level
    return int(min(max(total + 1e-9, 0), 255))


@pytest.mark.parametrize("degrees", [0.0, 13.7, -27.3, 30.0, 90.0, 135.0])
def test_rotation_equals_its_definition(degrees: float) -> None:
    images = random_images(1, 3, 5, 7)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    got = rotate(images, torch.tensor([degrees], dtype=torch.float64), FILL)[0].tolist()
    for channel, plane in enumerate(images[0].tolist()):
        for row in range(5):
            for column in range(7):
                x, y = column + 0.5 - 3.5, row + 0.5 - 2.5
                expected = sample(plane, cos * x - sin * y + 3.5, sin * x + cos * y + 2.5, 7 + channel)
                assert abs(got[channel][row][column] - expected) <= 1, (channel, row, column)


def test_a_quarter_turn_of_a_square_is_anticlockwise() -> None:
    images = random_images(2, 3, 6, 6)
    quarters = rotate(images, torch.tensor([90.0, 180.0], dtype=torch.float64), FILL)
    inner = (..., slice(1, -1), slice(1, -1))  # rounding of the angle decides whether the rim is outside
    expected = torch.stack([torch.rot90(images[0], 1, (1, 2)), torch.rot90(images[1], 2, (1, 2))])
    assert (quarters[inner].int() - expected[inner].int()).abs().max() <= 1


def test_constant_images_lose_no_level_to_rounding() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 9, 9).contiguous()
    turned = rotate(images, torch.linspace(-30, 30, 256, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert torch.equal(turned[:, :, 3:6, 3:6], images[:, :, 3:6, 3:6])
    shifts = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None].expand(-1, 9)
    slid = slide_rows(images, shifts, torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert torch.equal(slid[..., 2:7], images[..., 2:7])


def test_a_slide_by_whole_pixels_copies() -> None:
    images = random_images(1, 3, 3, 5)
    moved = slide_rows(images, torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64), FILL)
    for channel in range(3):
        fill = 7 + channel
        rows = images[0, channel].tolist()
        assert moved[0, channel].tolist() == [[*rows[0][2:], fill, fill], rows[1], [fill, *rows[2][:4]]]


def test_a_slide_by_half_a_pixel_weighs_four_neighbours() -> None:
    """At 1/2 the weights are -1/8, 5/8, 5/8, -1/8; the rim's pixel stands in for what is beyond it."""
    images = torch.tensor([[[[80, 160, 40, 240, 0]]]], dtype=torch.uint8)
    moved = slide_rows(images, torch.tensor([[0.5]], dtype=torch.float64), torch.full((1, 1, 1), 3, dtype=torch.uint8))
    #  (5 (80 + 160) - 80 - 40) / 8, (5 (160 + 40) - 80 - 240) / 8, (5 (40 + 240) - 160) / 8, (5 * 240 - 40) / 8
    assert moved.flatten().tolist() == [135, 85, 155, 145, 3]


def test_what_looks_just_outside_is_filled() -> None:
    """A pixel looks at its centre, half a pixel in: a slide by exactly half a pixel to the left still finds the rim."""
    images = torch.full((1, 1, 1, 4), 50, dtype=torch.uint8)
    fill = torch.full((1, 1, 1), 3, dtype=torch.uint8)
    for shift, expected in ((-0.5, [50] * 4), (-0.51, [3, 50, 50, 50]), (0.49, [50] * 4), (0.5, [50, 50, 50, 3])):
        moved = slide_rows(images, torch.tensor([[shift]], dtype=torch.float64), fill)
        assert moved.flatten().tolist() == expected, shift


def test_shifts_by_hand() -> None:
    factors = torch.tensor([0.5, -0.1], dtype=torch.float64)
    torch.testing.assert_close(shear_shifts(factors, 3, 9)[0].tolist(), [0.25, 0.75, 1.25])
    assert translation_shifts(factors, 3, 9).tolist() == [[4.5] * 3, [-0.9] * 3]
