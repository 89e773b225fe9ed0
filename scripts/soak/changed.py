"""Changes of pictures, or of the configuration, between two parts of a run: they must be noticed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from scripts.soak.attack import Fault, Tally
from scripts.soak.program import Death, run
from scripts.soak.runs import Peace, difference

Change = Callable[[random.Random, Path, Path], None]


def _any(chance: random.Random, pictures: Path) -> Path:
    return chance.choice(sorted(pictures.rglob("*.png")))


def _removed(chance: random.Random, pictures: Path, run_dir: Path) -> None:
    _any(chance, pictures).unlink()


def _added(chance: random.Random, pictures: Path, run_dir: Path) -> None:
    one = _any(chance, pictures)
    shutil.copy(one, one.with_name("9999.png"))


def _renamed(chance: random.Random, pictures: Path, run_dir: Path) -> None:
    one = _any(chance, pictures)
    one.rename(one.with_name("0000a.png"))


def _exchanged(chance: random.Random, pictures: Path, run_dir: Path) -> None:
    """Exchange two pictures of two classes."""
    one, other = _any(chance, pictures), _any(chance, pictures)
    while one.parent == other.parent or one.read_bytes() == other.read_bytes():
        other = _any(chance, pictures)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _altered(chance: random.Random, pictures: Path, run_dir: Path) -> None:
    """Change one pixel; the file keeps its size and time, if its compression allows."""
    import os

    from PIL import Image

    file = _any(chance, pictures)
    before = file.stat()
    with Image.open(file) as opened:
        image = opened.copy()
    image.putpixel((4, 4), (int(image.getpixel((4, 4))) + 128) % 256)  # type: ignore[arg-type]
    image.save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _edited(chance: random.Random, pictures: Path, run_dir: Path) -> None:
    """Change a number in the configuration."""
    file = run_dir / "config.yaml"
    saved = yaml.safe_load(file.read_text(encoding="utf-8"))
    group, key, value = chance.choice(
        [
            ("data", "mean", [0.123]), ("data", "std", [0.456]), ("batch", "size", 7), ("memory", "size", 15),
            ("data", "crop_padding", 3), ("data", "flip", True), ("data", "augmentation", "none"),
        ]
    )  # fmt: skip
    saved[group][key] = value
    file.write_text(yaml.safe_dump(saved), encoding="utf-8")


def _nothing(chance: random.Random, pictures: Path, run_dir: Path) -> None:
    """Copy the same pictures anew: other times, the same contents."""
    shutil.copytree(pictures, pictures.with_name("copied"))
    shutil.rmtree(pictures)
    pictures.with_name("copied").rename(pictures)


_CHANGES: dict[str, Change] = {
    "a picture removed": _removed,
    "a picture added": _added,
    "a picture renamed": _renamed,
    "two pictures exchanged": _exchanged,
    "a pixel altered": _altered,
    "config.yaml edited": _edited,
    "copied": _nothing,
}


class Changed:
    """A run is stopped, something is changed, and it is resumed."""

    name = "changed data"
    unit = "changes"

    def __init__(self, peace: Peace) -> None:
        self._peace = peace

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Make one change."""
        tally, words, run_dir, own = Tally(), self._peace.words("files"), folder / "run", folder / "pictures"
        expected, seconds = self._peace.outcome(words), self._peace.seconds(words)
        shutil.copytree(self._peace.pictures, own)
        typed = [word.replace(str(self._peace.pictures), str(own)) for word in words]
        run([*typed, f"run_dir={run_dir}"], folder, Death(seconds * chance.uniform(0.5, 0.9)))
        if not list(run_dir.glob("checkpoints/*.pt")):
            return tally
        name = chance.choice(list(_CHANGES))
        _CHANGES[name](chance, own / "known", run_dir)
        end = run([f"resume={run_dir}"], folder).refuse_traceback()
        tally.tried[name] += 1
        tally.answers["refused" if end.code == 2 else "gone on with"] += 1
        if name == "copied":
            unlike = difference(run_dir, expected) if end.code == 0 else f"exit code {end.code}: {end.said[-1000:]}"
            if unlike:
                raise Fault("lost", f"{name}: {unlike}")
        elif end.code != 2:
            raise Fault("accepted", f"{name}: exit code {end.code}: {end.said[-1000:]}")
        else:
            assert end.one_line
        return tally
