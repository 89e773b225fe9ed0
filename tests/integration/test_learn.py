"""One more task for a finished run: from its data, from a bundle alone, after an interruption, again and again."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.checkpoint.files import last_checkpoint, save_whole
from cl_lightning.checkpoint.state import restore_network
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import to_plain
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.image_list import LISTING
from cl_lightning.data.sources import datasets
from cl_lightning.memory.herding import herd
from tests.integration.commands import typed
from tests.integration.commands import write_digits as write_four

pytestmark = pytest.mark.slow

TINY = ["method=der", "epochs_scale=0.01", "balanced_epochs_scale=0.1", "trainer.progress=none", "logger=none"]


def write_digits(root: Path, **classes: int) -> Path:
    """The digits of each class as files of their own size, in a folder of its name."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for name, digit in classes.items():
        (root / name).mkdir(parents=True)
        for number, image in enumerate(images[labels == digit]):
            pixels = np.rint(image.reshape(8, 8) * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03}.png")
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("finished") / "digits"
    assert typed(*TINY, "data.classes=4", "evaluate_phases=true", f"run_dir={run_dir}") == 0
    return run_dir


@pytest.fixture(scope="module")
def learnt(finished: Path) -> Path:
    """Two classes more; what the run before was is kept in ``before``."""
    before = contents(finished)
    folder = write_digits(finished.parent / "more", four=4, five=5)
    assert typed(f"learn={finished}", f"data.new={folder}") == 0
    assert contents(finished) == before, "the run that was gone on with is as it was, bit for bit"
    return finished.parent / "digits_plus_more"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results(run_dir: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return read


def matrix(run_dir: Path) -> list[list[float | None]]:
    rows: list[list[float | None]] = results(run_dir)["accuracy_matrix"]["class_incremental"]["linear"]
    return rows


@pytest.fixture
def no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that does not have the data set."""

    def gone(*_: object) -> None:
        raise UserError("the digits are gone")

    monkeypatch.setitem(datasets.READERS, "digits", gone)


def test_old_and_new_classes_are_classified(finished: Path, learnt: Path) -> None:
    assert matrix(learnt)[:2] == matrix(finished), "the rows of tasks before are carried over"
    newest = matrix(learnt)[2]
    assert min(newest) > 0.5, newest  # type: ignore[type-var]  # chance is a sixth
    found = results(learnt)
    assert found["last_accuracy"] > 0.7
    assert [task["names"] for task in found["tasks"]] == [["0", "1"], ["2", "3"], ["five", "four"]]
    assert found["protocol"]["tasks"] == [2, 2, 2]
    phases, before = found["phase_accuracy"], results(finished)["phase_accuracy"]
    assert phases[: len(before)] == before, "phases of tasks before are carried over"
    own = [(task, name) for task in (1, 2) for name in ("main", "classifier")]
    assert [(entry["task"], entry["phase"]) for entry in phases] == [(0, "main"), *own]
    assert found["protocol"]["extended"][0].startswith("task 3: folder more, fingerprint ")


@pytest.mark.parametrize("place", ["write_kept", "write_results"])
def test_broken_off_before_its_first_step_it_ends_with_the_same_curves(
    place: str, finished: Path, learnt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first state is kept, and between that and its first results."""
    run_dir, words = finished.parent / place, [f"data.new={finished.parent / 'more'}", "logger=csv"]
    assert typed(f"learn={finished}", *words, f"run_dir={finished.parent / f'{place}_peace'}") == 0

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(f"cl_lightning.run.run_dir.{place}", full)
        assert typed(f"learn={finished}", *words, f"run_dir={run_dir}") == 1
    assert typed(f"resume={run_dir}") == 0
    for name in ("metrics.csv", "accuracy_matrix.csv"):
        assert (run_dir / name).read_bytes() == (finished.parent / f"{place}_peace" / name).read_bytes(), name


def test_the_checkpoint_predicts_all_classes(learnt: Path) -> None:
    found = last_checkpoint(learnt / "checkpoints")
    assert found is not None
    payload = found[1]
    assert payload["identity"]["class_names"] == ["0", "1", "2", "3", "five", "four"]
    keys = payload["memory"]["lists"][0]
    assert all(isinstance(key, int) for label in range(4) for key in keys[label])
    assert all(key.startswith("+3/four/") for key in keys[5])
    network = restore_network(payload["network"]).eval()
    four = [np.array(Image.open(path)) for path in sorted((learnt.parent / "more" / "four").iterdir())]
    pixels = torch.from_numpy(np.stack(four))[:, None]
    images = Pipeline(8, (0.3053,), (0.3760,), None, Key(0)).on_device(pixels, torch.arange(len(pixels)), 0)
    with torch.no_grad():
        predicted = network.logits(network(images)).argmax(dim=1)
    assert (predicted == 5).double().mean() > 0.6


def test_an_interrupted_run_goes_on_to_the_same_end(
    finished: Path, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while exemplars are chosen; by the time that it goes on, the run before is gone and the folder moved."""
    run_dir, before = tmp_path / "stopped", tmp_path / "before"
    shutil.copytree(finished, before)

    def herd_and_stop(features: torch.Tensor, count: int, *, normalised: bool) -> torch.Tensor:
        if not (run_dir / "told").exists():
            (run_dir / "told").touch()
            signal.raise_signal(signal.SIGINT)
        return herd(features, count, normalised=normalised)

    with monkeypatch.context() as patched:
        patched.setattr("cl_lightning.run.memory_items.herd", herd_and_stop)
        assert typed(f"learn={before}", f"data.new={finished.parent}/more", f"run_dir={run_dir}") == 75
    assert len(results(run_dir)["tasks"]) == 2
    shutil.rmtree(before)
    shutil.copytree(finished.parent / "more", tmp_path / "moved")
    assert typed(f"resume={run_dir}", f"data.new={tmp_path}/moved") == 0
    assert matrix(run_dir) == matrix(learnt)


def test_a_bundle_is_enough_to_learn_more(
    learnt: Path, tmp_path: Path, no_digits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the data set and without the folder learnt before: from the exemplars alone."""
    assert bundle(["export", str(learnt), str(tmp_path / "run.bundle")]) == 0
    (tmp_path / "elsewhere").mkdir()
    run_dir = tmp_path / "elsewhere" / "run"
    hidden = learnt.parent / "more"
    hidden.rename(learnt.parent / "hidden")
    try:
        assert bundle(["import", str(tmp_path / "run.bundle"), str(run_dir)]) == 0
        assert "a run of 6 classes with 198 images in its memory" in capsys.readouterr().out
        folder = write_digits(tmp_path / "last", six=6)
        assert typed(f"learn={run_dir}", f"data.new={folder}", f"run_dir={tmp_path}/new") == 0
    finally:
        (learnt.parent / "hidden").rename(hidden)
    warned = capsys.readouterr().err
    assert "tasks 1 to 2 will not be evaluated: the digits are gone" in warned
    assert "task 3 will not be evaluated" in warned
    newest = matrix(tmp_path / "new")[-1]
    assert newest[:3] == [None, None, None]
    assert newest[3] is not None
    assert newest[3] > 0.5
    found = results(tmp_path / "new")
    assert (found["last_accuracy"], found["average_incremental_accuracy"], found["forgetting"]) == (None, None, None)
    assert remembered_classes_right(tmp_path / "new") > 0.5


def remembered_classes_right(run_dir: Path) -> float:
    """Share of the digits 0 to 3 that a run classifies rightly, which it could not evaluate by itself."""
    from sklearn.datasets import load_digits

    found = last_checkpoint(run_dir / "checkpoints")
    assert found is not None
    network = restore_network(found[1]["network"]).eval()
    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(np.rint(images[labels < 4] * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
    ready = Pipeline(8, (0.3053,), (0.3760,), None, Key(0)).on_device(pixels, torch.arange(len(pixels)), 0)
    with torch.no_grad():
        predicted = network.logits(network(ready)).argmax(dim=1)
    return (predicted == torch.from_numpy(labels[labels < 4])).double().mean().item()


def test_pictures_are_learnt_beside_pictures(tmp_path: Path) -> None:
    """A run on a folder keeps its exemplars as files, in a bundle too."""
    root = write_four(tmp_path / "old")
    data = ["data=image_folder", f"data.root={root}", "data.increment=2", "data.image_size=16", "data.flip=false"]
    small = ["model=resnet8", "memory.size=24", "data.test_share=0.3"]
    assert typed("debug=smoke", "method=der", "logger=none", *data, *small, f"run_dir={tmp_path}/run") == 0
    assert bundle(["export", f"{tmp_path}/run", f"{tmp_path}/b"]) == 0
    root.rename(tmp_path / "gone")
    assert bundle(["import", f"{tmp_path}/b", f"{tmp_path}/imported"]) == 0
    assert (tmp_path / "imported" / LISTING).read_bytes() == (tmp_path / "run" / LISTING).read_bytes()
    folder = write_digits(tmp_path / "new", six=6)
    assert typed(f"learn={tmp_path}/imported", f"data.new={folder}", f"run_dir={tmp_path}/more") == 0
    found = last_checkpoint(tmp_path / "more" / "checkpoints")
    assert found is not None
    index = json.loads((tmp_path / "more" / "exemplars" / "index.json").read_text())
    for key, name in zip(index["keys"], index["files"], strict=True):
        kept = tmp_path / "more" / "exemplars" / "files" / name
        assert kept.read_bytes() == (tmp_path / "gone" / key).read_bytes()
    lists = found[1]["memory"]["lists"][0]
    assert {key for label in range(4) for key in lists[label]} <= set(index["keys"])


def test_mistakes_are_reported_and_nothing_is_written(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "known/3", "blank/cat"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(9):
        Image.new("L", (8, 8)).save(tmp_path / "known" / "3" / f"{number}.png")
    before = contents(finished)
    mistakes = {
        "empty": "has no class folders: type data.new=DIR",
        "known": 'class "3" is known already: rename the folder 3, or leave it out',
        "blank": "holds no image",
    }
    for name, expected in mistakes.items():
        assert typed(f"learn={finished}", f"data.new={tmp_path}/{name}", f"run_dir={tmp_path}/new") == 2
        error = capsys.readouterr().err.strip()
        assert expected in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()
    assert contents(finished) == before


@pytest.fixture
def altered(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def change(run_dir: Path, **values: Any) -> None:
    """Rewrite parts of a run's last state."""
    found = last_checkpoint(run_dir / "checkpoints")
    assert found is not None
    save_whole(found[0], {**found[1], **values})


def told(capsys: pytest.CaptureFixture[str], run_dir: Path, *arguments: str) -> str:
    """The one line that is said when the run should learn more, and does not."""
    folder = run_dir.parent / "new"
    if not folder.exists():
        write_digits(folder, six=6)
    capsys.readouterr()
    assert typed(f"learn={run_dir}", f"data.new={folder}", *arguments) == 2
    assert sorted(path.name for path in run_dir.parent.iterdir()) == ["new", "run"], "nothing is written"
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_an_end_before_the_new_task_is_refused(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, altered, "trainer.stop_after_task=0")
    assert "trainer.stop_after_task=0 comes before the new task: type trainer.stop_after_task=" in line


def test_a_run_that_is_not_finished_is_refused(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = last_checkpoint(altered / "checkpoints")
    assert found is not None
    counts = {protocol: {name: rows[:1] for name, rows in of.items()} for protocol, of in found[1]["matrices"].items()}
    change(altered, records=found[1]["records"][:1], matrices=counts, class_counts={})
    assert f"{altered} is not finished (1 of 2 tasks are learnt): type resume={altered} first" in told(capsys, altered)
    assert bundle(["export", str(altered), str(altered.parent / "b")]) == 2
    assert "is not finished" in capsys.readouterr().err
    change(altered, version=2)
    assert "has format 2, this program reads format 3" in told(capsys, altered)
    shutil.rmtree(altered / "checkpoints")
    assert "is not finished: type resume=" in told(capsys, altered)


def test_a_method_that_needs_all_images_is_refused(
    altered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cl_lightning.factory.added_task.refuse_edits", lambda *_: None
    )  # it is not the run of its checkpoint
    joint = compose_typed(["method=joint", "data.classes=4", f"run_dir={altered}", "trainer.progress=none"])
    (altered / "config.yaml").write_text(yaml.safe_dump(to_plain(joint)))
    assert "method=joint trains on all images of all tasks" in told(capsys, altered)


def test_a_memory_that_would_not_last_is_refused(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "memory.size=4 is smaller than the 5 classes seen" in told(capsys, altered, "memory.size=4")


def test_without_the_images_that_it_remembers_a_run_is_refused(
    altered: Path, no_digits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = told(capsys, altered)
    assert f"{altered} remembers images that are not here (the digits are gone): put its data back" in line
    assert "python -m cl_lightning.bundle" in line
