"""Parts that cannot change any more are written once, referred to by digest, checked when read, and cleared away."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.checkpoint import parts
from cl_lightning.checkpoint.files import (
    REFERRING,
    VERSION,
    PartError,
    Position,
    checkpoint_bytes,
    last_checkpoint,
    load_checkpoint,
    save_whole,
    write_checkpoint,
)
from cl_lightning.checkpoint.parts import Parts
from cl_lightning.core import network_parts
from cl_lightning.core.rng import Key
from cl_lightning.methods.base import frozen_copy
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.network import Network
from cl_lightning.models.resnet import CifarResNet


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALLEST_PART", 1000)


def der(tasks: int) -> ExtractorNetwork:
    network = ExtractorNetwork(lambda: CifarResNet(depth=8, channels=1))
    for index in range(tasks):
        network.grow(2, Key(index))
    return network


def save(store: Parts, folder: Path, position: Position, network: Network, teacher: Network | None = None) -> Path:
    """Write a checkpoint as a run does."""
    networks: dict[str, Any] = {"network": store.write("network", network), "teacher": None}
    if teacher is not None:
        networks["teacher"] = store.write("teacher", teacher, frozen=True)
    version = REFERRING if network_parts.references(networks) else VERSION
    path = write_checkpoint(folder, position, {"version": version, **networks})
    store.remove_unreferred()
    return path


def files(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("*"))


def expect_equal(found: Mapping[str, Tensor], network: Network) -> None:
    own = network.state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


# ---- written once ------------------------------------------------------------------------------------------------


def test_extractors_of_earlier_tasks_are_files_of_their_own_and_come_back_to_the_bit(tmp_path: Path) -> None:
    network = der(3)
    path = save(Parts(tmp_path), tmp_path, Position(0, 1), network)
    on_disk = torch.load(path, weights_only=True)
    assert on_disk["version"] == REFERRING
    assert list(on_disk["network"]["parts"]) == ["extractors.0.", "extractors.1."]
    assert not any(name.startswith(("extractors.0.", "extractors.1.")) for name in on_disk["network"]["weights"])
    loaded = load_checkpoint(path)
    assert loaded["version"] == VERSION
    assert set(loaded["network"]) == {"weights"}
    expect_equal(loaded["network"]["weights"], network)


def test_the_size_of_a_checkpoint_does_not_grow_with_the_tasks(tmp_path: Path) -> None:
    store, network, sizes = Parts(tmp_path), der(1), []
    for index in range(1, 6):
        network.grow(2, Key(index))
        with torch.no_grad():  # the newest learns; the first ones differ then
            next(network.extractors[-1].parameters()).add_(1)
        sizes.append(save(store, tmp_path, Position(index), network).stat().st_size)
    assert len(files(tmp_path)) == 5
    classifier = 4 * (64 * 6 * 12 - 64 * 2 * 4)  # the one part that is read anew with each task
    references = 5000
    assert sizes[-1] - sizes[0] < classifier + references


def test_a_part_is_written_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, store, hashed = der(2), Parts(tmp_path), []
    real = parts.digest_of
    monkeypatch.setattr(parts, "digest_of", lambda weights: hashed.append("conv.weight" in weights) or real(weights))
    save(store, tmp_path, Position(0, 1), network)
    (file,) = files(tmp_path)
    written = file.stat().st_mtime_ns
    begun = sum(hashed)
    for steps in range(3):
        save(store, tmp_path, Position(0, 1, steps + 1), network)
    assert begun == 1
    assert sum(hashed) == 1
    assert [file.stat().st_mtime_ns for file in files(tmp_path)] == [written]


def test_what_is_equal_is_one_file(tmp_path: Path) -> None:
    """Two tasks that start from the same weights, and a teacher with the same extractors as its network."""
    network = der(3)  # untrained: extractors are copies of the first
    path = save(Parts(tmp_path), tmp_path, Position(0, 1), network, frozen_copy(network))
    assert len(files(tmp_path)) == 2, "the extractors, and what a teacher has beside its settled ones"
    loaded = load_checkpoint(path)
    expect_equal(loaded["teacher"]["weights"], network)


def test_a_teacher_is_a_part_as_a_whole(tmp_path: Path) -> None:
    network = EmbeddingNetwork(CifarResNet(depth=8, channels=1))
    network.grow(2, Key(0))
    teacher = frozen_copy(network)
    path = save(Parts(tmp_path), tmp_path, Position(0, 1), network, teacher)
    on_disk = torch.load(path, weights_only=True)
    assert "parts" not in on_disk["network"]
    assert on_disk["teacher"]["weights"] == {}
    expect_equal(load_checkpoint(path)["teacher"]["weights"], teacher)


def test_a_small_part_stays_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALLEST_PART", 1 << 20)
    network = der(2)
    path = save(Parts(tmp_path), tmp_path, Position(0, 1), network, frozen_copy(network))
    assert not (tmp_path / "parts").exists()
    assert torch.load(path, weights_only=True)["version"] == VERSION, "earlier releases read it"
    expect_equal(load_checkpoint(path)["network"]["weights"], network)


# ---- what changes even so ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["parameter", "statistics", "another tensor", "type"])
def test_a_part_that_changes_becomes_another_file(what: str, tmp_path: Path) -> None:
    network, store = der(2), Parts(tmp_path)
    save(store, tmp_path, Position(0, 1), network)
    before = files(tmp_path)
    old = network.extractors[0]
    with torch.no_grad():
        if what == "parameter":
            next(old.parameters()).mul_(2)
        elif what == "statistics":  # as batch norm writes them: nothing is counted
            next(buffer for name, buffer in old.named_buffers() if "mean" in name).data.add_(1)
        elif what == "another tensor":
            old.load_state_dict({name: value + 1 for name, value in old.state_dict().items()}, assign=True)
        else:
            network.double()
    path = save(store, tmp_path, Position(0, 2), network)
    assert len(set(files(tmp_path)) - set(before)) == 1
    expect_equal(load_checkpoint(path)["network"]["weights"], network)


def test_a_network_on_the_way_to_another_device_and_back_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Trainer moves what it trains to its device and back: parameters stay, with other storage; buffers are new."""
    network, store = der(2), Parts(tmp_path)
    save(store, tmp_path, Position(0, 1), network)
    hashed: list[bool] = []
    real = parts.digest_of
    monkeypatch.setattr(parts, "digest_of", lambda weights: hashed.append("conv.weight" in weights) or real(weights))
    network.double().float()
    save(store, tmp_path, Position(0, 2), network)
    assert not any(hashed)


# ---- where it is read ----------------------------------------------------------------------------------------------


def test_a_missing_part_is_named_with_the_folder_that_it_must_stand_in(tmp_path: Path) -> None:
    path = save(Parts(tmp_path / "run"), tmp_path / "run", Position(0, 1), der(2))
    (part,) = files(tmp_path / "run")
    alone = shutil.copy(path, tmp_path / "alone.pt")
    with pytest.raises(PartError, match=f"its part {part.name} is missing: it must stand in {tmp_path}/parts"):
        load_checkpoint(alone)
    shutil.copytree(tmp_path / "run" / "parts", tmp_path / "parts")
    load_checkpoint(alone)


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "another part", "a folder"])
def test_a_damaged_part_is_named_and_the_checkpoint_before_it_taken(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network, store = der(1), Parts(tmp_path)
    before = save(store, tmp_path, Position(1), network)
    network.grow(2, Key(1))
    path = save(store, tmp_path, Position(1, 1), network)
    (part,) = files(tmp_path)
    whole = part.read_bytes()
    middle = len(whole) // 2
    match damage:
        case "a folder":
            part.unlink()
            part.mkdir()
        case "another part":  # whole, and not what its name says
            save_whole(part, network_parts.content_of("0" * 64, {"weight": torch.ones(3)}))
        case _:
            flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
            part.write_bytes({"torn": whole[:middle], "empty": b"", "flipped": flipped}[damage])
    with pytest.raises(PartError, match="its part .* cannot be used") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[0] == before
    assert f"its part {part.name}" in caplog.text


def test_a_part_that_all_checkpoints_lack_is_an_error_and_no_new_run(tmp_path: Path) -> None:
    """None would mean a run without a state, which begins anew and removes them."""
    store, network = Parts(tmp_path), der(2)
    save(store, tmp_path, Position(1), network)
    save(store, tmp_path, Position(1, 1), network)
    (part,) = files(tmp_path)
    part.unlink()
    with pytest.raises(ValueError, match=f"{part} is missing or altered, and no checkpoint can be used without it"):
        last_checkpoint(tmp_path)


def test_a_process_that_goes_on_repairs_a_damaged_part(tmp_path: Path) -> None:
    network = der(2)
    save(Parts(tmp_path), tmp_path, Position(0, 1), network)
    (part,) = files(tmp_path)
    part.write_bytes(part.read_bytes()[:-5])
    path = save(Parts(tmp_path), tmp_path, Position(0, 1), network)
    expect_equal(load_checkpoint(path)["network"]["weights"], network)


def test_a_part_that_was_taken_away_is_written_again(tmp_path: Path) -> None:
    network, store = der(2), Parts(tmp_path)
    save(store, tmp_path, Position(0, 1), network)
    shutil.rmtree(tmp_path / "parts")
    path = save(store, tmp_path, Position(0, 2), network)
    expect_equal(load_checkpoint(path)["network"]["weights"], network)


# ---- cleared away ------------------------------------------------------------------------------------------------


def test_parts_that_no_checkpoint_refers_to_are_removed_with_the_last_that_did(tmp_path: Path) -> None:
    store, network = Parts(tmp_path), EmbeddingNetwork(CifarResNet(depth=8, channels=1))
    network.grow(2, Key(0))
    teachers = []
    for index in range(4):
        network.grow(2, Key(index))
        teachers.append(frozen_copy(network))
        save(store, tmp_path, Position(index, 1), network, teachers[-1])
        save(store, tmp_path, Position(index + 1), network, teachers[-1])
        for path in tmp_path.glob("*.pt"):
            load_checkpoint(path)
    assert len(files(tmp_path)) == 2, "of the last task's end, and of the last two places within tasks"


def test_another_process_knows_what_earlier_ones_refer_to(tmp_path: Path) -> None:
    network = der(2)
    before = save(Parts(tmp_path), tmp_path, Position(1), network)
    kept = shutil.copy(before, tmp_path / "mine.pt")
    with torch.no_grad():
        next(network.extractors[0].parameters()).mul_(2)
    (tmp_path / "parts" / ".a.pt.1234.part").write_bytes(b"half")
    (tmp_path / "parts" / "note.txt").write_text("mine")
    save(Parts(tmp_path), tmp_path, Position(1, 1), network)
    load_checkpoint(before)
    load_checkpoint(kept)
    assert [file.suffix for file in files(tmp_path)].count(".pt") == 2
    assert (tmp_path / "parts" / "note.txt").exists()
    assert not list((tmp_path / "parts").glob(".*"))


def test_bytes_of_checkpoints_are_with_their_parts(tmp_path: Path) -> None:
    path = save(Parts(tmp_path), tmp_path, Position(1), der(2))
    assert checkpoint_bytes(tmp_path) == path.stat().st_size + files(tmp_path)[0].stat().st_size
