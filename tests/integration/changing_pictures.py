"""Small runs on a folder of pictures, and what changes the pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cl_lightning.checkpoint.files import last_checkpoint, save_whole
from cl_lightning.data.scenarios.image_list import LISTING

CLASSES = ("cat", "dog", "elk", "owl")
SMALL = [
    "data=image_folder", "data.increment=2", "data.image_size=16", "data.flip=false", "method=finetune",
    "model=resnet8", "memory=total", "memory.size=8", "debug=smoke", "report.page=false", "logger=none",
    "trainer.progress=none",
]  # fmt: skip
"""For ``python -m cl_lightning``."""


def picture(file: Path, seed: int) -> None:
    """Noise of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (16, 16, 3), np.uint8)).save(file)


def pictures(root: Path, *classes: str, train: int = 6, val: int = 4) -> Path:
    """``root/train/<class>`` and ``root/val/<class>``."""
    for name in classes or CLASSES:
        seed = sum(name.encode()) * 1000
        for part, count in (("train", train), ("val", val)):
            for number in range(count):
                picture(root / part / name / f"{number}.png", seed + number + 100 * (part == "val"))
    return root


def swap(one: Path, other: Path) -> None:
    """Two folders take each other's name."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def results(run_dir: Path) -> dict[str, Any]:
    """Of a run."""
    return dict(json.loads((run_dir / "results.json").read_text()))


def forget(run_dir: Path) -> None:
    """Let a run be as it was before images were recorded."""
    found = last_checkpoint(run_dir / "checkpoints")
    assert found is not None
    del found[1]["identity"]["images"]
    save_whole(*found)
    (run_dir / LISTING).unlink()
    old = results(run_dir)
    for key in ("data_identity", "images", "equal_images"):
        del old[key]
    (run_dir / "results.json").write_text(json.dumps(old))
    index = run_dir / "exemplars" / "index.json"
    if index.exists():
        kept = json.loads(index.read_text())
        del kept["identities"]
        index.write_text(json.dumps(kept))


def copied(folder: Path, place: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(folder, place))
