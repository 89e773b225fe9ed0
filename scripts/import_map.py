"""Draw the map of the packages from the import contract: `python scripts/import_map.py [--check]`.

The contract (`pyproject.toml`, `[tool.importlinter]`) is what import-linter enforces. The figure docs/import_map.svg
and the rules in docs/ARCHITECTURE.md are made from it, so that neither is written by hand. With --check nothing is
written, and the exit code is 1 if one of them is not what the contract gives.
"""

from __future__ import annotations

import sys
import textwrap
import tomllib
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "cl_lightning"
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
FIGURE = ROOT / "docs" / "import_map.svg"
FIRST, LAST = "<!-- import map -->", "<!-- /import map -->"

WIDTH, BOX, GAP, MARGIN, LETTER = 760, 30, 26, 14, 8.2
"""Pixels of the figure: its width, the height of a box, from box to box downwards, around them, and of a letter."""


def contracts() -> list[dict[str, Any]]:
    """Return the contracts, as they stand in ``pyproject.toml``."""
    read: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return read


def layers() -> list[list[str]]:
    """Return the names of packages and modules on each layer, from the top."""
    (found,) = (contract["layers"] for contract in contracts() if contract["type"] == "layers")
    return [[_named(name) for name in layer.split(" | ")] for layer in found]


def _named(name: str) -> str:
    """Return ``bundle/`` for a package, ``predict.py`` for a module."""
    return f"{name}.py" if (ROOT / PACKAGE / f"{name}.py").is_file() else f"{name}/"


def rules() -> str:
    """Return the layers as an alternative text of the figure, and what is forbidden beyond them."""
    drawn = "; ".join(" ".join(names) for names in layers())
    alternative = f"The packages from top to bottom, an arrow from each row to the next: {drawn}."
    shown = f"![{alternative.replace('_', chr(92) + '_')}](import_map.svg)"
    image = "\n".join(textwrap.wrap(shown, 118, break_long_words=False))
    more = [contract for contract in contracts() if contract["type"] == "forbidden"]
    return f"{image}\n\nForbidden besides:\n\n" + "\n".join(map(_rule, more))


def _rule(contract: dict[str, Any]) -> str:
    who, whom = (
        ", ".join(f"`{module.removeprefix(f'{PACKAGE}.')}`" for module in contract[key])
        for key in ("source_modules", "forbidden_modules")
    )
    return f"- {contract['name']}:\n  {who} imports none of {whom}."


def figure() -> str:
    """Return the layers as boxes, each above those that it may import."""
    rows = layers()
    height = 2 * MARGIN + len(rows) * BOX + (len(rows) - 1) * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title">',
        '<title id="title">The packages from top to bottom: each imports only what stands below it, '
        "and never its neighbour</title>",
        "<style>text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328; "
        "text-anchor: middle; } .box { fill: #ddf4ff; stroke: #0969da; } .card { fill: #fff; } "
        ".line { stroke: #59636e; stroke-width: 1.6; } .tip { fill: #59636e; }</style>",
        f'<rect class="card" width="{WIDTH}" height="{height}" rx="6"/>',
    ]
    for index, names in enumerate(rows):
        top = MARGIN + index * (BOX + GAP)
        parts += _row(names, top)
        if index < len(rows) - 1:
            parts += _arrow(top + BOX, top + BOX + GAP)
    return "\n".join([*parts, "</svg>", ""])


def _row(names: list[str], top: int) -> list[str]:
    widths = [LETTER * len(name) + 24 for name in names]
    left = (WIDTH - sum(widths) - 12 * (len(names) - 1)) / 2
    parts = []
    for name, width in zip(names, widths, strict=True):
        parts.append(f'<rect class="box" x="{left:.0f}" y="{top}" width="{width:.0f}" height="{BOX}" rx="4"/>')
        parts.append(f'<text x="{left + width / 2:.0f}" y="{top + 20}">{escape(name)}</text>')
        left += width + 12
    return parts


def _arrow(top: int, end: int) -> list[str]:
    middle = WIDTH // 2
    return [
        f'<line class="line" x1="{middle}" y1="{top + 3}" x2="{middle}" y2="{end - 10}"/>',
        f'<path class="tip" d="M{middle - 5} {end - 11} h10 l-5 8 z"/>',
    ]


def with_rules(text: str) -> str:
    """Return the text of the page with the part between the markers replaced."""
    assert text.count(FIRST) == text.count(LAST) == 1, f"{PAGE} has no place for the map"
    before, _, rest = text.partition(FIRST)
    return f"{before}{FIRST}\n\n{rules()}\n\n{LAST}{rest.partition(LAST)[2]}"


def main(arguments: list[str]) -> int:
    """Write both files, or check them; returns the exit code."""
    made = {PAGE: with_rules(PAGE.read_text(encoding="utf-8")), FIGURE: figure()}
    stale = [file for file, text in made.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    if arguments == ["--check"]:
        for file in stale:
            print(f"{file.relative_to(ROOT)} is not what the import contract gives: type python scripts/import_map.py")
        return int(bool(stale))
    for file in stale:
        file.write_text(made[file], encoding="utf-8")
        print(f"wrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
