"""Cells of CSV files: no formula, the very text for whoever takes the apostrophe away, numbers as they are."""

from __future__ import annotations

import csv
import io

import pytest

from cl_lightning.core.csv_cells import cell, file_cell, line_of, text_of

TEXTS = [
    "cat",
    "",
    "=1+1",
    "@sum",
    "+x",
    "-x",
    "\t=1",
    "\r=1",
    "'=1",
    "''@",
    "'tis",
    "-",
    "\uff1dx",
    "1-2",
    "a=b",
    "-1",
    "- 1",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_very_text_comes_back(text: str) -> None:
    assert text_of(cell(text)) == text


@pytest.mark.parametrize("text", ["=1+1", "@sum", "+x", "-x", "-1+cmd|' /c calc'!a0", "\t=1", "\r=1", "\uff1dx", "-1e"])
def test_nothing_that_is_run_begins_a_cell(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert file_cell(text) == f"./{text}"


@pytest.mark.parametrize("number", ["-0.5", "+1", "-1e-05", "12", ".5", "-3."])
def test_numbers_stay_numbers(number: str) -> None:
    assert cell(number) == number


def test_lines_are_those_of_csv_and_come_back() -> None:
    rows = [["a", "b,c", 'say "x"', ""], ["\r", "x\ny", "'=1", " y "]]
    text = "".join(map(line_of, rows))
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerow(rows[0])
    assert line_of(rows[0]) == written.getvalue()
