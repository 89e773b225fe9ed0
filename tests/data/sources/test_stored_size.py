"""The bytes of images where they are stored: pixels, files, and both."""

from __future__ import annotations

from pathlib import Path

import torch

from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.concat import ConcatSource
from cl_lightning.data.sources.stored_size import stored_bytes

NAMES = ("cat", "dog")


def array(number: int = 4) -> ArraySource:
    return ArraySource("made", torch.zeros(number, 3, 8, 8, dtype=torch.uint8), torch.arange(number) % 2, NAMES)


def folder(root: Path) -> FolderSource:
    for size, path in enumerate(("cat/1.png", "cat/2.png", "dog/3.png"), 1):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"x" * 100 * size)
    return FolderSource("own", root, ("cat/1.png", "cat/2.png", "dog/3.png"), torch.tensor([0, 0, 1]), NAMES)


def test_of_arrays_the_pixels_and_of_folders_the_files(tmp_path: Path) -> None:
    assert stored_bytes(array(), torch.tensor([0, 3])) == 2 * 3 * 8 * 8
    assert stored_bytes(array(), torch.empty(0, dtype=torch.int64)) == 0
    files = folder(tmp_path)
    assert stored_bytes(files, torch.tensor([0, 2])) == 100 + 300
    (tmp_path / "dog/3.png").unlink()
    assert stored_bytes(files, torch.tensor([0, 2])) == 100, "what is gone takes no room"


def test_of_several_tables_the_sum(tmp_path: Path) -> None:
    joined = ConcatSource("joined", (array(4), folder(tmp_path)))
    assert stored_bytes(joined, torch.tensor([1, 4, 6])) == 3 * 8 * 8 + 100 + 300
