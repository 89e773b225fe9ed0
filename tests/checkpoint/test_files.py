"""A checkpoint is whole or not there, tells by itself that it was altered, is of one version, and runs no code."""

from __future__ import annotations

import errno
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.checkpoint import files
from cl_lightning.checkpoint.files import (
    VERSION,
    AlteredError,
    Position,
    last_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_whole,
    write_checkpoint,
)
from scripts.soak.checkpoints import damage


def payload(number: int = 3) -> dict[str, Any]:
    return {"version": VERSION, "weights": torch.arange(1000.0), "number": number}


def test_torch_reads_the_file_as_it_is(tmp_path: Path) -> None:
    save_whole(tmp_path / "task_000.pt", payload())
    for read in (load_checkpoint(tmp_path / "task_000.pt"), torch.load(tmp_path / "task_000.pt", weights_only=True)):
        assert torch.equal(read["weights"], torch.arange(1000.0))
        assert read["number"] == 3


def test_positions_sort_as_a_run_goes_and_have_names() -> None:
    run = [Position(0, 1), Position(0, 1, 40), Position(0, 1, 120), Position(0, 2), Position(1), Position(1, 1)]
    names = [position.file_name for position in run]
    assert names == [
        "task_000_item_01.pt",
        "task_000_item_01_step_00000040.pt",
        "task_000_item_01_step_00000120.pt",
        "task_000_item_02.pt",
        "task_000.pt",
        "task_001_item_01.pt",
    ]
    assert run == sorted(run)
    assert [Position.of(Path(name)) for name in names] == run
    assert Position.of(Path(".task_000.pt.part")) is None


def test_the_last_task_and_the_last_two_places_within_are_kept(tmp_path: Path) -> None:
    places = [Position(0, 1), Position(0, 1, 40), Position(1), Position(1, 1), Position(1, 1, 9), Position(1, 2)]
    for number, position in enumerate(places):
        write_checkpoint(tmp_path, position, payload(number))
    assert [Position.of(path) for path in list_checkpoints(tmp_path)] == [Position(1), *places[-2:]]
    write_checkpoint(tmp_path, Position(2), payload(9))
    assert [Position.of(path) for path in list_checkpoints(tmp_path)] == [*places[-2:], Position(2)]
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["number"] == 9


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped", "longer", "end cut"])
def test_a_damaged_file_is_named_and_the_one_before_it_taken(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, Position(0, 1), payload(1))
    last = write_checkpoint(tmp_path, Position(0, 2), payload(2))
    whole = last.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    contents = {"torn": whole[:middle], "empty": b"", "flipped": flipped, "longer": whole + b"x", "end cut": whole[:-9]}
    last.write_bytes(contents[damage])
    with pytest.raises(AlteredError):
        load_checkpoint(last)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "task_000_item_01.pt"
    assert "task_000_item_02.pt cannot be used" in caplog.text


def test_every_single_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save_whole(tmp_path / "a.pt", {"version": VERSION, "weights": torch.arange(4.0)})
    whole = (tmp_path / "a.pt").read_bytes()
    for place in range(0, len(whole), 7):
        (tmp_path / "a.pt").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((AlteredError, ValueError)):
            load_checkpoint(tmp_path / "a.pt")


class Bomb:
    """What an attacker would put into a file: unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path) -> None:
    save_whole(tmp_path / "task_001.pt", {**payload(), "extra": Bomb(tmp_path / "hurt")})  # with a valid checksum
    torch.save({**payload(), "extra": Bomb(tmp_path / "hurt")}, tmp_path / "task_002.pt")  # with none
    (tmp_path / "task_003.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "hurt")))  # not even torch's format
    for name in ("task_001.pt", "task_002.pt", "task_003.pt"):
        with pytest.raises(ValueError, match=f"{name} holds more than tensors and plain values"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "hurt").exists()
    with pytest.raises(ValueError, match="refused"):
        last_checkpoint(tmp_path)


def test_another_version_is_refused_by_its_number(tmp_path: Path) -> None:
    torch.save({"version": 2, "weights": torch.ones(2)}, tmp_path / "task_000.pt")  # as it was written then
    with pytest.raises(ValueError, match=r"task_000\.pt has format 2, this program reads format 3"):
        load_checkpoint(tmp_path / "task_000.pt")


def test_a_write_that_fails_leaves_the_file_as_it_was_and_no_part(tmp_path: Path) -> None:
    save_whole(tmp_path / "task_000.pt", payload(3))
    with pytest.raises(Exception, match="pickle"):
        save_whole(tmp_path / "task_000.pt", {"version": VERSION, "number": lambda: None})
    assert load_checkpoint(tmp_path / "task_000.pt")["number"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["task_000.pt"]


def test_a_full_disk_is_an_error_of_the_system_and_not_of_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, Position(0, 1), payload(1))

    class Full:
        """A disk with room for a little."""

        def __init__(self, file: Any) -> None:
            self.file = file
            self.room = 500

        def write(self, data: Any) -> int:
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data))

    inner = files.HashingFile
    monkeypatch.setattr(files, "HashingFile", lambda file: inner(Full(file)))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path, Position(0, 2), payload(2))
    assert [path.name for path in tmp_path.iterdir()] == ["task_000_item_01.pt"]


def test_what_seemed_later_and_what_killed_writers_left_goes(tmp_path: Path) -> None:
    """Two places within the task were damaged, so the run went back to the task's end."""
    write_checkpoint(tmp_path, Position(1), payload(1))
    for steps in (40, 50):
        write_checkpoint(tmp_path, Position(1, 1, steps), payload(steps)).write_bytes(b"torn")
    (tmp_path / ".task_001_item_01_step_00000060.pt.part").write_bytes(b"half")
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "task_000.pt"
    write_checkpoint(tmp_path, Position(1, 1, 30), payload(30))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task_000.pt", "task_001_item_01_step_00000030.pt"]


def test_ctrl_c_in_the_middle_of_writing_stays_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch makes a RuntimeError of everything that it meets in a write."""

    class Impatient:
        def __init__(self, file: Any) -> None:
            self.left = 3

        def write(self, data: Any) -> int:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return len(data)

    inner = files.HashingFile
    monkeypatch.setattr(files, "HashingFile", lambda file: inner(Impatient(file)))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        save_whole(tmp_path / "task_000.pt", payload())
    assert not list(tmp_path.iterdir())


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03", "its beginning is gone"),
        (b"", "an empty file"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "a page of text for a browser"),
        (POINTER, "a pointer of Git LFS"),
        (b"\x80\x02torn", "no checkpoint"),
        (bytes(range(200, 256)) * 99, "no checkpoint"),
        (b"\0" * 4096, "no checkpoint"),
    ],
)
def test_a_file_that_does_not_begin_as_one_is_named_and_the_one_before_it_taken(
    content: bytes, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, Position(0, 1), payload(1))
    write_checkpoint(tmp_path, Position(0, 2), payload(2)).write_bytes(content)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "task_000_item_01.pt"
    assert "task_000_item_02.pt cannot be used" in caplog.text
    assert told in caplog.text


@pytest.mark.parametrize("kind", ["folder", "dangling", "loop", "pipe"])
def test_what_is_no_file_is_named_and_the_run_goes_on(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, Position(0, 1), payload(1))
    odd = tmp_path / "task_000_item_02.pt"
    if kind == "folder":
        odd.mkdir()
    elif kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("nowhere" if kind == "dangling" else odd.name)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "task_000_item_01.pt"
    assert "task_000_item_02.pt cannot be used" in caplog.text
    write_checkpoint(tmp_path, Position(0, 1, 7), payload(3))
    assert last_checkpoint(tmp_path)[0].name == "task_000_item_01_step_00000007.pt"  # type: ignore[index]


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, Position(0, 1), payload(1))
    last = write_checkpoint(tmp_path, Position(0, 2), payload(2))
    real = Path.open

    def forbidden(self: Path, *given: Any, **named: Any) -> Any:
        if self == last:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *given, **named)

    monkeypatch.setattr(Path, "open", forbidden)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "task_000_item_01.pt"
    assert "Permission denied" in caplog.text


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_of_the_newest_file_blocks_the_one_before_it(seed: int, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Position(0, 1), payload(1))
    last = write_checkpoint(tmp_path, Position(0, 2), payload(2))
    name, content = damage(random.Random(seed), last.read_bytes())
    last.write_bytes(content)
    if name == "code":
        with pytest.raises(ValueError, match="refused"):
            last_checkpoint(tmp_path)
        return
    found = last_checkpoint(tmp_path)
    assert found is not None, name
    assert found[0].name == "task_000_item_01.pt", name
