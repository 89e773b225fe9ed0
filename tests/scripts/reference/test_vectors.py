"""Reading golden files, and rebuilding the models in them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.reference.vectors import VectorFile, rebuild
from tests.golden import GOLDEN, plain


@pytest.fixture(scope="module")
def golden() -> VectorFile:
    return VectorFile(GOLDEN / "dytox_small.npz")


def test_entries_names_and_folders(golden: VectorFile) -> None:
    assert golden.meta["increments"] == [3, 2, 4]
    assert golden.tasks() == [0, 1, 2]
    assert golden.images.shape == (6, 3, 16, 16)
    assert "task1/y" in golden
    assert "task9/y" not in golden
    assert set(golden.names("task0/loss/")) == {"classification", "total"}
    assert golden["task0/loss/total"].shape == ()
    assert golden["task1/y"].dtype == torch.int64
    assert set(golden.folder("task1/params/task_tokens.")) == {"0", "1"}
    with pytest.raises(ValueError, match="task9/y is missing"):
        golden["task9/y"]
    with pytest.raises(ValueError, match="meta.json holds no numbers"):
        golden["meta.json"]


def test_a_file_without_meta_is_read(tmp_path: Path) -> None:
    file = VectorFile(GOLDEN / "recipe_schedule.npz")
    assert file.meta == {}
    assert file.tasks() == []


def test_rebuilding_takes_sizes_from_shapes(golden: VectorFile, tmp_path: Path) -> None:
    assert rebuild(golden, 1).structure()["classes"] == [3, 2]
    arrays = plain.generate(increments=[4, 1], image_size=6, patch_size=2, num_heads=2, hidden=7, channels=1, steps=0)
    network = rebuild(VectorFile(plain.save(tmp_path / "f.npz", arrays)), 1)
    sizes = network.encoder.structure()
    assert (sizes["image_size"], sizes["channels"], sizes["num_heads"], sizes["depth"]) == (6, 1, 2, 1)
    assert network.decoder.mlp.fc1.out_features == 7
    assert network.structure()["classes"] == [4, 1]
    assert torch.equal(network.decoder.tokens[1].data, torch.from_numpy(arrays["task1/params/task_tokens.1"]))


def test_entries_of_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", one=np.array("a"), several=np.array(["b", "c"]), numbers=np.zeros(2))
    file = VectorFile(tmp_path / "f.npz")
    assert (file.texts("one"), file.texts("several")) == (["a"], ["b", "c"])
    with pytest.raises(ValueError, match="numbers holds no text"):
        file.texts("numbers")
    with pytest.raises(ValueError, match="none is missing"):
        file.texts("none")


def test_other_layouts_of_numbers_are_the_same_numbers(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "f.npz", a=values, b=values.astype(">f4"), c=np.asfortranarray(values), d=values[:, ::-1])
    file = VectorFile(tmp_path / "f.npz")
    assert torch.equal(file["a"], file["b"])
    assert torch.equal(file["a"], file["c"])
    assert torch.equal(file["a"].flip(1), file["d"])


def test_meta_may_be_a_plain_member_of_the_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=np.zeros(1))
    with zipfile.ZipFile(tmp_path / "f.npz", "a") as archive:
        archive.writestr("meta.json", json.dumps({"steps": 3}))
    assert VectorFile(tmp_path / "f.npz").meta == {"steps": 3}


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"a": np.array([{}], dtype=object)}, "a cannot be read in .*: pickled objects"),
        ({"meta.json": np.array("{")}, "meta.json in .* is not JSON"),
        ({"meta.json": np.array("[1]")}, "meta.json in .* is not a mapping"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(ValueError, match=told):
        VectorFile(tmp_path / "f.npz")


def test_damaged_archives_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez(path, a=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a cannot be read in .*: a damaged entry"):
        VectorFile(path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="not a NumPy archive"):
        VectorFile(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        VectorFile(tmp_path / "no.npz")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        VectorFile(tmp_path)
