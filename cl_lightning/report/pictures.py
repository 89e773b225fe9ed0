"""Figures and images for a page: SVG in the page's colours, and PNG as data URIs."""

from __future__ import annotations

import base64
import io
import re

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cl_lightning.report.drawing import INK, in_style

_DOTS = 200
"""Dots an inch of a PNG: 800 across a figure of one column."""


def to_svg(figure: Figure) -> str:
    """Return the figure as an SVG file; the same bytes for the same figure."""
    text = io.StringIO()
    with in_style(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG on white, for slides and mails."""
    data = io.BytesIO()
    with in_style():
        figure.savefig(data, format="png", dpi=_DOTS, facecolor="white", metadata={"Software": None})
    return data.getvalue()


def inline_svg(svg: str, name: str, label: str, smallest: float = 0.8) -> str:
    """Return the ``<svg>`` element of a figure for a page.

    It is as wide as drawn, or as there is room for; where that is less than ``smallest`` of its width, it is to be
    scrolled. Its ink and its type are the page's. Its ids are its own, since a page holds several figures. It counts in
    hundredths of a point instead of millionths.
    """
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r"(?<=[\w+/=,])\n(?=[\w+/=]+[\n\"])", "", element)  # within the data of a picture
    element = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", element))
    element = re.sub(
        r'(?<=<svg)([^>]*?) width="([\d.]+)pt" height="[\d.]+pt"',
        lambda match: f'{match[1]} style="max-width:{match[2]}pt;min-width:{smallest * float(match[2]):.0f}pt"',
        element,
        count=1,
    )
    element = element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    element = re.sub(r"font-family: [^;\"]*;? ?", "", element)
    element = re.sub(r' transform="rotate\(-0 [^"]*"', "", element)
    element = re.sub(r' (?:d|x|y|transform|points)="[^"]*"', lambda match: _rounded(match[0]), element)
    return _own_ids(element, name).replace(INK, "currentColor").strip()


def _rounded(attribute: str) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute)


def _own_ids(element: str, name: str) -> str:
    """Put a name before the ids that are referred to and remove all others, and repeated ones: matplotlib names an
    element after its content, so that equal elements share an id.
    """
    used = {one or other for one, other in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', element)}
    seen: set[str] = set()

    def renamed(match: re.Match[str]) -> str:
        keep = match[1] in used and match[1] not in seen
        seen.add(match[1])
        return f' id="{name}-{match[1]}"' if keep else ""

    element = re.sub(r'\s+id="([^"]+)"', renamed, element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", element)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', element)


def strip(images: NDArray[np.uint8]) -> str:
    """Return :func:`strip_png` as a data URI."""
    return "data:image/png;base64," + base64.b64encode(strip_png(images)).decode("ascii")


def strip_png(images: NDArray[np.uint8]) -> bytes:
    """Return a PNG of images (n, H, W, channels) side by side, with a pixel between them."""
    apart = [np.pad(image, ((0, 0), (0, 1), (0, 0))) for image in images]
    row = np.concatenate(apart, axis=1)[:, :-1]
    data = io.BytesIO()
    Image.fromarray(row.squeeze(-1) if row.shape[-1] == 1 else row).save(data, format="PNG", optimize=True)
    return data.getvalue()
