"""The map of the packages is what the import contract gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import import_map


def test_page_and_figure_are_up_to_date() -> None:
    """Type `python scripts/import_map.py` if this fails."""
    assert import_map.main(["--check"]) == 0


def test_a_map_that_is_not_is_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, figure = tmp_path / "page.md", tmp_path / "map.svg"
    page.write_text(import_map.PAGE.read_text().replace("; core/.", "."))
    for name, value in (("PAGE", page), ("FIGURE", figure)):
        monkeypatch.setattr(import_map, name, value)
    monkeypatch.setattr(import_map, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (tmp_path / "cl_lightning").mkdir()
    for module in ("__main__", "export", "predict", "evaluate"):
        if (Path(__file__).parents[2] / "cl_lightning" / f"{module}.py").exists():
            (tmp_path / "cl_lightning" / f"{module}.py").touch()
    assert import_map.main(["--check"]) == 1
    assert "page.md is not what the import contract gives" in capsys.readouterr().out
    assert import_map.main([]) == 0
    assert page.read_text() == Path(__file__).parents[2].joinpath("docs", "ARCHITECTURE.md").read_text()
    assert import_map.main(["--check"]) == 0


def test_the_figure_names_each_package_once() -> None:
    drawn = import_map.figure()
    for layer in import_map.layers():
        for name in layer:
            assert drawn.count(f">{name}</text>") == 1
