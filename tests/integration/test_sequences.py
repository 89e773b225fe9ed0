"""``data=sequence``: from the configuration to the tasks, what is told of a wrong entry, and a whole run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.config.schema import DataConfig, SetConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.sources.concat import ConcatSource
from cl_lightning.data.sources.datasets import load_sources
from cl_lightning.data.sources.decoding import resized
from cl_lightning.deploy.run_model import open_run
from cl_lightning.deploy.verification import sample
from cl_lightning.factory.data import build_pipeline, flips
from cl_lightning.factory.scenario import all_at_hand, dataset_scenario, only_arrays
from tests.config.made import data_of, filled
from tests.integration.commands import typed, write_digits

SIZE = 8


def sequence(*sets: SetConfig, **options: Any) -> DataConfig:
    whole: dict[str, Any] = {"order": None, "increment": None, "image_size": SIZE, "root": "nowhere", **options}
    return data_of("sequence", sets=list(sets), **whole)


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    return str(write_digits(tmp_path / "pictures"))


# ---- from the configuration to the tasks -------------------------------------------------------------------------


def test_entries_become_tasks(pictures: str) -> None:
    scenario = dataset_scenario(
        sequence(
            SetConfig("digits", select=["7", "1"], flip=False),
            SetConfig("image_folder", root=pictures, increment=[1, 3], flip=True),
            SetConfig("digits", order="seed:1993", classes=2, increment=1, flip=False),
        )
    )
    assert [task.names for task in scenario.tasks] == [
        ("digits/7", "digits/1"),
        ("image_folder/0",),
        ("image_folder/1", "image_folder/2", "image_folder/3"),
        ("digits/4",),
        ("digits/2",),
    ]
    assert scenario.set_of_class == (0, 0, 1, 1, 1, 1, 2, 2)
    digits, _ = load_sources("digits")
    assert isinstance(digits, ArraySource)
    for label, own in ((0, 7), (1, 1), (6, 4), (7, 2)):
        rows = scenario.class_rows(label)
        assert len(rows) == int((digits.labels == own).sum())
        key = str(scenario.train.key(int(rows[0]))).partition("/")[2]
        image = scenario.train.load_test(int(rows[0]), SIZE)
        assert torch.equal(image, digits.pixels[int(key)].expand(3, -1, -1))
        assert digits.labels[int(key)] == own


def test_arrays_alone_are_kept_on_the_device_and_files_are_not(pictures: str) -> None:
    digits = SetConfig("digits", flip=False)
    arrays = dataset_scenario(sequence(digits, image_size=12))
    assert isinstance(arrays.train, ArraySource)
    train, _ = load_sources("digits")
    assert isinstance(train, ArraySource)
    assert torch.equal(arrays.train.pixels[5], resized(train.pixels[5], 12).expand(3, -1, -1))
    mixed = sequence(digits, SetConfig("image_folder", root=pictures))
    assert isinstance(dataset_scenario(mixed).train, ConcatSource)
    assert (only_arrays(sequence(digits)), only_arrays(mixed)) == (True, False)


def test_each_set_may_have_its_own_augmentation(pictures: str) -> None:
    data = sequence(
        SetConfig("digits", select=["1", "2"], flip=False, augmentation="none"),
        SetConfig("image_folder", root=pictures, flip=True, augmentation="basic", crop_padding=0),
        SetConfig("digits", select=["0"], flip=False),
    )
    data.augmentation, data.crop_padding = "brightness", 4
    config = dataclasses.replace(filled(), data=data)
    pipeline = build_pipeline(config, dataset_scenario(data), Key(0))
    assert isinstance(pipeline.augmentation, PerDataset)
    none, folder, digit = pipeline.augmentation.each
    assert none is None
    assert folder == Augmentation(crop_padding=0, flip=True)
    assert digit == Augmentation(crop_padding=4, flip=False, brightness=63 / 255)
    assert pipeline.no_flip is not None
    assert pipeline.no_flip.tolist() == [True] * 2 + [False] * 4 + [True]
    assert flips(config)


def test_sets_with_a_folder_of_their_own_may_share_the_root(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011").mkdir()
    assert all_at_hand(sequence(SetConfig("cub200"), root=str(tmp_path)))
    assert not all_at_hand(sequence(SetConfig("cub200"), SetConfig("image_folder"), root=str(tmp_path)))
    assert not all_at_hand(sequence(SetConfig("cub200", root=str(tmp_path / "other")), root=str(tmp_path)))


WRONG = {
    "name: mnist is unknown: type name: digits, cifar100": SetConfig("mnist"),
    "root is not set: type root: DIR": SetConfig("image_folder"),
    "root: nowhere has no CUB_200_2011: type root: DIR": SetConfig("cub200"),
    "root: missing does not exist: type root: DIR": SetConfig("image_folder", root="missing"),
    "classes: 20 is not among the 10 classes of digits: type classes: 1 to 10": SetConfig("digits", classes=20),
    "increment: 3 does not divide the 10 classes of digits: type increment: 1, 2, 5": SetConfig("digits", increment=3),
    "order: 7 is no class order of digits: type order: identity": SetConfig("digits", order=7),
    "select has x, no class of it: type select: [0, ...]": SetConfig("digits", select=["0", "x"]),
    "select has 3 more than once": SetConfig("digits", select=["3", "1", "3"]),
    "select: [] names no class": SetConfig("digits", select=[]),
}


@pytest.mark.parametrize("told", WRONG)
def test_a_wrong_entry_is_named(told: str) -> None:
    good = SetConfig("digits", classes=1)
    with pytest.raises(UserError, match="entry 2") as error:
        dataset_scenario(sequence(good, WRONG[told]))
    line = str(error.value)
    assert line.startswith(f"data.sets, entry 2 ({WRONG[told].name}): {told}"), line
    assert "\n" not in line


def test_a_class_of_a_set_cannot_be_in_two_entries() -> None:
    with pytest.raises(UserError, match=r"class 1 of digits in entries 1 and 2"):
        dataset_scenario(sequence(SetConfig("digits", classes=2), SetConfig("digits", select=["9", "1"])))


# ---- a run -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_goes_through_the_sets(pictures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Learnt, stopped between tasks, gone on with where a set lies elsewhere, used; but not taught more."""
    folder = f"{{name: image_folder, root: {pictures}, classes: 3}}"
    sets = f"[{{name: digits, classes: 4, increment: 2, flip: false, augmentation: none}}, {folder}]"
    data = ["data=sequence", f"data.sets={sets}", f"data.image_size={SIZE}", "data.crop_padding=1", "batch.size=16"]
    short = ["method=icarl", "model=resnet8", "memory.size=28", "debug=smoke", "trainer.progress=none", "logger=none"]
    run = tmp_path / "run"
    assert typed(*data, *short, f"run_dir={run}", "trainer.stop_after_task=1") == 0
    elsewhere = Path(pictures).rename(tmp_path / "elsewhere")
    assert typed(f"resume={run}") == 2
    assert "entry 2 (image_folder): root: " in capsys.readouterr().err
    assert typed(f"resume={run}", f"data.sets.1.root={elsewhere}") == 0
    results = json.loads((run / "results.json").read_text())
    assert results["protocol"]["tasks"] == [2, 2, 3]
    assert results["protocol"]["sets"] == [
        "digits (classes 4, increment 2, mirrored no, augmentation none)",
        "image_folder (classes 3, increment all, mirrored yes)",
    ]  # fmt: skip
    assert results["protocol"]["order"] == "identity, identity"
    assert results["tasks"][2]["names"] == ["image_folder/0", "image_folder/1", "image_folder/2"]

    model = open_run(run)
    assert model.class_names[4] == "image_folder/0"
    assert model.preprocessing.short_side == SIZE * 256 // 224
    data_config = sequence(SetConfig("digits", classes=4), SetConfig("image_folder", root=str(elsewhere), classes=3))
    found = sample(model, data_config, [])
    assert found.origin.endswith(" images of sequence")
    assert found.images.shape[1:] == (3, SIZE, SIZE)

    capsys.readouterr()
    assert typed(f"learn={run}", f"data.new={elsewhere}") == 2
    assert "learn= does not go with a run of data=sequence" in capsys.readouterr().err
    assert bundle(["export", str(run), str(tmp_path / "file")]) == 2
    assert "its exemplars cannot be bundled" in capsys.readouterr().err
