"""docs/ARCHITECTURE.md shows the packages as they are (the order: tests/scripts/test_import_map.py)."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.import_map import layers

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cl_lightning"
TEXT = (ROOT / "docs" / "ARCHITECTURE.md").read_text()


def test_every_package_and_command_is_drawn() -> None:
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert {name for layer in layers() for name in layer} == packages | modules


def test_the_root_of_the_package_has_at_most_five_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 5


def test_every_file_that_it_names_is_there() -> None:
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", TEXT, flags=re.MULTILINE)
    packages = dict(rows[2:])
    named = [name for row in rows for cell in row for name in re.findall(r"`([\w/]+\.(?:py|yaml))`", cell)]
    assert len(named) > 20
    for name in named:
        beside = [
            re.findall(r"`(\w+)/`", key)[0] for key, about in packages.items() if f"`{name}`" in about and "/`" in key
        ]
        places = [ROOT / name, PACKAGE / name, *(PACKAGE / room / name for room in beside), ROOT / "scripts" / name]
        assert any(place.exists() for place in places), name
