"""A bug of ours is no mistake of the user's: it shows its traceback, and the exit code is 1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLANTS = {
    "a network's constructor": """
        from cl_lightning.models import resnet
        def planted(*given, **named): raise {error}("planted")
        resnet.CifarResNet.__init__ = planted
    """,
    "a data set's reader": """
        from cl_lightning.data import datasets
        def planted(*given, **named): raise {error}("planted")
        datasets._READERS["digits"] = planted
    """,
    "a plan item": """
        from cl_lightning.methods import wa
        def planted(*given, **named): raise {error}("planted")
        wa.WA.plan = planted
    """,
    "the forecast": """
        from cl_lightning.forecast import parameters
        def planted(*given, **named): raise {error}("planted")
        parameters.MODELS[parameters.CifarResNetConfig] = planted
    """,
    "a check": """
        from cl_lightning.config import compose
        def planted(*given, **named): raise {error}("planted")
        compose.check = planted
    """,
}
_FAST = ["method=wa", "epochs_scale=0.001", "data.increment=5", "trainer.threads=1"]


def _run(plant: str, error: str, folder: Path) -> subprocess.CompletedProcess[str]:
    import inspect

    code = inspect.cleandoc(PLANTS[plant]).format(error=error)
    code += "\nfrom cl_lightning.__main__ import main\nimport sys\nsys.argv = ['cl_lightning', *sys.argv[1:]]\nmain()\n"
    return subprocess.run(
        [sys.executable, "-c", code, *_FAST, f"run_dir={folder / 'run'}"], capture_output=True, text=True, cwd=folder
    )


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("error", ["KeyError", "TypeError"])
def test_a_planted_bug_shows_its_traceback(plant: str, error: str, tmp_path: Path) -> None:
    done = _run(plant, error, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert f"{error}: " in done.stderr
    assert "planted" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("error", ["RuntimeError", "AttributeError", "AssertionError", "MemoryError", "IndexError"])
def test_whatever_its_kind(plant: str, error: str, tmp_path: Path) -> None:
    done = _run(plant, error, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback (most recent call last)" in done.stderr
