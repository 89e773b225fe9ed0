"""The command that compares our code with golden vectors: what it prints, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.check_reference import main
from tests.golden import GOLDEN, plain

ROOT = Path(__file__).parents[2]
Arrays = dict[str, np.ndarray]
Capture = pytest.CaptureFixture[str]
BIAS = "encoder.0.attn.pos_proj.bias"


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return plain.generate(increments=[2], steps=1)


@pytest.fixture
def file(arrays: Arrays, tmp_path: Path) -> Path:
    return plain.save(tmp_path / "f.npz", arrays)


def test_the_golden_files_pass(capsys: Capture) -> None:
    for name, counts in (("dytox_small", "729 equal, 12 excused"), ("recipe_herding", "12 equal"),
                         ("recipe_schedule", "30 equal")):  # fmt: skip
        assert main([str(GOLDEN / f"{name}.npz")]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"PASS: {counts}"


def test_a_table_with_the_worst_tensor_of_each_group(file: Path, capsys: Capture) -> None:
    assert main([str(file), "--summary"]) == 0
    title, heading, *rows, last = capsys.readouterr().out.splitlines()
    assert title == f"{file}: DyTox"
    assert heading.split() == ["entry", "absolute", "relative", "bound", "verdict"]
    table = {row.split()[0]: row for row in rows}
    assert set(table) == {
        "task0/tokens", "task0/embeddings", "task0/logits", "task0/loss/classification", "task0/loss/total",
        "task0/grads/", "task0/mixup/targets", "task0/mixup/loss/classification", "task0/adamw/losses",
        "task0/adamw/params/", f"task0/adamw/params/{BIAS}", "task0/asam/perturbed/", "task0/asam/losses",
        "task0/asam/params/", f"task0/asam/params/{BIAS}",
    }  # fmt: skip
    assert "worst of " in table["task0/grads/"]
    assert "excused  (its true gradient is zero" in table[f"task0/adamw/params/{BIAS}"]
    assert last.startswith("PASS: ")
    assert len({row.index("equal") for row in rows if " equal" in row and "worst" not in row}) == 1, (
        "columns are aligned"
    )


def test_every_entry_has_a_line_for_people_and_for_machines(file: Path, arrays: Arrays, capsys: Capture) -> None:
    report = file.with_suffix(".json")
    assert main([str(file), "--json", str(report)]) == 0
    out = capsys.readouterr().out
    grads = [name for name in arrays if "/grads/" in name]
    assert all(f"\n{name} " in out for name in grads)
    assert len(grads) > 20
    told = json.loads(report.read_text())
    assert (told["kind"], told["passed"]) == ("DyTox", True)
    assert told["counts"]["excused"] == 2
    assert {row["entry"] for row in told["rows"]} >= set(grads)
    assert {"entry", "verdict", "absolute", "relative", "bound", "note"} == set(told["rows"][0])


def test_differences_are_shown_and_exit_1(file: Path, arrays: Arrays, capsys: Capture) -> None:
    changed = dict(arrays)
    changed["task0/logits"] = arrays["task0/logits"] + 1
    changed["task0/grads/decoder.attn.q.weight"] = arrays["task0/grads/decoder.attn.q.weight"] * np.float32(np.nan)
    changed["task0/adamw/params/pos_embed"] = np.zeros(3, np.float32)
    changed["task0/extra"] = np.zeros(3, np.float32)
    del changed["task0/embeddings"], changed["task0/asam/losses"]
    del changed["task0/mixup/targets"], changed["task0/mixup/loss/classification"]
    report = file.with_suffix(".json")
    assert main([str(plain.save(file, changed)), "--json", str(report)]) == 1
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines()[:-1] if " DIFFERS" in line or " LACKING" in line}
    assert set(rows) == {
        "task0/logits", "task0/grads/decoder.attn.q.weight", "task0/adamw/params/pos_embed", "task0/embeddings",
        "task0/asam/losses",
    }  # fmt: skip
    assert "nan" in rows["task0/grads/decoder.attn.q.weight"]
    assert "shape (1, 4, 6) here, shape (3,) in the file" in rows["task0/adamw/params/pos_embed"]
    assert "task0/mixup/" in out
    assert "not in this file" in out
    assert out.splitlines()[-1].startswith("FAIL: ")
    assert "3 DIFFERS, 2 LACKING" in out.splitlines()[-1]
    assert "1 not checked" in out.splitlines()[-1]
    assert "task0/logits" in out.splitlines()[-1], "failures are named where one looks first"
    told = {row["entry"]: row["absolute"] for row in json.loads(report.read_text())["rows"]}
    assert told["task0/grads/decoder.attn.q.weight"] == "nan"


def test_an_integer_that_differs_exits_1(tmp_path: Path, capsys: Capture) -> None:
    with np.load(GOLDEN / "recipe_herding.npz") as archive:
        recipe = {name: archive[name] for name in archive.files if name.startswith("herding2/")}
    recipe["herding2/select5"][3] += 1
    assert main([str(plain.save(tmp_path / "r.npz", recipe))]) == 1
    assert "1 of 5 differ, the first at 3" in capsys.readouterr().out


def test_wrong_input_is_one_line_and_exits_2(file: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    np.savez(tmp_path / "daformer.npz", **{"meta.json": np.array('{"variant": "M"}'), "x": np.zeros(1)})
    for typed, told in (
        (["no.npz"], "no.npz does not exist"),
        ([str(tmp_path)], "is a folder"),
        ([str(tmp_path / "text.npz")], "is not a NumPy archive"),
        ([str(tmp_path / "other.npz")], "is no file of golden vectors"),
        ([str(tmp_path / "daformer.npz")], "nothing in it can be checked"),
        ([str(file), "--json", str(tmp_path / "no" / "x.json")], "x.json"),
    ):
        assert main(typed) == 2
        out, err = capsys.readouterr()
        assert told in err
        assert (out, err.count("\n")) == ("", 1)


def test_the_process_uses_one_thread_and_leaves_it_as_it_was(file: Path) -> None:
    torch.set_num_threads(2)
    try:
        assert main([str(file)]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.long
def test_it_runs_as_a_script(file: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "check_reference.py"), str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parent)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("PASS: ")
