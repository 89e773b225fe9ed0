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

from cl_lightning.report.figures import INK


def to_svg(figure: Figure) -> str:
    """Return the figure as an SVG file; the same bytes for the same figure."""
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG on white, for slides and mails."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return data.getvalue()


def inline_svg(svg: str, name: str, label: str) -> str:
    """Return the ``<svg>`` element of a figure for a page: of the page's width, ink in the colour of the text, and with
    ids of its own, since a page holds several.
    """
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(
        r'(<svg[^>]*?) width="([\d.]+)pt" height="[\d.]+pt"', r'\1 style="max-width:\2pt"', element, count=1
    )
    element = element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    element = _once(re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', element))
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", element)
    element = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', element)
    return element.replace(INK, "currentColor").strip()


def _once(element: str) -> str:
    """Remove repeated ids: matplotlib names an element after its content, so that equal elements share an id."""
    seen: set[str] = set()

    def first(match: re.Match[str]) -> str:
        new = match[0] not in seen
        seen.add(match[0])
        return match[0] if new else ""

    return re.sub(r'\bid="[^"]+"', first, element)


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
