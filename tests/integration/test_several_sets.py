"""A run through several data sets: arrays and files mixed, gone on with, and used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cl_lightning import rng
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import load_saved
from cl_lightning.errors import UserError
from cl_lightning.rng import Key
from cl_lightning.run import execute

TINY = [
    "data=sequence", "data.image_size=16", "data.augmentation=basic", "model=convit_tiny", "model.dim=16",
    "model.depth=1", "model.patch_size=8", "memory.size=30", "epochs_scale=0.002", "balanced_epochs_scale=0.05",
    "trainer.threads=1", "trainer.progress=none", "report.exemplars=2",
]  # fmt: skip


def pictures(root: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(20):
            noise = rng.integers(Key(label).fold(index), torch.arange(24 * 20 * 3), 256).to(torch.uint8)
            Image.fromarray(noise.view(24, 20, 3).numpy()).save(root / name / f"{index}.png")
    return root


@pytest.mark.slow
def test_arrays_and_files_are_learnt_remembered_and_gone_on_with(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures")
    sets = f"data.sets=[{{name: digits, increment: 5, flip: false}}, {{name: image_folder, root: {folder}}}]"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    execute(compose_typed([f"run_dir={whole}", sets, *TINY]))
    execute(compose_typed([f"run_dir={parts}", sets, *TINY, "trainer.stop_after_task=1"]))
    moved = folder.rename(tmp_path / "elsewhere")
    execute(load_saved(parts, ["trainer.stop_after_task=null", f"data.sets.1.root={moved}"]), resume=True)
    results, again = (json.loads((run / "results.json").read_text()) for run in (whole, parts))
    assert results["protocol"]["tasks"] == [5, 5, 2]
    assert results["tasks"][2]["names"] == ["image_folder/cat", "image_folder/dog"]
    assert results["accuracy_matrix"] == again["accuracy_matrix"]
    with pytest.raises(UserError, match=r"data.sets.2.root=x is none of the 2 entries"):
        load_saved(parts, ["data.sets.2.root=x"])
