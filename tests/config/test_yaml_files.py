"""Our own ``conf``, wherever the package lies, and never that of another package beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cl_lightning.config import yaml_files


def installed(place: Path, monkeypatch: pytest.MonkeyPatch, *, own: bool) -> Path:
    """A package as a wheel leaves it, beside a ``conf`` of another."""
    ours = yaml_files.config_dir()
    (place / "conf").mkdir(parents=True)
    (place / "conf" / "config.yaml").write_text("# of somebody else\nmethod: evil\n")
    package = place / "cl_lightning"
    (package / "config").mkdir(parents=True)
    if own:
        shutil.copytree(ours, package / "conf")
    monkeypatch.setattr(yaml_files, "__file__", str(package / "config" / "files.py"))
    yaml_files.config_dir.cache_clear()
    return package


@pytest.fixture(autouse=True)
def fresh() -> object:
    yield
    yaml_files.config_dir.cache_clear()


def test_ours_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed(tmp_path, monkeypatch, own=True)
    assert yaml_files.config_dir() == package / "conf"


def test_another_is_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, own=False)
    with pytest.raises(FileNotFoundError, match="install the package again"):
        yaml_files.config_dir()


def test_a_checkout_has_it_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed(tmp_path, monkeypatch, own=False)
    shutil.rmtree(tmp_path / "conf")
    shutil.copytree(Path(__file__).parents[2] / "conf", tmp_path / "conf")
    assert yaml_files.config_dir() == package.parent / "conf"
