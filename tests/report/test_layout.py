"""Paragraphs, lists and grids as Markdown and for a terminal."""

from __future__ import annotations

from cl_lightning.report.layout import Block, Grid, Items, as_markdown, as_text

BLOCKS: list[Block] = [
    "A **bold** word and `code`.",
    Items(["one", "two"]),
    Grid(["a", "b|c"], [["**1**", "x|y"], ["22", "z"]]),
]


def test_markdown() -> None:
    assert as_markdown(BLOCKS) == (
        "A **bold** word and `code`.\n\n- one\n- two\n\n| a | b\\|c |\n| --- | --- |\n| **1** | x\\|y |\n| 22 | z |\n"
    )


def test_text_for_a_terminal() -> None:
    assert as_text(BLOCKS, 80) == "A bold word and code.\n\n  - one\n  - two\n\na   b|c\n1   x|y\n22  z\n"


def test_long_cells_are_folded_and_narrow_terminals_get_sixty_characters() -> None:
    lines = as_text([Grid(["a", "b"], [["x" * 100, "y"]])], 10).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.count("x") for line in lines) == 100


def test_control_characters_stay_out_of_a_terminal() -> None:
    assert "\x1b" not in as_text(["a\x1b[31mb"], 80)
