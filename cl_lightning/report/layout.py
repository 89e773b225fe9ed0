"""Paragraphs, lists and grids, written as Markdown for a page or as plain text for a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from cl_lightning.core.printable import printable
from cl_lightning.report.table import plain_console


@dataclass(frozen=True)
class Grid:
    """A table of short texts; ``**`` and `` ` `` mark bold and code, as in Markdown."""

    heads: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[str]


Block = str | Grid | Items


def as_markdown(blocks: Sequence[Block]) -> str:
    """Return blocks with blank lines between them."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case str():
            return block
        case Items(items):
            return "\n".join(f"- {item}" for item in items)
        case Grid(heads, lines):
            cells = [[cell.replace("|", "\\|") for cell in line] for line in [heads, ["---"] * len(heads), *lines]]
            return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def as_text(blocks: Sequence[Block], width: int) -> str:
    """Return the blocks for a terminal of ``width`` characters, at least 60: long cells are folded."""
    stream = io.StringIO()
    console = plain_console(stream, max(width, 60))
    for block in blocks:
        _print(console, block)
        console.print()
    return "\n".join(printable(line.rstrip()) for line in stream.getvalue().split("\n")).rstrip() + "\n"


def _print(console: Console, block: Block) -> None:
    match block:
        case str():
            console.print(_plain(block))
        case Items(items):
            for item in items:
                console.print(Padding("- " + _plain(item), (0, 0, 0, 2)))
        case Grid(heads, lines):
            table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
            for head in heads:
                table.add_column(_plain(head), overflow="fold", vertical="top")
            for line in lines:
                table.add_row(*map(_plain, line))
            console.print(table)


def _plain(text: str) -> str:
    return text.replace("**", "").replace("`", "")
