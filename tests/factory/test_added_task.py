"""One task more: what a finished run remembers, as images, and which old images it can still be evaluated on."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cl_lightning.checkpoint import files
from cl_lightning.config.schema import Config, SetConfig
from cl_lightning.config.schema.added_task import ExtendsConfig, LearntFolderConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import View
from cl_lightning.data.scenarios.image_identity import identity_of
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.sources.exemplar_store import ExemplarStore, write_kept
from cl_lightning.factory import added_task, scenario
from cl_lightning.factory.added_task import EXEMPLARS, exemplars_of, inherited_exemplars, inherited_state, read_finished
from cl_lightning.factory.methods import build_method
from tests.config.made import filled

pytestmark = pytest.mark.slow

SIZE = 8


def table(name: str, start: int = 0) -> ArraySource:
    """Image n is grey level ``start + n``; six images of two classes in turn."""
    pixels = (start + torch.arange(6)).to(torch.uint8)[:, None, None, None].expand(6, 1, SIZE, SIZE).contiguous()
    return ArraySource(name, pixels, torch.tensor([0, 1, 0, 1, 0, 1]), ("ant", "bee"))


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> dict[str, ArraySource]:
    """The data that are where the run's were; a test may change them, or take them away."""
    there = {"train": table("toy/train"), "test": table("toy/test", start=100)}

    def load(name: str, root: Any, **options: Any) -> tuple[ArraySource, ArraySource]:
        if not there:
            raise OSError("the disk is gone")
        return there["train"], there["test"]

    monkeypatch.setattr(scenario, "load_sources", load)
    return there


def config(run_dir: Path, *overrides: str) -> Config:
    return filled("data.increment=1", f"run_dir={run_dir}", *overrides)


def payload(run: Config, lists: list[dict[int, list[int | str]]]) -> dict[str, Any]:
    made = scenario.dataset_scenario(run.data)
    return {
        "identity": {
            "class_names": ["ant", "bee"],
            "protocol": {"tasks": [1, 1]},
            "train_fingerprint": made.train.fingerprint,
            "images": [identity_of(made)],
        },
        "memory": {"lists": lists},
    }


# ---- exemplars ---------------------------------------------------------------------------------------------------


def test_exemplars_are_read_from_the_data_class_by_class_best_first(
    data: dict[str, ArraySource], tmp_path: Path
) -> None:
    """Two replicas remember some each: first the images of the first, then of the second."""
    run = config(tmp_path)
    kept = exemplars_of(run, payload(run, [{0: [4, 0], 1: [3]}, {0: [2], 1: [1, 5]}]))
    assert isinstance(kept.source, ArraySource)
    assert kept.source.keys == (4, 0, 2, 3, 1, 5)
    assert kept.source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert kept.source.pixels[:, 0, 0, 0].tolist() == [4, 0, 2, 3, 1, 5]
    assert (kept.sizes, kept.image_size, kept.channels) == ((1, 1), 8, 1)
    assert kept.fingerprints == (data["train"].fingerprint,)
    assert kept.source.class_names == ("ant", "bee")


def test_files_that_do_not_decode_are_not_told_again_where_exemplars_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are told where the old test images are read."""
    for name in ("ant", "bee"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (SIZE, SIZE), (number, 0, 0)).save(tmp_path / "pets" / name / f"{number}.png")
    (tmp_path / "pets" / "ant" / "broken.png").write_bytes(b"nothing")
    folder = ("data=image_folder", f"data.root={tmp_path}/pets", f"data.image_size={SIZE}", "data.on_broken=skip")
    run = config(tmp_path, *folder)
    finished = payload(run, [])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    key = scenario.dataset_scenario(run.data).train.key(0)
    caplog.clear()
    finished["memory"]["lists"] = [{0: [key]}]
    assert len(exemplars_of(run, finished).source) == 1
    assert caplog.records == []


def test_a_run_without_memory_remembers_no_image_and_needs_no_data(
    data: dict[str, ArraySource], tmp_path: Path
) -> None:
    run = config(tmp_path)
    finished = payload(run, [])
    data.clear()
    kept = exemplars_of(run, finished)
    assert len(kept.source) == 0
    assert isinstance(kept.source, ArraySource)
    assert kept.source.pixels.shape == (0, 1, SIZE, SIZE)


def test_a_copy_of_the_run_s_own_is_used_where_it_holds_them(data: dict[str, ArraySource], tmp_path: Path) -> None:
    run = config(tmp_path)
    finished = payload(run, [{0: [4], 1: [1]}])
    write_kept(tmp_path / EXEMPLARS, exemplars_of(run, finished))
    data.clear()
    assert exemplars_of(run, finished).source.pixels[:, 0, 0, 0].tolist() == [4, 1]  # type: ignore[union-attr]
    more = {**finished, "memory": {"lists": [{0: [0], 1: [1]}]}}
    with pytest.raises(UserError, match=r"remembers images that are not here \(the disk is gone\): put its data back"):
        exemplars_of(run, more)


def test_other_data_in_the_same_place_are_refused(data: dict[str, ArraySource], tmp_path: Path) -> None:
    run = config(tmp_path)
    finished = payload(run, [{0: [4], 1: [1]}])
    labels = torch.tensor([1, 0, 0, 1, 0, 1])
    data["train"] = dataclasses.replace(data["train"], labels=labels)
    with pytest.raises(UserError, match="data.root=data holds others than it was trained on"):
        exemplars_of(run, finished)


def test_exemplars_of_several_data_sets_stay_where_they_are(tmp_path: Path) -> None:
    run = filled("data=sequence")
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, sets=[SetConfig("digits")]))
    with pytest.raises(UserError, match="is a run of data=sequence, whose images come from several places"):
        exemplars_of(run, {})


# ---- a run that adds a task --------------------------------------------------------------------------------------


def folder(name: str) -> LearntFolderConfig:
    return LearntFolderConfig(
        name=name, folder=name, evaluate_on="auto", test_share=0.2, test_split="per_class", files="any",
        on_broken="error", orientation="ignore", allow_similar=False, changed=[],
    )  # fmt: skip


def extending(run_dir: Path, *folders: str, overrides: tuple[str, ...] = ()) -> Config:
    before = run_dir / "before"
    return dataclasses.replace(
        config(run_dir, *overrides), extends=ExtendsConfig(run=str(before), folders=[folder(name) for name in folders])
    )


@pytest.fixture
def store(data: dict[str, ArraySource], tmp_path: Path) -> ExemplarStore:
    """What the run before remembers: an image of each class."""
    run = config(tmp_path)
    return exemplars_of(run, payload(run, [{0: [4], 1: [1]}]))


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder brings classes ``cow`` and ``dog``, in place of pictures of its own."""

    def load(name: str, root: Any, **options: Any) -> tuple[ArraySource, ArraySource]:
        if root == "gone":
            raise OSError("no such folder: gone")
        train, test = table(f"{root}/train", start=200), table(f"{root}/test", start=220)
        names = ("cow", "dog")
        return dataclasses.replace(train, class_names=names), dataclasses.replace(test, class_names=names)

    monkeypatch.setattr(added_task, "load_sources", load)


@pytest.mark.usefixtures("more")
def test_the_folder_s_classes_follow_those_that_are_learnt(store: ExemplarStore, tmp_path: Path) -> None:
    write_kept(tmp_path / EXEMPLARS, store)
    made = added_task.extended_scenario(extending(tmp_path, "farm"))
    assert [task.names for task in made.tasks] == [("ant",), ("bee",), ("cow", "dog")]
    assert [len(task.train) for task in made.tasks] == [1, 1, 6], "of old classes the exemplars alone"
    assert [len(task.test) for task in made.tasks] == [3, 3, 6], "and all their test images"
    assert made.train.key(2) == "+3/0"
    assert isinstance(made.train, ArraySource)
    assert made.train.pixels[:, 0, 0, 0].tolist() == [4, 1, 200, 201, 202, 203, 204, 205]


@pytest.mark.usefixtures("more")
def test_old_tasks_without_data_are_evaluated_on_nothing_and_that_is_said(
    store: ExemplarStore, data: dict[str, ArraySource], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_kept(tmp_path / EXEMPLARS, store)
    data.clear()
    with caplog.at_level(logging.WARNING):
        made = added_task.extended_scenario(extending(tmp_path, "farm"))
    assert [len(task.test) for task in made.tasks] == [0, 0, 6]
    assert caplog.messages == ["tasks 1 to 2 will not be evaluated: the disk is gone"]


@pytest.mark.usefixtures("more")
def test_other_test_images_than_then_are_not_evaluated_on(
    store: ExemplarStore, data: dict[str, ArraySource], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_kept(tmp_path / EXEMPLARS, store)
    data["test"] = table("toy/test", start=90)
    with caplog.at_level(logging.WARNING):
        made = added_task.extended_scenario(extending(tmp_path, "farm"))
    assert [len(task.test) for task in made.tasks] == [0, 0, 6]
    assert caplog.messages == ["tasks 1 to 2 will not be evaluated: its test images are not those of then"]


@pytest.mark.usefixtures("more")
def test_a_class_that_is_known_is_refused_with_the_folder_that_brings_it(store: ExemplarStore, tmp_path: Path) -> None:
    cow = dataclasses.replace(store.source, class_names=("ant", "cow"))
    write_kept(tmp_path / EXEMPLARS, dataclasses.replace(store, source=cow))
    with pytest.raises(UserError, match=r'data.new=farm: class "cow" is known already: rename the folder cow'):
        added_task.extended_scenario(extending(tmp_path, "farm"))


def test_a_bundle_of_its_end_is_not_what_the_run_began_with(store: ExemplarStore, tmp_path: Path) -> None:
    """It remembers its own folder's images too, so it has one fingerprint more than a run that has begun."""
    write_kept(tmp_path / EXEMPLARS, dataclasses.replace(store, fingerprints=("a", "b"), identities=(None, None)))
    with pytest.raises(UserError, match="comes from a bundle, with the images that it remembers in the end"):
        inherited_exemplars(extending(tmp_path, "farm"))
    assert inherited_exemplars(extending(tmp_path, "farm", "zoo")).fingerprints == ("a", "b")


def test_a_method_that_needs_all_images_cannot_go_on(tmp_path: Path) -> None:
    run = extending(tmp_path, "farm", overrides=("method=joint",))
    made = without_images("toy", ("ant", "bee", "cow"), (1, 2), SIZE, 1)
    method = build_method(run, made, Key(0))
    assert [item.phase.view for item in method.plan(made.tasks[-1]) if hasattr(item, "phase")] == [View.CUMULATIVE]
    with pytest.raises(UserError, match="method=joint trains on all images of all tasks"):
        inherited_state(run, method, made)


def test_only_a_finished_run_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = config(tmp_path)
    monkeypatch.setattr(added_task, "load_saved", lambda folder, word: run)
    found: list[Any] = [None]
    monkeypatch.setattr(added_task, "last_state", lambda folder: found[0])
    with pytest.raises(UserError) as refused:
        read_finished(tmp_path, "learn=")
    assert str(refused.value) == f"learn={tmp_path} is not finished: type resume={tmp_path} first"
    found[0] = files, {"identity": {"protocol": {"tasks": [2, 2, 2]}}, "records": [{}]}
    with pytest.raises(UserError, match=r"is not finished \(1 of 3 tasks are learnt\): type resume="):
        read_finished(tmp_path, "learn=")
    found[0] = files, {"identity": {"protocol": {"tasks": [2]}}, "records": [{}]}
    assert read_finished(tmp_path, "learn=") == (run, found[0][1])
