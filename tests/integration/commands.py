"""The command line in this process: what is typed, and what comes of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from cl_lightning.__main__ import main
from scripts.kill_test import outcome

__all__ = ["SHORT", "a_few_and_the_rest", "outcome", "typed", "write_digits"]

SHORT = ["epochs_scale=0.004", "balanced_epochs_scale=0.1", "data.increment=[4,3,3]", "trainer.progress=none"]


def typed(*arguments: Any) -> int:
    """``python -m cl_lightning ...``; returns the exit code."""
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None  # a job of before that was broken off knows another working directory
    before, sys.argv = sys.argv, ["cl_lightning", *map(str, arguments)]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def write_digits(root: Path, each: int = 12) -> Path:
    """Some of the digits as files, in a folder for each of four classes."""
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for label in range(4):
        (root / str(label)).mkdir(parents=True)
        for index, image in enumerate(images[labels == label][:each]):
            Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).save(root / str(label) / f"{index}.png")
    return root


def a_few_and_the_rest(cases: Iterable[str]) -> list[Any]:
    """Every fourth case is among the quick tests: each composes a configuration, which takes Hydra half a second."""
    return [pytest.param(case, marks=[pytest.mark.slow] if index % 4 else []) for index, case in enumerate(cases)]
