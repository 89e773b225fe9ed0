"""docs/ARCHITECTURE.md shows the tree as it is, and the order that import-linter enforces."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cl_lightning"
TEXT = (ROOT / "docs" / "ARCHITECTURE.md").read_text()


def drawn() -> list[set[str]]:
    """Names on each line of the tree, from the top."""
    (tree,) = re.findall(r"```text\ncl_lightning/\n(.*?)```", TEXT, flags=re.DOTALL)
    return [set(re.findall(r"([\w.]+?)(?:/|\.py)", line)) for line in tree.splitlines()]


def test_every_package_and_command_is_drawn() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert set().union(*drawn()) == packages | modules


def test_it_is_drawn_in_the_order_of_the_imports() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert drawn() == [set(layer.split(" | ")) for layer in layers]


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
