"""Published sets by their own names, from the command line to what is done with a run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.data.sources.datasets import PUBLISHED
from cl_lightning.deploy.run_model import open_run
from cl_lightning.deploy.verification import sample
from cl_lightning.evaluate import main as evaluate
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.predict import main as predict
from tests.config.made import filled
from tests.data.published_sets import COLOURS, GOLDFISH, MAKE, picture, renditions, tiny
from tests.integration.commands import typed

SIZE = 8
SPLITS = {
    "aircraft": [10] * 10,
    "cars": [16, *[20] * 9],
    "cub200": [20] * 10,
    "flowers102": [12, *[10] * 9],
    "imagenet_r": [20] * 10,
    "stanford_dogs": [12] * 10,
    "tiny_imagenet": [20] * 10,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SPLITS))
def test_each_set_is_a_choice_with_its_published_tasks(name: str, tmp_path: Path) -> None:
    data = filled(f"data={name}", f"data.root={tmp_path}").data
    sizes = SPLITS[name]
    assert data.name == name
    assert [data.initial or data.increment, *[data.increment] * (len(sizes) - 1)] == sizes
    assert data.image_size == (64 if name == "tiny_imagenet" else 224)
    MAKE[name](tmp_path)
    made = dataset_scenario(dataclasses.replace(data, initial=None, increment=1))
    assert [task.num_new for task in made.tasks] == [1, 1]
    assert made.left_out is not None
    assert made.evaluates_on == "test"


def test_all_of_them_are_tried() -> None:
    assert set(SPLITS) == set(PUBLISHED) == set(MAKE)


@pytest.mark.slow
def test_what_is_typed_wrong_is_told_with_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("data=flowers102", f"data.root={tmp_path}", f"run_dir={tmp_path / 'run'}") == 2
    told = capsys.readouterr().err
    assert f"data.root={tmp_path} has no flowers-102: type data.root=DIR, where DIR/flowers-102 holds jpg, " in told
    assert "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/" in told
    sets = "data.sets=[{name: digits}, {name: flower102}]"
    assert typed("data=sequence", sets, f"run_dir={tmp_path / 'run'}") == 2
    assert "entry 2 (flower102): name: flower102 is unknown (did you mean flowers102?): type name: " in (
        capsys.readouterr().err
    )
    sets = f"data.sets=[{{name: imagenet_r, root: {tmp_path}, files: by_suffix}}]"
    assert typed("data=sequence", sets, f"run_dir={tmp_path / 'run'}") == 2
    assert "is read by nobody here: type name: image_folder as well" in capsys.readouterr().err


@pytest.mark.long
def test_a_run_is_trained_moved_used_taught_and_bundled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(tmp_path / "data", each=6)
    run, data = tmp_path / "run", tmp_path / "data"
    short = ["method=icarl", "model=resnet8", "memory.size=6", "debug=smoke", "trainer.progress=none", "logger=none"]
    small = [f"data.image_size={SIZE}", "data.increment=1", "batch.size=4"]
    begin = ["data=tiny_imagenet", f"data.root={data}", *small, *short, f"run_dir={run}"]
    assert typed(*begin, "trainer.stop_after_task=1") == 0
    moved = data.rename(tmp_path / "moved")
    assert typed(f"resume={run}") == 2
    assert "has no tiny-imagenet-200: type data.root=DIR, where" in capsys.readouterr().err
    assert typed(f"resume={run}", f"data.root={moved}") == 0
    results = json.loads((run / "results.json").read_text())
    assert {name for task in results["tasks"] for name in task["names"]} == {"goldfish", "shark"}
    assert results["protocol"]["evaluates_on"] == "test"
    assert results["protocol"]["order"] == "seed:1993"

    validation = moved / "tiny-imagenet-200" / "val" / "images"
    assert predict([str(run), str(validation), "--format", "csv", "--out", str(tmp_path / "answers.csv")]) == 0
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 1 + 12
    assert evaluate([str(run), "--out", str(tmp_path / "score.json")]) == 0

    found = sample(open_run(run), filled("data=tiny_imagenet", f"data.root={moved}", *small, *short[:3]).data, [])
    assert found.origin == "12 images of tiny_imagenet"
    assert found.images.shape == (12, 3, SIZE, SIZE)

    for number in range(6):
        picture(tmp_path / "new" / "frog" / f"{number}.png", number % len(COLOURS))
    more = tmp_path / "more"
    assert typed(f"learn={run}", f"data.new={tmp_path / 'new'}", f"run_dir={more}") == 0
    assert len(json.loads((more / "results.json").read_text())["tasks"]) == 3
    assert bundle(["export", str(more), str(tmp_path / "file")]) == 0
    shutil.rmtree(moved)
    assert bundle(["import", str(tmp_path / "file"), str(tmp_path / "restored")]) == 0
    assert predict([str(tmp_path / "restored"), str(tmp_path / "new")]) == 0


@pytest.mark.long
def test_sets_follow_one_another_below_one_root(tmp_path: Path) -> None:
    renditions(tmp_path)
    MAKE["flowers102"](tmp_path)
    MAKE["stanford_dogs"](tmp_path)
    sets = "data.sets=[{name: flowers102}, {name: stanford_dogs}, {name: imagenet_r, select: [" + GOLDFISH + "]}]"
    run = tmp_path / "run"
    short = ["method=icarl", "model=resnet8", "memory.size=10", "debug=smoke", "trainer.progress=none", "logger=none"]
    small = [f"data.image_size={SIZE}", "data.crop_padding=0", "batch.size=2"]
    assert typed("data=sequence", sets, f"data.root={tmp_path}", *small, *short, f"run_dir={run}") == 0
    results = json.loads((run / "results.json").read_text())
    assert results["protocol"]["tasks"] == [2, 2, 1]
    assert results["tasks"][2]["names"] == [f"imagenet_r/{GOLDFISH}"]
