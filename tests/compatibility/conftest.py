"""Where a run that is kept is unpacked to, with the pictures that cases name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compatibility.cases import FOLDERS
from tests.compatibility.operations import write_all_pictures


@pytest.fixture(scope="session")
def all_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_all_pictures(folder)
    return folder


@pytest.fixture
def place(all_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for pictures, which is the present one."""
    for name in FOLDERS:
        (tmp_path / name).symlink_to(all_pictures / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
