"""Folders of images for tests, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.data.sources.datasets import load_sources


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the scan for broken images remembers stays within the test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CL_LIGHTNING_CACHE", str(folder))
    return folder


def touch(root: Path, names: list[str], content: bytes = b"P5 1 1 255\n\0") -> Path:
    """Files of one pixel: what counts in an image's name is that it is one."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def refusal(*args: object, **kwargs: object) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        load_sources(*args, **kwargs)  # type: ignore[arg-type]
    return str(caught.value)
