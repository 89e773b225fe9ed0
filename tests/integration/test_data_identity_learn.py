"""One more task for a run whose old pictures are others by then: what is evaluated, and what it may remember."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cl_lightning.checkpoint.files import last_checkpoint
from cl_lightning.factory.added_task import exemplars_of, read_finished
from tests.integration.changing_pictures import SMALL, copied, forget, picture, pictures, results, swap
from tests.integration.commands import typed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ``run`` on its ``pictures``, and ``more`` of other classes."""
    folder = tmp_path_factory.mktemp("finished")
    root = pictures(folder / "pictures")
    pictures(folder / "more", "ape", "bee")
    assert typed(*SMALL, f"data.root={root}", f"run_dir={folder}/run") == 0
    return folder


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path / "own")


def learn(own: Path, capfd: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[str]]:
    """Exit code, and what is warned of or refused."""
    capfd.readouterr()
    code = typed(
        f"learn={own}/run", f"data.new={own}/more", f"data.root={own}/pictures", f"run_dir={own}/learnt", *more
    )
    return code, capfd.readouterr().err.strip().splitlines()


def again(own: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Go on with what was learnt, of which nothing is left to do."""
    capfd.readouterr()
    code = typed(f"resume={own}/learnt", f"data.root={own}/pictures", f"data.new={own}/more")
    return code, capfd.readouterr().err.strip().splitlines()


def remembered(own: Path) -> list[str]:
    found = last_checkpoint(own / "run/checkpoints")
    assert found is not None
    return [key for kept in found[1]["memory"]["lists"][0].values() for key in kept]


def test_old_tasks_are_not_evaluated_on_other_pictures(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    swap(own / "pictures/val/cat", own / "pictures/val/dog")
    code, told = learn(own, capfd)
    assert (code, told) == (
        0,
        [
            "warning: tasks 1 to 2 will not be evaluated: 8 of 16 test images changed: "
            "val/cat/0.png, val/cat/1.png, val/cat/2.png and 5 more"
        ],
    )
    found = results(own / "learnt")
    assert found["accuracy_matrix"]["class_incremental"]["linear"][-1][:2] == [None, None]
    assert found["images"] == {
        "train": {"cat": 6, "dog": 6, "elk": 6, "owl": 6, "ape": 6, "bee": 6},
        "test": {"cat": 0, "dog": 0, "elk": 0, "owl": 0, "ape": 4, "bee": 4},
    }


def test_what_was_learnt_from_several_places_is_compared_place_by_place(
    own: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert learn(own, capfd) == (0, [])
    before = results(own / "learnt")
    assert before["images"]["test"] == dict.fromkeys(("cat", "dog", "elk", "owl", "ape", "bee"), 4)
    assert again(own, capfd) == (0, [])
    assert results(own / "learnt") == before
    swap(own / "pictures/val/cat", own / "pictures/val/dog")
    code, (told,) = again(own, capfd)
    assert code == 0
    assert "tasks 1 to 2 will not be evaluated: 8 of 16 test images changed: val/cat/0.png" in told
    swap(own / "pictures/val/cat", own / "pictures/val/dog")
    picture(own / "more/val/bee/2.png", 5)
    code, (told,) = again(own, capfd)
    assert code == 2
    assert f"resume={own}/learnt was made from other images: 1 of 8 test images changed: val/bee/2.png; put" in told
    assert "type data.new=DIR beside resume=" in told
    pictures(own / "more", "bee")
    forget(own / "learnt")
    picture(own / "pictures/val/owl/4.png", 5)
    code, (first, second) = again(own, capfd)
    assert code == 0
    assert "tasks 1 to 2 will not be evaluated: 16 test images were there, and 17 are there now" in first
    assert "was begun before runs recorded what is in their images" in second


def test_an_exemplar_that_changed_is_not_remembered(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = remembered(own)[3]
    picture(own / "pictures/train" / key, 5)
    code, (told,) = learn(own, capfd)
    assert code == 2
    assert (
        f"{own}/run remembers images that are not here (data.root={own}/pictures: 1 of 24 training images changed: "
        f"train/{key}; it remembers {key}): put its data back"
    ) in told
    assert not (own / "learnt").exists()
    (own / "pictures/train" / key).unlink()
    code, (told,) = learn(own, capfd)
    assert code == 2
    assert f"holds others than it was trained on: 1 of 24 training images gone: train/{key}): put its data" in told


def test_other_training_pictures_do_not_matter_any_more(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = next(f"cat/{number}.png" for number in range(6) if f"cat/{number}.png" not in remembered(own))
    picture(own / "pictures/train" / key, 5)
    config, payload = read_finished(own / "run", "learn=")
    config.data.root = f"{own}/pictures"
    with caplog.at_level(logging.INFO):
        kept = exemplars_of(config, payload)
    assert [kept.source.key(row) for row in range(len(kept.source))] == remembered(own)
    assert f"1 of 24 training images changed: train/{key}; the run remembers none of them" in caplog.text
