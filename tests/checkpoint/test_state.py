"""A checkpoint names images, not rows, and knows the place within a task."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from cl_lightning.checkpoint.files import VERSION, Position, load_checkpoint, save_whole
from cl_lightning.checkpoint.state import Cursor, RunState, memory_state, remembered, restore_memory
from cl_lightning.core.types import PhaseCheckpoint
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory


def pictures(root: Path, *names: str) -> FolderSource:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return FolderSource.scan(root, "pictures")


def test_the_memory_points_at_the_same_images_after_a_file_was_added(tmp_path: Path) -> None:
    before = pictures(tmp_path, "a/2.png", "a/3.png", "b/1.png", "b/2.png")
    memory = RehearsalMemory(Budget("total", 4), "global", 1).update(
        [{0: torch.tensor([1, 0]), 1: torch.tensor([3])}], 2
    )
    save_whole(tmp_path / "task.pt", {"version": VERSION, "memory": memory_state(memory, before)})
    after = pictures(tmp_path, "a/1.png")
    restored = restore_memory(load_checkpoint(tmp_path / "task.pt")["memory"], after)
    assert [after.key(row) for row in restored.rows().tolist()] == ["a/3.png", "a/2.png", "b/2.png"]
    assert restored.rows().tolist() == [2, 1, 4], "the rows have moved"


def test_images_that_are_held_out_are_named_too(tmp_path: Path) -> None:
    before = pictures(tmp_path, "a/2.png", "a/3.png", "a/4.png", "b/1.png")
    memory = RehearsalMemory(Budget("total", 8), "global", 1).hold_out({0: torch.tensor([2, 0])}, 0.5)
    memory = memory.update([{0: torch.tensor([1])}], 1).hold_out({1: torch.tensor([3])}, 0.5)
    save_whole(tmp_path / "task.pt", {"version": VERSION, "memory": memory_state(memory, before)})
    after, payload = pictures(tmp_path, "a/1.png"), load_checkpoint(tmp_path / "task.pt")["memory"]
    restored = restore_memory(payload, after)
    assert [after.key(row) for row in restored.held_out_rows().tolist()] == ["a/4.png", "a/2.png", "b/1.png"]
    assert restored.held_share == 0.5
    assert remembered(payload) == [("a/3.png", 0), ("a/4.png", 0), ("a/2.png", 0), ("b/1.png", 1)]


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    before = pictures(tmp_path, "a/1.png", "a/2.png")
    memory = RehearsalMemory(Budget("total", 2), "global", 1).update([{0: torch.tensor([1])}], 1)
    state = memory_state(memory, before)
    (tmp_path / "a" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"a/2\.png"):
        restore_memory(state, FolderSource.scan(tmp_path, "pictures"))


def test_the_cursor_comes_back_with_the_time_that_was_spent() -> None:
    left = PhaseCheckpoint(7, {"state": {}, "param_groups": []}, {})
    cursor = Cursor(items=2, left=left, images=30, fit_seconds=1.5, started=time.monotonic() - 100)
    again = Cursor.from_plain(cursor.to_plain())
    assert (again.items, again.left, again.images, again.fit_seconds) == (2, left, 30, 1.5)
    assert 100 <= again.seconds < 110
    state = RunState(RehearsalMemory(Budget("none", 0), "global", 1), step_offset=40, cursor=again)
    assert state.position == Position(0, 2, 7)
    assert state.steps == 47
