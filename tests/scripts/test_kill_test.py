"""A run that is killed anywhere ends as if nobody had; and the script that says so can say otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import kill_test

ROOT = Path(__file__).parents[2]


def kill(out: Path, *arguments: str, seconds: int = 280) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "kill_test.py"), f"out={out}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.mark.long
def test_a_run_that_is_killed_anywhere_ends_as_if_nobody_had(tmp_path: Path) -> None:
    done = kill(tmp_path, "kills=3", "data.increment=5", "epochs_scale=0.002", "balanced_epochs_scale=0.05")
    assert done.returncode == 0, done.stderr
    assert "no difference" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "method",
    [
        "dkt",
        "icarl",
        "lwf",
        "ucir",
        "podnet",
        "bic",
        "rpsnet",
        "e2e",
        "wa",
        "der",
        "hat",
        "finetune",
        "joint",
        "dytox_plusplus",
        "simplecil",
        "ranpac",
    ],
)
def test_every_method_survives(method: str, tmp_path: Path) -> None:
    done = kill(tmp_path, "kills=10", f"methods={method}", "seed=1", seconds=1800)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_masks_and_pruned_extractors_survive(tmp_path: Path) -> None:
    options = ["method.pruning.rule=masks", "method.kd_weight=1", "method.finetune_pruned=true"]
    done = kill(tmp_path, "kills=10", "methods=der", "seed=1", *options, seconds=1800)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["dytox", "icarl"])
def test_loaders_beside_the_run_change_nothing(method: str, tmp_path: Path) -> None:
    done = kill(tmp_path, "kills=10", f"methods={method}", "workers=2", seconds=1800)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_an_optimiser_that_is_forgotten_is_found_out(tmp_path: Path) -> None:
    """The check can fail: the same kills, with a resumed phase that begins with a new optimiser."""
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from cl_lightning.learning import lightning_module
from scripts import kill_test
lightning_module.load_optimiser = lambda *state: None
sys.exit(kill_test.main(["kills=8", "seed=1", "out={tmp_path}"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 1
    assert "DIFFERENT: results of" in done.stderr


def test_every_place_to_die_at_exists() -> None:
    """A name that has changed would never be reached, and nobody would notice."""
    import functools
    import importlib

    for module, path in kill_test.SITES.values():
        assert callable(functools.reduce(getattr, path.split("."), importlib.import_module(module)))


@pytest.mark.parametrize("argument", ["kills", "kills=many", "methods=dytx", "method.temprature=2"])
def test_wrong_input_is_one_line(argument: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kill_test.main([argument, f"out={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
