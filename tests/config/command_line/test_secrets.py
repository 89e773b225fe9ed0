"""``${oc.env:SECRET}`` in a configuration that somebody sent is text: nothing fills it in, and nothing writes it back
filled in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cl_lightning.config.add_task import load_learn
from cl_lightning.config.command_line.literals import kinds
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import load_learnt, load_saved, to_plain
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError

pytestmark = pytest.mark.slow

SECRET = "hunter2"
FORMS = ("${oc.env:PASSWORD}", "a/${oc.env:PASSWORD}/b", r"\${oc.env:PASSWORD}", "${oc.env:${oc.env:NAME}}")

SOME_FORMS = (FORMS[0], *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS[1:]))


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", SECRET)
    monkeypatch.setenv("NAME", "PASSWORD")


def saved(run_dir: Path) -> dict[str, Any]:
    entries = "[{name: digits}, {name: image_folder, root: a}]"
    config = compose_typed([f"run_dir={run_dir}", "data=sequence", f"data.sets={entries}", "model=timm"])
    folder = {"name": "f", "folder": str(run_dir), "changed": ["a"]}
    return {**to_plain(config), "extends": {"run": str(run_dir), "folders": [folder]}}


def learn(run_dir: Path) -> Config:
    return load_learn(run_dir, [f"data.new={run_dir}", f"run_dir={run_dir}_more"])


def outcome(read: Callable[[Path], Config], run_dir: Path) -> Any:
    """What is read, or the line that it is refused with."""
    try:
        return to_plain(read(run_dir))
    except UserError as error:
        return str(error)


READERS: tuple[Callable[[Path], Config], ...] = (load_saved, load_learnt, learn)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [each for key, value in items for each in ((*path, key), *places(value, (*path, key)))]


def dotted(path: tuple[Any, ...]) -> str:
    return ".".join(key for key in path if isinstance(key, str))


@pytest.mark.parametrize("form", SOME_FORMS)
def test_no_path_or_text_is_filled_in(form: str, tmp_path: Path) -> None:
    """Every one of them, in lists and mappings too; what is not refused comes back as it was written."""
    whole = saved(tmp_path)
    texts = [path for path in places(whole) if dotted(path) in kinds()]
    assert len(texts) > 8
    lists = [
        ("data", "suggests", "models", "cnn"),
        *(("extends", "folders", 0, *key) for key in (("name",), ("changed", 0))),
    ]
    for path in [*texts, *lists]:
        changed = json.loads(json.dumps(whole))
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = form
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed))
        for read in READERS:
            found = outcome(read, tmp_path)
            assert SECRET not in json.dumps(found, default=str), path
            if isinstance(found, dict) and dotted(path).startswith("logger."):
                assert found["logger"][path[-1]] == form


@pytest.mark.parametrize("form", SOME_FORMS)
def test_nor_is_a_key_or_what_stands_where_no_text_should(form: str, tmp_path: Path) -> None:
    whole = saved(tmp_path)
    for path in (("seed",), ("method", "name"), ("data", "image_size"), ("data", "order"), ("model", "name")):
        for value in (form, [form], {form: form}):
            changed = json.loads(json.dumps(whole))
            node = changed
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
            (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed))
            for read in (load_saved, load_learnt):
                assert SECRET not in json.dumps(outcome(read, tmp_path), default=str), path
