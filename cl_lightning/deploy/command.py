"""Parts that the commands on trained models share: the device, the model, and what is told while images pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from cl_lightning.core.cli import say
from cl_lightning.core.errors import UserError
from cl_lightning.deploy.exported import is_export, load_exported
from cl_lightning.deploy.listing import name_of
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.reading import Skipped
from cl_lightning.deploy.run_model import open_run


def open_model(folder: Path, checkpoint: Path | None, device: str, max_pixels: int | None) -> TrainedModel:
    """Return the model of an export, or of a run; ``device`` is ``auto``, ``cpu`` or ``cuda``. Raises ``UserError``."""
    found = found_device(device)
    if is_export(folder) and checkpoint is None:
        return load_exported(folder, found).reading_at_most(max_pixels)
    return open_run(folder, checkpoint, found).reading_at_most(max_pixels)


def found_device(name: str) -> str:
    """Return the device for ``auto``, ``cpu`` or ``cuda``. Raises ``UserError`` if there is no GPU for ``cuda``."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch finds no GPU here: type --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def watch(total: int) -> Callable[[int, list[Skipped]], None]:
    """Return a callback that names skipped images, and counts images on a terminal."""
    on_terminal = sys.stderr.isatty()

    def look(done: int, skipped: list[Skipped]) -> None:
        for each in skipped:
            say(f"skipped {name_of(each.file)}: {each.reason}")
        if on_terminal and total > done:
            sys.stderr.write(f"{done} of {total} images\r")
            sys.stderr.flush()

    return look
