"""The command that measures RandAugment against timm's: its tables, its exit status, what it says of wrong input."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.data.augmentation import operations, randaugment
from cl_lightning.data.augmentation.operations import Operation
from scripts import check_augmentation
from scripts.check_augmentation import main


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_augmentation, "DRAWS", 2000)


def rows(printed: str) -> dict[str, list[list[str]]]:
    """Cells of the lines of both tables, by their first one."""
    found: dict[str, list[list[str]]] = {}
    for line in printed.splitlines():
        name, *cells = [cell for cell in line.split("  ") if cell] or [""]
        found.setdefault(name, []).append([cell.strip() for cell in cells])
    return found


def cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@pytest.mark.slow
def test_default_images_are_within_bounds_and_json_says_what_the_tables_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "numbers.json"
    assert main(["--json", str(file)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    printed, numbers = rows(output.out), json.loads(file.read_text())
    assert numbers["failed"] == []
    assert [row["operation"] for row in numbers["operations"]] == [operation.name.lower() for operation in Operation]
    for row in numbers["operations"]:
        if not row["interpolates"]:
            assert (row["largest"], row["mean"], row["differing"]) == (0, 0, 0)
        assert row["largest"] <= 1
        assert row["mean"] < 1e-3
        assert printed[row["operation"]][0] == [cell(value) for value in list(row.values())[1:]]
    for row, place in zip(numbers["draws"], [1] * 15 + [0], strict=True):
        assert printed[row["operation"]][place] == [cell(value) for value in list(row.values())[1:]]
    magnitudes = {row["operation"]: row["magnitudes"] for row in numbers["operations"]}
    assert magnitudes["invert"] == "none"
    assert magnitudes["posterise"] == "0 2.5 5 9"
    assert magnitudes["rotate"] == "0 ±2.5 ±5 ±9 ±10"
    assert numbers["posterised_to_0_bits"]["ours_is_black"]
    assert "Posterised to 0 bits (magnitude 10): ours gives black, Pillow" in output.out
    assert output.out.endswith("All within bounds.\n")


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_an_operation_that_is_off_by_three_levels_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = operations.TABLES[Operation.INVERT]
    broken = lambda images, zeros: right(images, zeros).clamp(max=252)  # noqa: E731
    monkeypatch.setitem(operations.TABLES, Operation.INVERT, broken)
    assert main(["--count", "2", "--size", "8"]) == 1
    printed = capsys.readouterr().out
    assert rows(printed)["invert"][0][-1] == "no"
    assert printed.endswith("Not within bounds: invert.\n")


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize(
    ("operation", "row", "value", "failed"),
    [
        (Operation.ROTATE, 1, 33.0, "rotate, draws of rotate"),  # reach
        (Operation.ROTATE, 2, 0.0, "rotate, draws of rotate"),  # never the other way round
        (Operation.POSTERISE, 1, -3.0, "posterise, 0 bits, draws of posterise"),
    ],
)
def test_a_wrong_scale_fails(
    operation: Operation,
    row: int,
    value: float,
    failed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scales = randaugment.SCALE_TABLE.clone()
    scales[row, operation] = value
    monkeypatch.setattr(randaugment, "SCALE_TABLE", scales)
    assert main(["--count", "2", "--size", "16"]) == 1
    assert capsys.readouterr().out.endswith(f"Not within bounds: {failed}.\n")


@pytest.mark.slow
def test_draws_notice_what_single_images_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another mean, another probability, and a highest magnitude that is never reached: bits are compared by counts."""
    policy = check_augmentation.RandAugment

    def failed(**options: Any) -> list[str]:
        monkeypatch.setattr(check_augmentation, "RandAugment", lambda: policy(**options))
        return [row.operation for row in check_augmentation.compare_draws(20_000)[0] if not row.passed]

    assert failed() == []
    assert len(failed(magnitude=8.8)) == 11  # all but three without argument and the bits, which are 1 as before
    assert failed(probability=0.47) == ["any"]
    assert "posterise" in failed(magnitude_std=0.3)


def test_recording_timms_draws_leaves_random_states_and_operations_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    draws = check_augmentation.timm_draws(500)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert draws == check_augmentation.timm_draws(500)
    assert set(draws) == set(check_augmentation.TIMM_NAMES.values())
    assert 0 in check_augmentation.timm_draws(5000)["PosterizeIncreasing"]


@pytest.mark.usefixtures("few_draws")
def test_own_pictures_of_any_kind_with_a_broken_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    colours = Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    colours.save(tmp_path / "colours.png")
    colours.convert("L").save(tmp_path / "deep" / "er" / "grey.JPG")
    colours.convert("P").save(tmp_path / "deep" / "palette.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / ".hidden" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    assert main(["--images", str(tmp_path), "--size", "12", "--json", str(tmp_path / "numbers.json")]) == 0
    captured = capsys.readouterr()
    broken = tmp_path / "broken.png"
    reason = f"cannot identify image file {str(broken)!r}"
    skipped = [f"skipped: {broken} cannot be read as an image ({reason}): repair or remove the file"]
    assert captured.err.splitlines() == skipped
    assert f"3 pictures below {tmp_path}, 12 x 12" in captured.out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["skipped"] == skipped
    assert {row["images"] for row in numbers["operations"]} == {3}
    images, _ = check_augmentation.folder_images(tmp_path, 12, 2)
    assert images.shape == (2, 12, 12, 3)


@pytest.mark.long
def test_it_runs_as_a_file() -> None:
    command = [sys.executable, check_augmentation.__file__, "--size", "0"]
    result = subprocess.run(command, capture_output=True, text=True)
    message = "check_augmentation.py: --size 0 is not in 1 to 427 pixels: type --size 32\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "{}/nowhere"], "--images {}/nowhere is no folder: name one with pictures in it"),
        (["--images", "{}/empty"], "--images {}/empty holds no readable picture (JPEG, PNG"),
        (["--images", "{}/broken"], "--images {}/broken holds no readable picture (JPEG, PNG"),
        (["--size", "428"], "--size 428 is not in 1 to 427 pixels: type --size 32"),
        (["--size", "large"], "argument --size: invalid int value: 'large': type check_augmentation.py --help"),
        (["--count", "0"], "--count 0 must be 1 to 100000: type --count 64"),
        (["--colour"], "unrecognized arguments: --colour: type check_augmentation.py --help"),
        (["--json", "{}/nowhere/numbers.json"], "--json {}/nowhere/numbers.json cannot be written: name a file"),
        (["--json", "{}"], "--json {} cannot be written: name a file"),
    ],
)
def test_wrong_input_is_reported_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "one.png").write_bytes(b"")
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"check_augmentation.py: {message.format(tmp_path)}")
    assert captured.err.count("\n") == 1
