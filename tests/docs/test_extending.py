"""The guide for those who extend the package: what it prints can be pasted, and does what it says there."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from cl_lightning.config.hydra_errors import missing_keys
from cl_lightning.config.registry import register
from cl_lightning.core.errors import InvalidFileError, InvalidSettingError
from cl_lightning.core.origins import ORIGINS
from cl_lightning.data.sources import datasets
from scripts.check_docstrings import violations
from tests.docs.pages import ROOT, blocks

PAGE = (ROOT / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
PYTHON = blocks(PAGE, "python")


def block_with(text: str, language: str = "python") -> str:
    (found,) = [block for block in blocks(PAGE, language) if text in block]
    return found


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.strip().splitlines()[0][:30])
def test_python_parses_and_its_docstrings_begin_as_they_should(block: str, tmp_path: Path) -> None:
    line_of_a_table = block.startswith(" ")
    (tmp_path / "printed.py").write_text(f"{{\n{block}}}" if line_of_a_table else block, encoding="utf-8")
    assert violations(tmp_path) == []
    assert max(map(len, block.splitlines())) <= 120


def test_every_file_that_a_method_touches_is_there() -> None:
    """The list of edits names files and tables that exist."""
    table = PAGE.partition("All that is edited")[2].partition("A new method needs")[0]
    for path in re.findall(r"`([a-z_./A-Z]+\.(?:py|yaml|md|cff))`", table):
        if "NAME" not in path:
            assert (ROOT / path).is_file() or (ROOT / "cl_lightning" / path).is_file(), path


def test_the_printed_method_says_what_it_is() -> None:
    printed = yaml.safe_load(block_with("name: lfl", "yaml"))
    assert printed["origin"] in ORIGINS


# ---- arrays in a file ---------------------------------------------------------------------------------------------


@pytest.fixture
def read() -> Any:
    """The printed reader, among the names of the module that it is for."""
    import zipfile
    import zlib

    names = {**vars(datasets), "zipfile": zipfile, "zlib": zlib, "InvalidFileError": InvalidFileError}
    exec(compile(ast.parse(block_with("def _npz")), "EXTENDING.md", "exec"), names)
    return names["_npz"]


def arrays() -> dict[str, Any]:
    images, labels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), np.array([0, 1])
    return {"train_images": images, "train_labels": labels, "test_images": images[:1], "test_labels": labels[:1]}


def test_arrays_of_a_file_become_two_sources(read: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    train, test = read(tmp_path / "a.npz", True, None)
    assert (len(train), len(test), train.class_names) == (2, 1, ("0", "1"))
    expected = torch.from_numpy(arrays()["train_images"]).permute(0, 3, 1, 2)
    assert torch.equal(train.pixels, expected)
    assert read(tmp_path / "a.npz", False, None)[1] is None


def test_a_root_that_is_no_file_is_an_option_to_mend(read: Any, tmp_path: Path) -> None:
    for root in (None, tmp_path):
        with pytest.raises(InvalidSettingError, match=r"is no file: pass root=FILE\.npz"):
            read(root, True, None)


@pytest.mark.parametrize(
    "content", [b"", b"no arrays", b"PK\x03\x04 cut short", b"\x93NUMPY"], ids=["empty", "text", "cut", "numpy"]
)
def test_a_file_of_another_kind_is_told(read: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InvalidFileError, match=r"a\.npz cannot be read as an \.npz file: write it by numpy\.savez"):
        read(tmp_path / "a.npz", True, None)


def test_one_array_alone_is_no_such_file(read: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(InvalidFileError, match="cannot be read as an .npz file"):
        read(tmp_path / "a.npy", True, None)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"test_labels": None}, r"has no test_labels: write train_images, train_labels, test_images, test_labels"),
        ({"train_images": np.zeros((2, 4, 4), np.uint8)}, r"are \(2, 4, 4\) torch\.uint8.*: write images as \(n, side"),
        ({"train_images": np.zeros((2, 4, 4, 3))}, r"are \(2, 3, 4, 4\) torch\.float64.*: write images as"),
        ({"train_images": np.zeros(2, np.uint8)}, r"holds no such images and labels"),
        ({"train_labels": np.zeros(3, np.int64)}, r"holds no such images and labels"),
        ({"train_labels": np.array([], np.int64)}, r"holds no such images and labels"),
        ({"train_labels": np.array(["cat", "dog"])}, r"holds no such images and labels"),
        ({"test_labels": np.array([7])}, r"holds no such images and labels"),
        ({"train_labels": np.array([None, 1])}, r"cannot be read as an \.npz file"),
    ],
)
def test_arrays_that_are_missing_or_of_another_kind_are_named(
    read: Any, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    np.savez(tmp_path / "a.npz", **{key: each for key, each in (arrays() | changed).items() if each is not None})
    with pytest.raises(InvalidFileError, match=told):
        read(tmp_path / "a.npz", True, None)


def test_what_the_printed_file_leaves_to_the_user_is_asked_for(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "data" / "npz.yaml").write_text(block_with("name: npz", "yaml"), encoding="utf-8")
    register()
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        told = missing_keys(compose("config", overrides=["data=npz", "run_dir=unused"]))
    assert told == "data.increment, data.root must be given: type data.increment=... data.root=..."
