"""The YAML files of ``conf/``: their folder, and a reader outside of Hydra's composition."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_FIRST_LINE = b"# cl_lightning:"
"""First bytes of our ``conf/config.yaml``, and of no other."""


@cache
def config_dir() -> Path:
    """Return the folder ``conf``: the copy inside the installed package, else that of the checkout.

    Beside an installed package lie the folders of others, and one of those may be called ``conf`` as well.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if _is_ours(folder):
            return folder
    raise FileNotFoundError(f"no conf/config.yaml of cl_lightning in or beside {package}: install the package again")


def _is_ours(folder: Path) -> bool:
    try:
        with (folder / "config.yaml").open("rb") as file:
            return file.readline().startswith(_FIRST_LINE)
    except OSError:
        return False


def options(group: str) -> list[str]:
    """Return the names that may be chosen in a group."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def load_option(group: str, name: str) -> dict[str, Any]:
    """Load one option of a group as plain values, merged with those that it inherits within the group."""
    content = _content(group, name)
    merged: dict[str, Any] = {}
    for parent in content.pop("defaults", []):
        if parent != "_self_" and not parent.startswith("schema_"):
            file, _, package = parent.partition("@")
            inherited = load_option("", file[1:]) if file.startswith("/") else load_option(group, file)
            merged = _merged(merged, {package: inherited} if package else inherited)
    return _merged(merged, content)


def own_option(name: str) -> Any:
    """Return the default of an option of the run itself, which is in no group."""
    return _content("", "config")[name]


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``below`` with what ``above`` has as well, also in mappings within."""
    both = {key: value for key, value in above.items() if isinstance(value, dict) and isinstance(below.get(key), dict)}
    return {**below, **above, **{key: _merged(below[key], value) for key, value in both.items()}}


def _content(group: str, name: str) -> dict[str, Any]:
    return copy.deepcopy(_parsed(config_dir() / group / f"{name}.yaml"))


@cache
def _parsed(path: Path) -> dict[str, Any]:
    """Parse a file to plain values, cached: parsing takes a hundred times as long as copying them."""
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def schema_name(group: str, name: str) -> str:
    """Return the schema of ``registry.SCHEMAS[group]`` that an option starts from: its own, or its ancestors'."""
    for parent in _content(group, name)["defaults"]:
        if parent.startswith("schema_"):
            return str(parent.removeprefix("schema_"))
        if parent != "_self_":
            return schema_name(group, parent)
    raise AssertionError(f"conf/{group}/{name}.yaml names no schema")
