"""Figures for a page: the same bytes each time, with ids of their own; images side by side."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cl_lightning.report.drawing import INK
from cl_lightning.report.pictures import inline_svg, strip, strip_png, to_png, to_svg


def figure() -> Figure:
    made = Figure(figsize=(2, 1))
    axes = made.subplots()
    axes.plot([0, 1], [0, 1], marker="o")
    axes.set_title("a title", color=INK)
    return made


@pytest.fixture(scope="module")
def svg() -> str:
    return to_svg(figure())


def test_one_figure_is_always_the_same_bytes(svg: str) -> None:
    assert to_svg(figure()) == svg
    assert to_png(figure()) == to_png(figure())
    assert "a title" in svg, "text stays text"
    assert "Matplotlib" not in to_png(figure()).decode("latin-1")


def test_a_png_is_on_white_and_large_enough_for_slides() -> None:
    image = Image.open(io.BytesIO(to_png(figure()))).convert("RGB")
    assert image.size == (400, 200)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_in_a_page_a_figure_has_ids_of_its_own_and_the_page_s_ink(svg: str) -> None:
    element = inline_svg(svg, "curves", "accuracy")
    assert element.startswith('<svg role="img" aria-label="accuracy"')
    ids = re.findall(r'\bid="([^"]+)"', element)
    assert ids
    assert len(ids) == len(set(ids))
    assert all(each.startswith("curves-") for each in ids)
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', element)
    assert used
    assert {one or other for one, other in used} <= set(ids)
    assert INK not in element
    assert "currentColor" in element
    assert "<metadata>" not in element
    assert 'style="max-width:' in element[:400]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_side_by_side_with_a_black_pixel_between_them(channels: int) -> None:
    images = np.full((3, 2, 4, channels), 200, np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None, None]
    found = np.array(Image.open(io.BytesIO(strip_png(images))))
    assert found.shape == (2, 3 * 4 + 2) if channels == 1 else (2, 14, 3)
    row = found[0] if channels == 1 else found[0, :, 0]
    assert row.tolist() == [200] * 4 + [0] + [201] * 4 + [0] + [202] * 4


def test_a_strip_in_a_page_is_the_same_file() -> None:
    images = np.zeros((1, 2, 2, 1), np.uint8)
    head, _, data = strip(images).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == strip_png(images)
