"""A folder of the user's own with every oddity, from the first command to predictions; and runs from before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cl_lightning.checkpoint.files import last_checkpoint
from cl_lightning.predict import main as predict
from tests.data.folders import cache
from tests.data.odd_folders import ODDITIES, PLAIN, images_of, kinds_of, make_folder
from tests.integration.commands import typed

__all__ = ["cache"]  # a fixture that works by being here

pytestmark = pytest.mark.slow

SHORT = ["debug=smoke", "method=finetune", "model=resnet8", "data.image_size=16", "logger=none", "report.page=false",
         "data=image_folder", "data.increment=1"]  # fmt: skip
OLD = {"files": "by_suffix", "orientation": "ignore", "evaluate_on": "val_or_test", "test_split": "per_image"}


def results(run_dir: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return read


def evaluated(run_dir: Path) -> int:
    """Of the first task."""
    line = (run_dir / "accuracy_matrix.csv").read_text().splitlines()[1]
    return int(line.split(",")[5])


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on: everything. Five images of each class to be validated on, three to be tested on."""
    root = tmp_path_factory.mktemp("pets")
    make_folder(root / "train")
    make_folder(root / "val", oddities=[], plain=5)
    make_folder(root / "test", oddities=[], plain=3)
    return root


@pytest.fixture(scope="module")
def finished(pets: Path) -> Path:
    run_dir = pets.parent / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CL_LIGHTNING_CACHE", str(pets.parent / "cache"))
        assert typed(*SHORT, f"data.root={pets}", "data.order=[dog,cat]", f"run_dir={run_dir}") == 0
    return run_dir


def test_every_oddity_is_trained_on_or_told(pets: Path, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told, found = (finished / "run.log").read_text(), results(finished)
    trained = 2 * PLAIN + images_of()
    assert (
        f"{trained} training images of 2 classes ({PLAIN} of dog to {trained - PLAIN} of cat), 6 test images in test/; "
        "val/ is not used\n"
    ) in told
    (line,) = [line for line in told.splitlines() if " left out: " in line]
    assert line.endswith(" kinds (run.log names all)")
    assert "train/cat/notes.txt" in told
    assert {each["kind"]: each["count"] for each in found["left_out"]} == kinds_of()
    assert found["protocol"]["order"] == ["dog", "cat"]
    assert [task["names"] for task in found["tasks"]] == [["dog"], ["cat"]]
    assert (found["protocol"]["evaluates_on"], found["protocol"]["evaluation_folder"]) == ("test", "test")
    assert evaluated(finished) == 3

    assert predict([str(finished), str(pets / "train" / "cat"), "--format", "json"]) == 0
    said = capfd.readouterr().err
    assert f"{PLAIN + images_of()} images in " in said
    assert "left out: " in said


def test_a_run_from_before_goes_on_and_learns_as_it_was_begun(pets: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    old = [f"data.{name}={value}" for name, value in OLD.items() if name != "test_split"]  # there are parts
    root = Path(shutil.copytree(pets, tmp_path / "pets", symlinks=True, ignore=shutil.ignore_patterns("pipe.png")))
    shutil.rmtree(root / "train" / "__MACOSX")  # a class without images, then
    begun = ["trainer.stop_after_task=0", f"data.root={root}", f"run_dir={run_dir}"]
    assert typed(*SHORT, *old, *begun) == 0
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    for name in ("files", "orientation", "evaluate_on", "test_split"):
        del config["data"][name]
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    assert typed(f"resume={run_dir}") == 0
    found = results(run_dir)
    assert (found["protocol"]["evaluates_on"], found["protocol"]["evaluation_folder"]) == ("test", "val")
    assert evaluated(run_dir) == 5
    assert {each["kind"] for each in found["left_out"]} > {".gif files", "folders in class folders"}

    readable = [oddity for oddity in ODDITIES if "MACOSX" not in oddity.path]
    folder = make_folder(tmp_path / "more", ["owl"], readable, plain=20)
    assert typed(f"learn={run_dir}", f"data.new={folder}", f"run_dir={tmp_path}/new") == 0
    state = last_checkpoint(tmp_path / "new" / "checkpoints")
    assert state is not None
    config = yaml.safe_load((tmp_path / "new" / "config.yaml").read_text())
    assert {name: config["extends"]["folders"][0][name] for name in OLD} == OLD
    assert {each["kind"] for each in results(tmp_path / "new")["left_out"]} > {".gif files"}


def test_a_class_beside_one_of_nearly_its_name_is_asked_for(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    new, folder = tmp_path / "new", make_folder(tmp_path / "more", ["Cat"], oddities=[])
    learn = [f"learn={finished}", f"data.new={folder}", f"run_dir={new}"]
    assert typed(*learn) == 2
    assert 'class "Cat" is called nearly as "cat", which is known already' in capfd.readouterr().err
    assert typed(*learn, "data.allow_similar=true", "trainer.checkpoint_steps=1") == 0
    assert typed(f"resume={new}") == 0, "which is remembered"
    assert results(new)["tasks"][-1]["names"] == ["Cat"]
