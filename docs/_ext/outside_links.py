"""Links between pages and Markdown that lies outside docs/, which the site has as pages of their own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
PAGES = {
    "CHANGELOG.md": "reference/changelog.md",
    "SECURITY.md": "reference/security.md",
    "tests/compatibility/README.md": "reference/earlier_runs.md",
    "tests/golden/README.md": "reference/golden_vectors.md",
}
"""File, from the root of the checkout -> the page that includes it."""
_LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)")


def redirected(text: str, file: Path, page: Path) -> str:
    """Return the text of ``file``, whose links are relative to it, as a part of ``page``, relative to that."""

    def link(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(file.parent / found[1]))
        outside = os.path.relpath(target, DOCS.parent)
        if outside in PAGES:
            target = DOCS / PAGES[outside]
        return f"]({os.path.relpath(target, page.parent)}{found[2] or ''})"

    return _LINK.sub(link, text)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    file = Path(app.env.doc2path(docname))
    if file.suffix == ".md":
        source[0] = redirected(source[0], file, file)


def _include(app: Sphinx, path: Path, _docname: str, source: list[str]) -> None:
    if path.suffix == ".md":  # MyST hands over a page's name without its folder
        source[0] = redirected(source[0], DOCS / path, Path(app.env.doc2path(app.env.docname)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Rewrite links whenever a page, or a part of one, is read."""
    app.connect("source-read", _read)
    app.connect("include-read", _include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
