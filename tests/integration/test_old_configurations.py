"""Configurations that were saved before an option existed mean what was done then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cl_lightning.config.add_task import load_learn
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import load_learnt, load_saved, to_plain
from cl_lightning.core.missing_keys import complete_configuration

READING = {"files": "by_suffix", "orientation": "ignore", "evaluate_on": "val_or_test", "test_split": "per_image"}


def without(node: Any) -> Any:
    """A configuration as it was saved before."""
    if isinstance(node, dict):
        return {key: without(value) for key, value in node.items() if key not in (*READING, "allow_similar")}
    return [without(entry) for entry in node] if isinstance(node, list) else node


def read(node: Any) -> dict[str, Any]:
    return {name: getattr(node, name) for name in READING}


def save(run_dir: Path, plain: dict[str, Any]) -> None:
    (run_dir / "config.yaml").write_text(yaml.safe_dump(plain))


def test_a_run_on_a_folder_goes_on_and_is_extended_as_it_was_begun(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "more").mkdir()
    config = compose_typed([f"run_dir={tmp_path}/run", "data=image_folder", "data.root=pets", "data.increment=2"])
    new = {"files": "any", "orientation": "apply", "evaluate_on": "auto", "test_split": "per_class"}
    assert read(config.data) == new
    save(tmp_path / "run", to_plain(config))
    assert read(load_saved(tmp_path / "run").data) == new
    save(tmp_path / "run", without(to_plain(config)))
    for old in (load_saved(tmp_path / "run"), load_learnt(tmp_path / "run")):
        assert read(old.data) == READING
    given = [f"data.new={tmp_path}/more", f"run_dir={tmp_path}/new"]
    learnt = load_learn(tmp_path / "run", given)
    assert learnt.extends is not None
    assert read(learnt.extends.folders[0]) == READING, "its folder is read as the run's own"
    assert not learnt.extends.folders[0].allow_similar
    typed = ["data.files=any", "data.test_split=per_class", "data.allow_similar=true"]
    other = load_learn(tmp_path / "run", [*given, *typed])
    assert other.extends is not None
    assert read(other.extends.folders[0]) == {**READING, "files": "any", "test_split": "per_class"}
    assert other.extends.folders[0].allow_similar
    assert read(other.data) == READING
    save(tmp_path / "run", without(to_plain(learnt)))
    again = load_saved(tmp_path / "run")
    assert again.extends is not None
    assert read(again.extends.folders[0]) == READING
    assert again.extends.folders[0].allow_similar, "nobody was asked then"


def test_entries_of_a_sequence_too(tmp_path: Path) -> None:
    sets = (
        "data.sets=[{name: digits}, {name: image_folder, root: x}, {name: image_folder, root: y, orientation: ignore}]"
    )
    config = compose_typed([f"run_dir={tmp_path}", "data=sequence", sets])
    assert [entry.orientation for entry in config.data.sets] == ["ignore", "apply", "ignore"]
    save(tmp_path, without(to_plain(config)))
    assert [read(entry) for entry in load_saved(tmp_path).data.sets] == [READING] * 3


def test_what_is_there_is_left_as_it_is() -> None:
    assert complete_configuration({"data": None, "extends": None}).items() >= {"data": None, "extends": None}.items()
    given = {"data": {"files": "any", "sets": [{"orientation": "apply"}]}, "extends": {"run": "r", "folders": [{}]}}
    filled = complete_configuration(given)
    assert filled["data"]["files"] == "any"
    (entry,) = filled["data"]["sets"]
    assert {name: entry[name] for name in READING} == {**READING, "orientation": "apply"}
    assert filled["extends"] == {"run": "r", "folders": [{**READING, "allow_similar": True}]}
    assert given["data"] == {"files": "any", "sets": [{"orientation": "apply"}]}, "a copy"
