"""A checkpoint names images, not rows; it is whole or not there, of one version, and runs no code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from cl_lightning.data.sources import FolderSource
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.state import VERSION, _memory_state, load_checkpoint, restore_memory, save_checkpoint


def pictures(root: Path, *names: str) -> FolderSource:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return FolderSource.scan(root, "pictures")


def test_the_memory_points_at_the_same_images_after_a_file_was_added(tmp_path: Path) -> None:
    before = pictures(tmp_path, "a/2.png", "a/3.png", "b/1.png", "b/2.png")
    memory = RehearsalMemory(Budget("total", 4)).update([{0: torch.tensor([1, 0]), 1: torch.tensor([3])}], 2)
    save_checkpoint(tmp_path / "task.pt", {"version": VERSION, "memory": _memory_state(memory, before)})
    after = pictures(tmp_path, "a/1.png")
    restored = restore_memory(load_checkpoint(tmp_path / "task.pt")["memory"], after)
    assert [after.key(row) for row in restored.rows().tolist()] == ["a/3.png", "a/2.png", "b/2.png"]
    assert restored.rows().tolist() == [2, 1, 4], "the rows have moved"


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    before = pictures(tmp_path, "a/1.png", "a/2.png")
    memory = RehearsalMemory(Budget("total", 2)).update([{0: torch.tensor([1])}], 1)
    state = _memory_state(memory, before)
    (tmp_path / "a" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"a/2\.png"):
        restore_memory(state, FolderSource.scan(tmp_path, "pictures"))


def test_another_version_and_code_in_a_checkpoint_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "old.pt", {"version": 0})
    with pytest.raises(ValueError, match="format 0"):
        load_checkpoint(tmp_path / "old.pt")
    torch.save({"version": VERSION, "path": Path("x")}, tmp_path / "code.pt")  # unpickling a path calls its class
    with pytest.raises(Exception, match="weights_only"):
        load_checkpoint(tmp_path / "code.pt")


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "task.pt", {"version": VERSION, "task": 3})
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(tmp_path / "task.pt", {"version": VERSION, "task": lambda: None})
    assert load_checkpoint(tmp_path / "task.pt")["task"] == 3
