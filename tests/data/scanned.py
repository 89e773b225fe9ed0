"""A folder that is scanned for broken images, and what is remembered of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_lightning.data.sources import decode_cache
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.decode_cache import scan
from cl_lightning.data.sources.decode_result import DecodeResult, decode_file

UNKNOWN = "cannot identify image file"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "deep"
    monkeypatch.setenv("CL_LIGHTNING_CACHE", str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six images in two parts, of which three are broken in different ways."""
    top = tmp_path / "pictures"
    for index, name in enumerate(["train/a/1.png", "train/a/2.jpg", "train/b/1.png", "val/a/1.png", "val/b/1.webp"]):
        save(top / name, index)
    Image.new("F", (12, 9), 0.5).save(top / "train/b/2.tif")
    cut(top / "train/a/2.jpg")
    (top / "val/a/1.png").write_bytes(b"<html>404</html>")
    return top


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (60, 40, 3), np.uint8)).save(path)


def cut(path: Path) -> None:
    """Take the end away: the header is whole, so only decoding tells."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])


def parts(root: Path) -> list[FolderSource]:
    return [FolderSource.scan(root / part, part) for part in ("train", "val")]


def broken(root: Path, threads: int | None = None) -> dict[str, str]:
    """Path below the root -> reason."""
    sources = parts(root)
    found = scan(root, sources, threads)
    return {
        f"{s.name}/{s.paths[row]}": why
        for s, one in zip(sources, found, strict=True)
        for row, why in one.broken.items()
    }


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that have been read."""
    names: list[str] = []

    def watched(file: str, before: DecodeResult | None, max_pixels: int) -> DecodeResult:
        names.append("/".join(Path(file).parts[-3:]))
        return decode_file(file, before, max_pixels)

    monkeypatch.setattr(decode_cache, "decode_file", watched)
    return names


def many(root: Path, count: int) -> FolderSource:
    """Images of one pixel."""
    (root / "a").mkdir(parents=True)
    for index in range(count):
        (root / f"a/{index:04d}.pgm").write_bytes(b"P5 1 1 255\n\0")
    return FolderSource.scan(root, "many")


def kept(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file
