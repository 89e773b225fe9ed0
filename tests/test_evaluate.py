"""``python -m cl_lightning.evaluate``, as it is typed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from cl_lightning.evaluate import main
from cl_lightning.export import main as export
from tests.deploy.conftest import Run, dytox, icarl, runs_are_read_once
from tests.deploy.runs import NAMES, live_scores, pictures, save_pictures
from tests.integration.commands import typed

__all__ = ["dytox", "icarl", "runs_are_read_once"]  # fixtures that work by being here
pytestmark = pytest.mark.usefixtures("runs_are_read_once")

IMAGES = pictures(12)
LABELS = torch.arange(12) // 3
"""Three pictures of each of the four classes that the runs have learnt."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in range(4):
        save_pictures(tmp_path / "images" / NAMES[label], IMAGES[3 * label : 3 * label + 3])
    return tmp_path / "images"


def evaluate(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_a_folder_is_scored_by_every_read_out(icarl: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(icarl.folder, folder, "--format", "json", "--batch", 5) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["readout"], found["evaluation"], found["images"]["evaluated"]) == ("nme", "class_incremental", 12)
    for readout in ("nme", "linear"):
        scores = live_scores(icarl.method, IMAGES, readout)
        right = scores.argmax(dim=1) == LABELS
        assert found["accuracy"]["class_incremental"][readout] == int(right.sum()) / 12
        told = (scores[:6, :2].argmax(dim=1) == LABELS[:6]).sum() + (
            scores[6:, 2:].argmax(dim=1) + 2 == LABELS[6:]
        ).sum()
        assert found["accuracy"]["task_incremental"][readout] == int(told) / 12
    assert [each["name"] for each in found["classes"]] == list(NAMES[:4])
    assert "12 images: " in captured.err
    assert captured.err.splitlines()[-1].startswith("12 images in ")


def test_files_of_every_kind_are_written_beside_the_table(
    dytox: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [tmp_path / "new" / f"score{suffix}" for suffix in (".csv", ".json", ".txt", ".svg")]
    assert evaluate(dytox.folder, folder, *(part for file in out for part in ("--out", file))) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Accuracy in %, 12 images of 4 classes\n")
    assert all(f"wrote {file}\n" in captured.err for file in out)
    table, found = (list(csv.DictReader(out[0].read_text().splitlines())), json.loads(out[1].read_text()))
    assert float(table[0]["accuracy"]) == found["accuracy"]["class_incremental"]["linear"]
    assert out[2].read_text().startswith("Accuracy in %")
    assert b"<svg" in out[3].read_bytes()


def test_of_a_task_its_pictures_and_its_classes(dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(dytox.folder, folder, "--task", 2, "--format", "json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    scores = live_scores(dytox.method, IMAGES[6:], "linear")[:, 2:]
    right = int((scores.argmax(dim=1) + 2 == LABELS[6:]).sum())
    assert found["accuracy"] == {"task_incremental": {"linear": right / 6}}
    assert "left out, of other tasks: one, zero" in captured.err


def test_unknown_empty_and_broken_ones_are_named(dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "two").rename(folder / "Two")
    (folder / "one" / "001.png").write_bytes(b"nothing")
    assert evaluate(dytox.folder, folder, "--format", "json") == 1
    captured = capsys.readouterr()
    assert "left out, of no class of the model: Two (is Two meant to be two?)\n" in captured.err
    assert "without images, 1 of 4 classes: two\n" in captured.err
    assert f"skipped {folder / 'one' / '001.png'}: cannot identify image file\n" in captured.err
    assert captured.err.endswith("images/s), 1 skipped\n")
    found = json.loads(captured.out)
    assert found["images"]["evaluated"] == 8
    assert found["images"]["unknown_classes"] == ["Two"]
    assert found["images"]["skipped"][0]["reason"] == "cannot identify image file"


def test_nothing_that_can_be_read_is_an_error(dytox: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "1.png").write_bytes(b"nothing")
    assert evaluate(dytox.folder, tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("error: none of 1 files could be read as an image\n")


@pytest.mark.slow
def test_an_exported_model_has_the_same_score(
    icarl: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(icarl.folder), "--out", str(tmp_path / "out"), "--formats", "safetensors"]) == 0
    found = []
    for given in (icarl.folder, tmp_path / "out"):
        capsys.readouterr()
        assert evaluate(given, folder, "--format", "json") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["right_by_class"] == found[1]["right_by_class"]
    assert evaluate(tmp_path / "out") == 2
    assert "is an export, which has no test images: type a folder of pictures behind it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "9"], "--task 9 is not among the 2 tasks"),
        (["--readout", "x"], "--readout x does not exist"),
        (["--out", "."], "--out . has none of the suffixes .csv .json .txt .png .svg .pdf: type --out score.csv"),
        (["--out", "a.tsv"], "--out a.tsv has none of the suffixes"),
        (["--fromat", "csv"], "unrecognized arguments: --fromat"),
        (["--batch", "0"], "argument --batch: 0 is not a whole number from 1 to 1000000"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], told: str, dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(dytox.folder, folder, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {told}")
    assert captured.err.count("\n") == 1


def test_an_interrupted_command_ends_in_one_line(
    dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cl_lightning.deploy.evaluation.evaluate", interrupted)
    assert evaluate(dytox.folder, folder) == 130
    assert capsys.readouterr().err.endswith("\nstopped\n")


METHODS = {
    "dytox": ["model=convit_tiny", "balanced_epochs_scale=0.05"],
    "icarl": ["model=resnet8"],
    "meat": ["model=vit_tiny", "model.depth=1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_on_its_own_test_images_a_run_scores_what_it_counted_itself(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    short = ["data.increment=5", "data.order=seed:1", "epochs_scale=0.001", "trainer.progress=none", "-q"]
    assert typed(f"run_dir={run_dir}", f"method={method}", *METHODS[method], *short) == 0
    results = json.loads((run_dir / "results.json").read_text())
    capsys.readouterr()
    assert evaluate(run_dir, "--format", "json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "\nthe same as in results.json\n" in captured.err
    assert found["accuracy"] == results["tasks"][-1]["accuracy"]
    assert found["top5"]["class_incremental"] == results["tasks"][-1]["top5"]["class_incremental"]
    assert found["accuracy_by_task"] == {
        protocol: {name: R[-1] for name, R in of.items()} for protocol, of in results["accuracy_matrix"].items()
    }
    assert found["macro_accuracy"] == {
        protocol: {name: values[-1] for name, values in of.items()}
        for protocol, of in results["macro_accuracy"].items()
    }
    assert results["last_macro_accuracy"] == found["macro_accuracy"][found["evaluation"]][found["readout"]]
    results["accuracy_matrix"]["class_incremental"][found["readout"]][-1][0] += 0.125
    (run_dir / "results.json").write_text(json.dumps(results))
    assert evaluate(run_dir) == 0
    assert f"not as in results.json (class-incremental, {found['readout']}, task 1: " in capsys.readouterr().err
    assert evaluate(run_dir, "--checkpoint", "task_000.pt", "--task", 1) == 0
