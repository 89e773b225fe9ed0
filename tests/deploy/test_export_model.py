"""Export to a folder: a file is there if it agrees with the model, and no earlier export's is left beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.core.errors import UserError
from cl_lightning.deploy import export_model
from cl_lightning.deploy.export_model import export, prepare
from cl_lightning.deploy.exported import DESCRIPTION, sha256
from cl_lightning.deploy.formats import Format
from cl_lightning.deploy.verification import Sample
from tests.deploy.runs import pictures
from tests.deploy.test_model import model

MODEL = model()
SAMPLE = Sample(pictures(8, 4), "8 images of a test")


def good(_: Any, readout: str, __: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda images: MODEL.predict(images)[readout]


def other(*_: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda images: -MODEL.predict(images)["linear"]


def broken(*_: Any) -> Any:
    raise RuntimeError("cannot\ncarry it")


def full(*_: Any) -> Any:
    raise OSError(28, "No space left on device")


def write(_: Any, __: str, file: Path) -> None:
    file.write_bytes(b"weights")


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "good": Format("good.bin", write, good), "other": Format("other.bin", write, other),
        "broken": Format("broken.bin", broken, good), "full": Format("full.bin", full, good),
    }  # fmt: skip
    monkeypatch.setattr(export_model, "FORMATS", made)
    monkeypatch.setattr(export_model, "FILE_NAMES", (DESCRIPTION, *(each.file for each in made.values())))
    monkeypatch.setattr(export_model, "describe", lambda model, readout: {"readout": readout})


@pytest.mark.usefixtures("formats")
def test_what_agrees_is_written_and_described(tmp_path: Path) -> None:
    said: list[str] = []
    assert export(MODEL, "linear", tmp_path, ["good"], SAMPLE, said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["good.bin", DESCRIPTION])
    found = json.loads((tmp_path / DESCRIPTION).read_text())
    assert found["readout"] == "linear"
    assert found["files"]["good.bin"]["sha256"] == sha256(tmp_path / "good.bin")
    assert found["files"]["good.bin"]["compared_on"] == "8 images of a test"
    assert found["files"]["good.bin"]["largest_difference"] == 0.0
    assert said[0].startswith(f"{tmp_path}/good.bin: 0.00 MB; largest difference of a score 0.0e+00, of scores up to ")


@pytest.mark.usefixtures("formats")
def test_what_does_not_agree_or_cannot_be_made_is_told_and_removed(tmp_path: Path) -> None:
    said: list[str] = []
    assert not export(MODEL, "linear", tmp_path, ["good", "other", "broken"], SAMPLE, said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["good.bin", DESCRIPTION])
    assert said[1].startswith("error: other.bin is not the model and was removed: ")
    assert "another class for 8 of 8 images" in said[1]
    assert said[2] == "error: broken.bin cannot be made of this network (RuntimeError: cannot)"


@pytest.mark.usefixtures("formats")
def test_files_of_an_earlier_export_do_not_stay_beside_it(tmp_path: Path) -> None:
    for name in ("other.bin", "mine.txt", DESCRIPTION):
        (tmp_path / name).write_text("{}")
    export(MODEL, "linear", tmp_path, ["good"], SAMPLE, lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["good.bin", "mine.txt", DESCRIPTION])
    export(MODEL, "linear", tmp_path, ["other"], SAMPLE, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"], "no description of nothing"


@pytest.mark.usefixtures("formats")
def test_a_full_disk_is_not_the_format_s_fault(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        export(MODEL, "linear", tmp_path, ["full"], SAMPLE, lambda _: None)


def test_a_folder_is_made_and_never_written_over_unasked(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b", overwrite=False)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "a" / "b" / DESCRIPTION).write_text("{}")
    with pytest.raises(UserError, match=rf"holds an export already \({DESCRIPTION}\): type --overwrite, or another"):
        prepare(tmp_path / "a" / "b", overwrite=False)
    prepare(tmp_path / "a" / "b", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is a file: type the name of a folder"):
        prepare(tmp_path / "file", overwrite=True)
