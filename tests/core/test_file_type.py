"""A pointer of Git LFS in the place of a file is told as such, by whoever reads the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cl_lightning.bundle.archive import opened
from cl_lightning.checkpoint.files import AlteredError, load_checkpoint
from cl_lightning.config.saved import load_learnt, load_saved
from cl_lightning.core.errors import UserError
from cl_lightning.core.file_type import foreign_kind, read_file
from cl_lightning.deploy.exported import load_exported
from cl_lightning.deploy.run_model import recorded_commit
from cl_lightning.learning.curves_file import read_curves
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.vit_weights import file_weights
from cl_lightning.published.checkpoint import load_plain
from cl_lightning.report.data import read_report_input
from cl_lightning.report.results import written_provenance

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


def _bundle(file: Path) -> None:
    with opened(file):
        pass


def _weights(file: Path) -> None:
    file_weights(file, PlainViT(image_size=4, channels=1, patch_size=4, dim=4, depth=1, num_heads=1))


READERS: dict[str, Callable[[Path], object]] = {
    "task_000.pt": load_checkpoint,
    "weights.pth": _weights,
    "weights.safetensors": _weights,
    "published.pth": load_plain,
    "run.bundle": _bundle,
    "config.yaml": lambda file: load_saved(file.parent),
    "model.json": lambda file: load_exported(file.parent),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "told"),
    [(POINTER, "a pointer of Git LFS"), (b"<!DOCTYPE html><html>404", "a page of text"), (b"", "empty")],
)
def test_it_is_reported_in_one_line(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    if name == "model.json":
        (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / name).write_bytes(content)
    with pytest.raises((UserError, ValueError, AlteredError)) as refused:
        READERS[name](tmp_path / name)
    assert told in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_configurations_are_told_to_predict_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(POINTER)
    with pytest.raises(UserError, match="cannot be read"):
        load_learnt(tmp_path)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """Opened to be read as a file, it waits for ever for somebody to write."""
    for name in ("results.json", "metrics.csv", "wandb_id"):
        os.mkfifo(tmp_path / name)
    for read in (read_curves, read_file):
        with pytest.raises(OSError, match="it is no file"):
            read(tmp_path / "metrics.csv")
    with pytest.raises(OSError, match="it is no file"):
        read_report_input(tmp_path)
    assert recorded_commit(tmp_path) is None
    assert written_provenance(tmp_path / "results.json", {}) is None


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link") == b"content"


def test_other_files_are_nobodys_business(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PK\x03\x04")
    assert foreign_kind(tmp_path / "a") is None
    assert foreign_kind(tmp_path) == "a folder"
