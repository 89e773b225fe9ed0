"""Figures as files: the format of the suffix, and equal files for equal figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cl_lightning.report.figure_file import save


def figure() -> Figure:
    made = Figure(figsize=(2, 1))
    made.add_subplot().plot([1, 2], label="a")
    return made


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_formats_and_equal_files_for_equal_figures(tmp_path: Path, name: str, begins: bytes) -> None:
    contents = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(figure(), tmp_path / folder / name)
        contents.append((tmp_path / folder / name).read_bytes())
    assert contents[0].startswith(begins)
    assert contents[0] == contents[1]
