"""Runs on a folder of pictures that are others by the time that the run goes on: what is told, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cl_lightning.data.scenarios.image_list import LISTING
from tests.integration.changing_pictures import CLASSES, SMALL, copied, forget, picture, pictures, results, swap
from tests.integration.commands import typed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt one of two tasks, in ``run``, and its pictures, in ``pictures``: to be copied."""
    folder = tmp_path_factory.mktemp("begun")
    root = pictures(folder / "pictures")
    assert typed(*SMALL, f"data.root={root}", f"run_dir={folder}/run", "trainer.stop_after_task=0") == 0
    return folder


@pytest.fixture
def both(begun: Path, tmp_path: Path) -> Path:
    return copied(begun, tmp_path / "moved")


def resume(both: Path, capfd: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    capfd.readouterr()
    code = typed(f"resume={both}/run", f"data.root={both}/pictures", *more)
    return code, capfd.readouterr().err.strip()


def refused(both: Path, capfd: pytest.CaptureFixture[str]) -> str:
    code, told = resume(both, capfd)
    assert (code, len(told.splitlines())) == (2, 1), told
    start, end = f"error: resume={both}/run was made from other images: ", "; put them back, type data.root=DIR beside "
    assert told.startswith(start)
    assert end in told
    return told.removeprefix(start).partition(end)[0]


def test_swapped_test_pictures_are_named(both: Path, capfd: pytest.CaptureFixture[str]) -> None:
    swap(both / "pictures/val/cat", both / "pictures/val/dog")
    assert refused(both, capfd) == (
        "8 of 16 test images changed: val/cat/0.png, val/cat/1.png, val/cat/2.png and 5 more"
    )


def test_what_changed_is_gone_and_is_new_is_counted(both: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture(both / "pictures/train/cat/3.png", 77)
    picture(both / "pictures/val/owl/9.png", 78)
    (both / "pictures/val/dog/0.png").unlink()
    assert refused(both, capfd) == (
        "1 of 24 training images changed: train/cat/3.png; "
        "1 of 16 test images gone: val/dog/0.png; 1 new: val/owl/9.png"
    )


def test_a_copy_of_the_training_pictures_is_no_test(both: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(both / "pictures/val")
    shutil.copytree(both / "pictures/train", both / "pictures/val")
    assert refused(both, capfd) == (
        "16 of 16 test images changed: val/cat/0.png, val/cat/1.png, val/cat/2.png and 13 more; "
        "8 new: val/cat/4.png, val/cat/5.png, val/dog/4.png and 5 more"
    )


def test_a_training_picture_that_was_renamed_is_named(both: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (both / "pictures/train/cat/0.png").rename(both / "pictures/train/cat/zero.png")
    assert refused(both, capfd) == "1 of 24 training images gone: train/cat/0.png; 1 new: train/cat/zero.png"


def test_without_the_listing_numbers_are_reported(both: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (both / "run" / LISTING).unlink()
    picture(both / "pictures/val/cat/3.png", 77)
    assert refused(both, capfd) == "the 16 test images that are there are not the 16 of then"
    (both / "pictures/train/cat/0.png").rename(both / "pictures/train/cat/zero.png")
    (both / "run" / LISTING).write_bytes(b"nothing")
    code, told = resume(both, capfd)
    assert code == 2
    warned, told = told.splitlines()
    assert f"{LISTING} cannot be read" in warned
    assert "(Not a gzipped file (b'no'))): images that differ cannot be named" in warned
    assert "the 24 training images that are there are not the 24 of then, the 16 test images that" in told


def test_a_folder_that_moved_as_a_whole_is_the_same(both: Path, begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    listing = (both / "run" / LISTING).read_bytes()
    before = results(both / "run")
    assert resume(both, capfd) == (0, "")
    after = results(both / "run")
    assert {key: after[key] for key in ("data_identity", "images", "equal_images")} == {
        key: before[key] for key in ("data_identity", "images", "equal_images")
    }
    assert (both / "run" / LISTING).read_bytes() == listing
    assert after["images"] == {"train": dict.fromkeys(CLASSES, 6), "test": dict.fromkeys(CLASSES, 4)}
    assert after["data_identity"]["validation"] is None
    assert after["data_identity"]["train"] != after["data_identity"]["test"]
    assert len(after["tasks"]) == 2


def test_a_run_that_did_not_record_its_images_does_so_from_then_on(
    both: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resume(both, capfd) == (0, "")
    forget(both / "run")
    made = results(both / "run")["provenance"]
    code, told = resume(both, capfd)
    assert code == 0
    assert told.count("\n") == 0
    assert f"{both}/run was begun before runs recorded what is in their images" in told
    again = results(both / "run")
    assert again["images"]["test"] == dict.fromkeys(CLASSES, 4)
    assert again["provenance"] == made, "who made the numbers is not who looked at them"
    assert resume(both, capfd) == (0, ""), "it is said once"
    picture(both / "pictures/val/cat/3.png", 77)
    assert refused(both, capfd) == "1 of 16 test images changed: val/cat/3.png"


def test_a_run_that_did_not_record_its_images_is_not_evaluated_on_more(
    both: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    forget(both / "run")
    picture(both / "pictures/val/cat/9.png", 77)
    assert refused(both, capfd) == "task 1 was evaluated on 8 images, and there are 9 now"
    (both / "pictures/val/cat/9.png").unlink()
    for number in range(6):
        (both / f"pictures/train/cat/{number}.png").rename(both / f"pictures/train/cat/x{number}.png")
    told = refused(both, capfd)
    assert told.startswith(
        "the 24 training images that are there are not those of then; of 8 that it remembers 4 are missing: cat/"
    )


def test_the_same_command_again_asks_too(both: Path, capfd: pytest.CaptureFixture[str]) -> None:
    swap(both / "pictures/val/cat", both / "pictures/val/dog")
    code = typed(*SMALL, f"data.root={both}/pictures", f"run_dir={both}/run", "if_exists=resume")
    assert code == 2
    assert "8 of 16 test images changed: val/cat/0.png" in capfd.readouterr().err


def test_equal_pictures_are_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "pictures")
    shutil.copy(root / "train/cat/1.png", root / "val/cat/copy.png")
    shutil.copy(root / "train/cat/1.png", root / "val/cat/another.png")
    shutil.copy(root / "train/dog/2.png", root / "train/owl/bird.png")
    run = tmp_path / "run"
    assert typed(*SMALL, f"data.root={root}", f"run_dir={run}", "trainer.stop_after_task=0") == 0
    first, second = capfd.readouterr().err.strip().splitlines()
    assert first.startswith(
        "warning: 2 of 18 test images are training images too, byte for byte (train/cat/1.png is val/cat/another.png, "
        "train/cat/1.png is val/cat/copy.png): accuracy on them"
    )
    assert second.startswith(
        "warning: 2 images stand under more than one class, byte for byte (train/dog/2.png is train/owl/bird.png): "
    )
    assert results(run)["equal_images"] == {
        "train_and_test": {
            "images": 2,
            "examples": [["train/cat/1.png", "val/cat/another.png"], ["train/cat/1.png", "val/cat/copy.png"]],
        },
        "two_classes": {"images": 2, "examples": [["train/dog/2.png", "train/owl/bird.png"]]},
    }
    assert first.removeprefix("warning: ") in (run / "run.log").read_text()
