"""A bug of ours is no mistake of the user's: it shows its traceback, and the exit code is 1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cl_lightning.data.sources import datasets
from tests.integration.commands import typed

pytestmark = pytest.mark.slow

ERRORS = (ValueError, KeyError, TypeError, RuntimeError, AttributeError, AssertionError, IndexError, MemoryError)
PLANTS = {
    "a method's constructor": "cl_lightning.methods.wa.WA.__init__",
    "a network's constructor": "cl_lightning.models.resnet.CifarResNet.__init__",
    "a data set's reader": "cl_lightning.data.sources.datasets.READERS",
    "a plan item": "cl_lightning.methods.wa.WA.plan",
    "the forecast": "cl_lightning.resources.memory_estimate.count",
    "a check": "cl_lightning.config.compose.check",
}
_FAST = ["method=wa", "epochs_scale=0.001", "data.increment=5", "trainer.threads=1"]
_PROGRAM = """
import sys
from {module} import {owner} as owner
def planted(*given, **named): raise {error}("planted")
owner.{name} = planted
from cl_lightning.__main__ import main
main()
"""


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_bug_is_not_told_as_a_mistake(
    plant: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*_: object, **__: object) -> None:
        raise error("planted")

    if plant == "a data set's reader":
        monkeypatch.setitem(datasets.READERS, "digits", planted)  # type: ignore[arg-type]
    else:
        monkeypatch.setattr(PLANTS[plant], planted)
    with pytest.raises(error, match="planted"):
        typed(*_FAST, f"run_dir={tmp_path / 'run'}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "owner", "name", "error"),
    [
        ("cl_lightning.models.resnet", "CifarResNet", "__init__", "KeyError"),
        ("cl_lightning.methods.wa", "WA", "plan", "KeyError"),
        ("cl_lightning.methods.wa", "WA", "__init__", "ValueError"),
    ],
)
def test_it_shows_its_traceback_and_the_exit_code_is_1(
    module: str, owner: str, name: str, error: str, tmp_path: Path
) -> None:
    code = _PROGRAM.format(module=module, owner=owner, name=name, error=error)
    line = [sys.executable, "-c", code, *_FAST, f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    last = "KeyError: 'planted'" if error == "KeyError" else "ValueError: planted"
    assert last in done.stderr
    log = (tmp_path / "run" / "run.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert last in log
