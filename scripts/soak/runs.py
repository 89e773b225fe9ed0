"""Small runs of every kind, each made once undisturbed: an attacked run must be equal to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cl_lightning.config.compose import compose_one_of_many, compose_typed
from cl_lightning.config.yaml_files import options
from scripts.kill_test import outcome
from scripts.soak.program import run

_STEPS = ("trainer.threads=1", "trainer.checkpoint_steps=3", "trainer.log_every=2", "evaluate_phases=true")
_SHORT = ("data.increment=[4,3,3]", "epochs_scale=0.004")
_FILES = (
    "data=image_folder", "data.image_size=8", "data.flip=false", "model=resnet8",
    "memory.size=20", "data.increment=2", "epochs_scale=0.01",
)  # fmt: skip
_QUIET = ("trainer.progress=none", "report.page=false")


@dataclass(frozen=True)
class Kind:
    """A kind of run: its overrides, ``ROOT`` standing for a folder of pictures, and the kind that it extends."""

    words: tuple[str, ...]
    before: str | None = None
    """Kind of the finished run that it extends (``learn=``)."""


def _of_method(method: str) -> Kind:
    return Kind((f"method={method}", *_SHORT, "balanced_epochs_scale=0.1", "method.backbone.epochs=250"))


METHODS = tuple(options("method"))
KINDS: dict[str, Kind] = {
    **{method: _of_method(method) for method in METHODS},
    "parts": Kind(("method=der", "model=resnet32", *_SHORT, "balanced_epochs_scale=0.1")),
    "half precision": Kind((*_of_method("dytox").words, "trainer.precision=bf16-mixed")),
    "files": Kind(("method=icarl", *_FILES, "data.root=ROOT/known", "trainer.workers=2")),
    "learn=": Kind(("data.new=ROOT/new", "epochs_scale=0.01"), before="files"),
    "sequence": Kind(
        (
            "method=finetune",
            "model=resnet8",
            "data=sequence",
            "epochs_scale=0.01",
            "memory.size=20",
            'data.sets=[{name: digits, classes: 4, increment: 2}, {name: image_folder, root: "ROOT/new"}]',
            "data.image_size=8",
        )
    ),
}
REPLICAS = ("method=icarl", *_SHORT, "batch.replicas=2", "batch.size=16")
"""A run that several processes can make."""


@cache
def _options_of(method: str) -> object:
    return compose_typed([method, "run_dir=none"]).method


def _read(words: Sequence[str]) -> list[str]:
    """Return those overrides that a run of their method reads."""
    backbone = hasattr(_options_of(words[0]), "backbone")
    words = [word for word in words if backbone or not word.startswith("method.backbone.")]
    idle = {one.text for one in compose_one_of_many([*words, "run_dir=none"])[1]}
    return [word for word in words if word not in idle]


class Peace:
    """Undisturbed runs, made when they are first asked for, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, ...], tuple[dict[str, Any], float]] = {}

    @cached_property
    def pictures(self) -> Path:
        """Folder of digits as files, of six known classes and two new ones."""
        from PIL import Image
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        root = self._folder / "pictures"
        for label in range(8):
            for index, image in enumerate(images[labels == label][:14]):
                file = root / ("known" if label < 6 else "new") / f"class {label}" / f"{index:04d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).resize((9, 9)).save(file)
        return root

    def words(self, name: str) -> list[str]:
        """Return the overrides of a kind of run, without its folder."""
        kind = KINDS[name]
        before = [] if kind.before is None else [f"learn={self.folder_of(self.words(kind.before))}"]
        words = [word.replace("ROOT", str(self.pictures)) for word in kind.words]
        return [*before, *(words if before else _read(words)), *_STEPS, *_QUIET]

    def folder_of(self, words: Sequence[str]) -> Path:
        """Return the folder of the run with these overrides."""
        self.outcome(words)
        return self._folder / f"run_{list(self._made).index(tuple(words)):02d}"

    def outcome(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the outcome of the run with these overrides."""
        return self._of(words)[0]

    def seconds(self, words: Sequence[str]) -> float:
        """Return the run's time in seconds."""
        return self._of(words)[1]

    def _of(self, words: Sequence[str]) -> tuple[dict[str, Any], float]:
        key = tuple(words)
        if key not in self._made:
            run_dir, started = self._folder / f"run_{len(self._made):02d}", time.monotonic()
            end = run([*words, f"run_dir={run_dir}"], self._folder / "said")
            if end.code:
                raise RuntimeError(f"a run that nobody attacked ended with {end.code}: {' '.join(words)}\n{end.said}")
            self._made[key] = (outcome(run_dir), time.monotonic() - started)
        return self._made[key]


def difference(run_dir: Path, expected: dict[str, Any]) -> str | None:
    """Return the differences of a run from the undisturbed one; None if there are none."""
    found = outcome(run_dir)
    unlike = [name for name, value in expected.items() if found.get(name) != value]
    return f"{', '.join(unlike)} of {run_dir}" if unlike else None
