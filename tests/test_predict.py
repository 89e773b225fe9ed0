"""``python -m cl_lightning.predict``, as it is typed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from cl_lightning.predict import main
from tests.deploy.conftest import Run, dytox, icarl, runs_are_read_once
from tests.deploy.runs import NAMES, live_scores, pictures, save_pictures, write_run
from tests.integration.commands import typed

__all__ = ["dytox", "icarl", "runs_are_read_once"]  # fixtures that work by being here
pytestmark = pytest.mark.usefixtures("runs_are_read_once")

IMAGES = pictures(7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pictures(tmp_path / "images", IMAGES)
    return tmp_path / "images"


def predict(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_the_csv_file_has_the_scores_and_probabilities_of_the_runs_own_evaluation(
    dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(dytox.folder, folder, "--format", "csv", "--top", 4, "--batch", 3) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    scores = live_scores(dytox.method, IMAGES, "linear")
    assert len(rows) == 7 * 4
    for index, row in enumerate(rows):
        image, label = index // 4, NAMES.index(row["class"])
        assert row["file"] == str(folder / f"{image:03d}.png")
        assert int(row["rank"]) == index % 4 + 1
        assert int(row["task"]) == 1 + label // 2
        assert float(row["score"]) == pytest.approx(float(scores[image, label]), abs=1e-4)
        assert float(row["probability"]) == pytest.approx(float(scores[image, label].sigmoid()), abs=1e-5)
    assert [NAMES.index(row["class"]) for row in rows[::4]] == scores.argmax(dim=1).tolist()
    assert "after task 2 of 5, 4 of 10 classes; read-out linear" in captured.err
    assert "sigmoid of each class's score by itself" in captured.err
    assert "the one that brought the predicted class, counted from 1" in captured.err
    assert captured.err.splitlines()[-1].startswith("7 images in ")


def test_json_says_what_its_numbers_are(icarl: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(icarl.folder, folder / "000.png", "--format", "json", "--task", 2, "--top", 5) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["readout"] == "nme"
    assert found["probability"].startswith("softmax of minus the squared distance to each class mean")
    assert found["classes"] == ["two", "three"]
    assert found["model"]["protocol"]["method"] == "icarl"
    (image,) = found["images"]
    of_task = live_scores(icarl.method, IMAGES[:1], "nme")[0, 2:]
    expected = sorted(zip(of_task.softmax(0).tolist(), ["two", "three"], strict=True), reverse=True)
    assert [guess["class"] for guess in image["guesses"]] == [name for _, name in expected]
    assert [guess["probability"] for guess in image["guesses"]] == pytest.approx([p for p, _ in expected], abs=1e-5)
    assert {guess["task"] for guess in image["guesses"]} == {2}


def test_the_table_is_aligned_and_further_guesses_stand_below(
    dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(dytox.folder, folder / "001.png", "--top", 2) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["file", "class", "probability", "task"]
    assert first.startswith(str(folder / "001.png"))
    assert second.startswith(" " * len(str(folder / "001.png")))
    assert len(heading) == len(first) == len(second)
    best = live_scores(dytox.method, IMAGES[1:2], "linear")[0].sigmoid().sort(descending=True)
    assert [float(line.split()[-2]) for line in (first, second)] == pytest.approx(best.values[:2].tolist(), abs=1e-4)


def test_broken_images_are_named_and_the_others_predicted(
    dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "003.png").write_bytes(b"nothing")
    out = folder / "new" / "found.json"
    assert predict(dytox.folder, folder, "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"skipped {folder / '003.png'}: cannot identify image file\n" in captured.err
    assert captured.err.endswith("images/s), 1 skipped\n")
    found = json.loads(out.read_text())
    assert [Path(image["file"]).stem for image in found["images"]] == ["000", "001", "002", "004", "005", "006"]
    assert found["skipped"] == [{"file": str(folder / "003.png"), "reason": "cannot identify image file"}]


def test_nothing_that_can_be_read_is_an_error(dytox: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "1.png").write_bytes(b"nothing")
    assert predict(dytox.folder, tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("error: none of 1 files could be read as an image\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--top", "0"], "argument --top: 0 is not a whole number from 1 to 1000000"),
        (["--fromat", "csv"], "unrecognized arguments: --fromat"),
        (["--task", "9"], "--task 9 is not among the 2 tasks"),
        (["--out", "."], "--out . is a folder: type the name of a file"),
        (["missing.png"], "missing.png does not exist"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], told: str, dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(dytox.folder, folder, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {told}")
    assert captured.err.count("\n") == 1


def test_an_interrupted_command_ends_in_one_line(
    dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cl_lightning.deploy.predictions.classify", interrupted)
    assert predict(dytox.folder, folder) == 130
    assert capsys.readouterr().err.endswith("\nstopped\n")


@pytest.mark.slow
def test_files_of_the_test_images_are_classified_as_the_run_itself_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right answers, task by task, of both protocols: those of ``accuracy_matrix.csv``."""
    from cl_lightning.data.sources.base import ArraySource
    from cl_lightning.data.sources.datasets import load_sources

    run_dir = tmp_path / "run"
    assert typed(f"run_dir={run_dir}", "data.increment=5", "epochs_scale=0.001", "balanced_epochs_scale=0.05") == 0
    with (run_dir / "accuracy_matrix.csv").open() as file:
        counted = {(row["protocol"], row["eval_task"]): row for row in csv.DictReader(file) if row["after_task"] == "1"}
    test = load_sources("digits")[1]
    assert isinstance(test, ArraySource)
    capsys.readouterr()
    for task in (0, 1):
        rows = torch.nonzero(test.labels // 5 == task).flatten()
        files = save_pictures(tmp_path / str(task), test.pixels[rows])
        labels = dict(zip(map(str, files), test.labels[rows].tolist(), strict=True))
        for protocol, given in (("class_incremental", []), ("task_incremental", ["--task", str(task + 1)])):
            assert predict(run_dir, tmp_path / str(task), "--format", "csv", *given) == 0
            found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
            right = sum(row["class"] == str(labels[row["file"]]) for row in found)
            assert (right, len(found)) == (int(counted[protocol, str(task)]["hits"]), len(rows))


def test_a_method_that_is_to_be_told_the_task_says_so(
    tmp_path: Path, dytox: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("model=vit_cifar", "model.patch_size=4", "model.dim=12", "model.depth=1")
    write_run(tmp_path / "run", "method=classifier_only", *sizes)
    line = (
        "classifier_only learns each task for itself, to be told which it is (--task 1 to 2): here all classes compete"
    )
    assert predict(tmp_path / "run", folder) == 0
    assert line in capsys.readouterr().err
    assert predict(tmp_path / "run", folder, "--task", 2) == 0
    assert predict(dytox.folder, folder) == 0
    assert "to be told which it is" not in capsys.readouterr().err
