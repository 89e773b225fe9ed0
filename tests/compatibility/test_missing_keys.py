"""A key that a file of a run lacks means the old rule, whoever reads it: the table decides, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint, save_whole
from cl_lightning.config.saved import load_saved, to_plain
from cl_lightning.core import missing_keys
from cl_lightning.core.missing_keys import Missing
from tests.compatibility.cases import ASKED, CASES
from tests.compatibility.commands import BUNDLE, CommandError, predictions, reported, type_in
from tests.compatibility.kept import deviations, recorded, unpack
from tests.compatibility.operations import FILE, carry_out

OF_DIGITS = (Missing("data.mean", [0.3053]), Missing("data.std", [0.376]))
"""As if these had come later, and all images had been normalised so before."""


def unpacked(name: str, place: Path) -> Path:
    unpack(name, place)
    return Path("runs") / name


def rewrite(file: Path, change: Callable[[Any], None]) -> None:
    if file.suffix == ".yaml":
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
        change(plain)
        file.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    elif file.suffix == ".json":
        plain = json.loads(file.read_text(encoding="utf-8"))
        change(plain)
        file.write_text(json.dumps(plain), encoding="utf-8")
    else:
        plain = load_checkpoint(file)
        change(plain)
        save_whole(file, plain)


def without(*keys: str) -> Callable[[Any], None]:
    """Dotted keys are taken out; ``*`` is every entry of a list."""

    def take_out(plain: Any) -> None:
        for key in keys:
            *groups, name = key.split(".")
            nodes = [plain]
            for group in groups:
                nodes = [inner for node in nodes for inner in _inner(node, group)]
            for node in nodes:
                node.pop(name, None)

    return take_out


def with_null(plain: Any) -> None:
    """Keys of a configuration whose value is what null stood for get null again."""
    for missing in missing_keys.CONFIGURATION:
        group, _, name = missing.key.partition(".")
        if missing.null and plain[group].get(name) == missing.value:
            plain[group][name] = None


def _inner(node: Any, group: str) -> list[Any]:
    found = (node.values() if isinstance(node, dict) else node) if group == "*" else [node.get(group)]
    return [inner for inner in found if isinstance(inner, list if group == "sets" else dict)]


def came_later(monkeypatch: pytest.MonkeyPatch, table: str, *entries: Missing) -> None:
    monkeypatch.setattr(missing_keys, table, (*getattr(missing_keys, table), *entries))


@pytest.mark.parametrize("name", [name for name in CASES if name != "bundle" and not name.endswith("_stopped")])
def test_whatever_came_into_a_configuration_since_is_in_the_table(name: str, place: Path) -> None:
    """Or an old run could not be read."""
    run_dir = unpacked(name, place)
    run_dir /= CASES[name].jobs[0] if CASES[name].jobs else ""
    made = leaves(yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8")))
    known = [missing.key for missing in missing_keys.CONFIGURATION if not missing.null]
    for key in set(leaves(to_plain(load_saved(run_dir)))) - set(made):
        assert any(covers(other.split("."), key.split(".")) for other in known), (
            f"{key} came after {name} was made: say in cl_lightning/core/missing_keys.py what held before"
        )


def covers(known: list[str], key: list[str]) -> bool:
    """Whether a key of the table is ``key``, or a group that it is in."""
    return len(known) <= len(key) and all(one in ("*", other) for one, other in zip(known, key, strict=False))


def leaves(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in node.items():
        inner = value if isinstance(value, dict) else None
        if isinstance(value, list) and value and isinstance(value[0], dict):
            inner = {"*": value[0]}
        found |= leaves(inner, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def test_predictions_go_by_the_table(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir, expected = unpacked("finished", place), recorded("finished", "predict")
    rewrite(run_dir / "config.yaml", without("data.mean", "data.std"))
    with pytest.raises(CommandError, match=r"config\.yaml of this run has no data\.mean, data\.std: put back"):
        predictions(run_dir, ASKED)
    came_later(monkeypatch, "CONFIGURATION", *OF_DIGITS)
    assert deviations(expected, predictions(run_dir, ASKED)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("between_phases", "resume"),
        ("der", "export"),
        pytest.param("der", "learn", marks=pytest.mark.long),
    ],
)
def test_so_does_whatever_else_is_done_with_a_run(
    name: str, operation: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = unpacked(name, place)
    rewrite(run_dir / "config.yaml", without("data.mean", "data.std"))
    came_later(monkeypatch, "CONFIGURATION", *OF_DIGITS)
    assert deviations(recorded(name, operation), carry_out(operation, name, CASES[name])) == []


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["resume", "predict"])
def test_a_switch_that_null_turned_off_is_off(operation: str, place: Path) -> None:
    """``recipe=clean recipe.schedule_lag=null`` was saved as typed."""
    run_dir = unpacked("between_phases", place)
    rewrite(run_dir / "config.yaml", null_switches)
    for file in list_checkpoints(run_dir / "checkpoints"):
        rewrite(file, lambda payload: null_switches(payload["identity"]["protocol"]))
    case = CASES["between_phases"]
    assert deviations(recorded("between_phases", operation), carry_out(operation, "between_phases", case)) == []


def null_switches(plain: dict[str, Any]) -> None:
    """Put null in place of what it stood for, in a configuration or a protocol."""
    switches = plain.get("recipe_switches", plain["recipe"])
    off = [name for name, value in switches.items() if value is False]
    assert off
    switches |= dict.fromkeys(off)
    if "recipe_changes" in plain:
        plain["recipe_changes"] = ", ".join(f"{name}=None" for name in off)


def test_so_does_what_comes_of_a_bundle(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = unpacked("finished", place)
    rewrite(run_dir / "config.yaml", without("data.mean", "data.std"))
    came_later(monkeypatch, "CONFIGURATION", *OF_DIGITS)
    type_in(BUNDLE, "export", run_dir, FILE)
    type_in(BUNDLE, "import", FILE, "imported")
    assert deviations(recorded("finished", "predict"), predictions(Path("imported"), ASKED)) == []


def test_so_do_comparisons(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Return what one run's files lack and the other's have is the same, and both are one group."""
    expected = recorded("multirun", "compare")
    run_dir = unpacked("multirun", place) / "1"
    rewrite(run_dir / "config.yaml", without("data.mean", "data.std"))
    rewrite(run_dir / "results.json", without("protocol.memory_scope", "protocol.recipe_switches.herd_distinct"))
    assert deviations(expected, carry_out("compare", "multirun", CASES["multirun"]))
    came_later(monkeypatch, "CONFIGURATION", *OF_DIGITS, Missing("recipe.herd_distinct", False))
    came_later(monkeypatch, "PROTOCOL", Missing("memory_scope", "global"))
    assert deviations(expected, carry_out("compare", "multirun", CASES["multirun"])) == []


@pytest.mark.slow
def test_a_checkpoint_is_of_the_run_whose_protocol_it_lacks_a_key_of(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, expected = unpacked("replicas_stopped", place), recorded("replicas_stopped", "resume")
    rewrite(run_dir / "config.yaml", without("recipe.herd_augmented"))
    for file in list_checkpoints(run_dir / "checkpoints"):
        rewrite(file, without("identity.protocol.recipe_switches.herd_augmented"))
    with pytest.raises(CommandError, match=r"has no recipe\.herd_augmented"):
        carry_out("resume", "replicas_stopped", CASES["replicas_stopped"])
    came_later(monkeypatch, "CONFIGURATION", Missing("recipe.herd_augmented", True))
    assert deviations(expected, carry_out("resume", "replicas_stopped", CASES["replicas_stopped"])) == []


@pytest.mark.slow
def test_a_run_from_the_beginning_of_the_format_goes_on(place: Path) -> None:
    """All that the tables know of is missing; the phases that were not written down are, and nothing else."""
    run_dir = unpacked("between_phases", place)
    table = missing_keys.CONFIGURATION
    rewrite(run_dir / "config.yaml", without(*(missing.key for missing in table if not missing.null)))
    rewrite(run_dir / "config.yaml", with_null)
    for file in list_checkpoints(run_dir / "checkpoints"):
        rewrite(file, without(*(missing.key for missing in missing_keys.CHECKPOINT)))
    quick = replace(CASES["between_phases"], moved=("report.page=false",))
    found = deviations(recorded("between_phases", "resume"), carry_out("resume", "between_phases", quick))
    assert [line for line in found if not line.startswith("/phases")] == []
    assert found


@pytest.mark.long
def test_results_that_lack_what_came_later_are_reported(place: Path) -> None:
    run_dir, expected = unpacked("multirun", place) / "0", recorded("multirun", "report")
    rewrite(run_dir / "results.json", without("provenance.phases", "provenance.tasks", "protocol.method_options"))
    found = reported(run_dir)
    assert expected["exact"]["tables"].items() <= found["exact"]["tables"].items()
    assert set(expected["exact"]["figures"]["svg"]) - set(found["exact"]["figures"]["svg"]) == {"speed"}
