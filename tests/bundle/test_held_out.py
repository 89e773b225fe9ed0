"""Bundles of a method that holds images out of training: what is held out is what such a run could have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.bundle.__main__ import main as bundle
from scripts.soak.bundles import packed, unpacked
from tests.bundle.test_damage import TINY, refused
from tests.integration.commands import typed

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bundles")
    method = ["method=bic", "method.bias_correction.epochs=1", "model=resnet8", "memory.size=80"]
    assert typed(*TINY, *method, "data.increment=2", f"run_dir={folder}/run") == 0
    assert bundle(["export", f"{folder}/run", f"{folder}/b"]) == 0
    return (folder / "b").read_bytes()


def entries(part: Any) -> dict[Any, list[Any]]:
    """The [key, value] pairs of a mapping in state.json, by key."""
    return {pair[0]: pair for pair in part["dict"]}


def share(value: float) -> Callable[[Any], None]:
    def change(memory: Any) -> None:
        entries(memory)["held_share"][1] = value

    return change


def an_exemplar_too(memory: Any) -> None:
    exemplars = entries(entries(memory)["lists"][1]["list"][0])[0][1]["list"]
    entries(entries(memory)["held_out"][1])[0][1]["list"].append(exemplars[0])


def twice(memory: Any) -> None:
    rows = entries(entries(memory)["held_out"][1])[0][1]["list"]
    rows += rows


def all_trained_on(memory: Any) -> None:
    """The held-out images of the first class become exemplars."""
    held = entries(memory)["held_out"][1]["dict"]
    entries(entries(memory)["lists"][1]["list"][0])[0][1]["list"] += held.pop(0)[1]["list"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (share(2.0), "its state holds out another share than its config.yaml says"),
        (share(0.0), "its state holds out another share than its config.yaml says"),
        (an_exemplar_too, "an image is held out of training and an exemplar too"),
        (twice, "an image is held out of training twice"),
        (all_trained_on, "not of each of its classes an image is held out"),
    ],
)
def test_other_held_out_images_are_refused(
    change: Callable[[Any], None], line: str, whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = unpacked(whole)
    state = json.loads(files["state.json"])
    change(entries(state)["memory"][1])
    assert line in refused(packed({**files, "state.json": json.dumps(state).encode()}), tmp_path, capsys)


def test_what_was_written_is_taken(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(packed(unpacked(whole)))
    assert bundle(["import", f"{tmp_path}/b", f"{tmp_path}/out"]) == 0
