"""Tables of options on the site: every option, with its default, its bounds and the comment beside it."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from docutils import nodes
from sphinx.testing.util import SphinxTestApp

from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema.fixed_names import is_chosen
from cl_lightning.config.yaml_files import load_option, options, schema_name

EXTENSIONS = Path(__file__).parents[2] / "docs" / "_ext"
METHODS = options("method")


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_options", EXTENSIONS / "options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def leaves(schema: type, prefix: str = "method.") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        inner = [kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)]
        if inner:
            yield from leaves(inner[0], f"{prefix}{field.name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{field.name}", field


def flat(plain: dict[str, Any], prefix: str = "method.") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


@pytest.mark.parametrize("name", METHODS)
def test_every_option_of_the_schema_is_listed_and_explained(extension: ModuleType, name: str) -> None:
    rows = {row.key: row for row in extension.rows("method", name)}
    declared = dict(leaves(SCHEMAS["method"][schema_name("method", name)]))
    assert set(declared) <= set(rows)
    assert all(row.meaning for row in rows.values())
    for key, field in declared.items():
        assert ("comes with" in rows[key].allowed) == is_chosen(field)


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_those_that_a_run_gets(extension: ModuleType, name: str) -> None:
    rows = {row.key: row for row in extension.rows("method", name)}
    for key, value in flat(load_option("method", name)).items():
        listed = yaml.safe_load(rows[key].default)
        assert float(listed) == value if isinstance(value, float) else listed == value


def test_a_variant_has_its_own_value_and_the_comment_that_it_inherits(extension: ModuleType) -> None:
    plain, plus = ({r.key: r for r in extension.rows("method", name)} for name in ("dytox", "dytox_plus"))
    assert (plain["method.mixup.alpha"].default, plus["method.mixup.alpha"].default) == ("0", "0.8")
    assert plus["method.mixup.alpha"].meaning == plain["method.mixup.alpha"].meaning
    assert [key for key in plain if plain[key].default != plus[key].default] == ["method.name", "method.mixup.alpha"]


def test_bounds_are_the_program_s(extension: ModuleType) -> None:
    rows = {row.key: row.allowed for row in extension.rows("method", "meat")}
    assert rows["method.keep"] == "at least 0 and at most 1"
    assert rows["method.main.epochs"] == "whole, at least 1"
    assert rows["method.main.epochs_scale"] == "above 0, or null"
    assert rows["method.main.schedule"] == "constant, cosine, steps"
    assert rows["method.ffn_masks"] == "true, false"
    assert rows["method.mixup"] == "null"
    assert rows["method.name"] == "comes with method=meat"


def test_what_a_file_leaves_open_the_default_choice_explains_or_the_main_phase(extension: ModuleType) -> None:
    meanings = {name: {r.key: r.meaning for r in extension.rows("method", name)} for name in ("dytox", "icarl")}
    assert meanings["icarl"]["method.encoder"] == meanings["dytox"]["method.encoder"]
    assert meanings["dytox"]["method.finetuning.optimiser"] == "as main.optimiser"


def test_comments_stand_behind_a_value_or_right_above_it(extension: ModuleType) -> None:
    text = """# about the file

plain: 1       # behind
# above,
# in two lines
told: null
quoted: "a # b"   # not inside
listed: [1, 2.5]  # a list
flow: {a: 1, b: x}
bare: true
group:           # of a group
  # of one in it
  inner: 0.5
"""
    read = {path: (option.value, option.comment) for path, option in extension.read(text)}
    assert read == {
        "plain": ("1", "behind"),
        "told": ("null", "above, in two lines"),
        "quoted": ("a # b", "not inside"),
        "listed": ("[1,2.5]", "a list"),
        "flow": ("{a: 1,b: x}", ""),
        "bare": ("true", ""),
        "group": ("", "of a group"),
        "group.inner": ("0.5", "of one in it"),
    }


def test_a_file_that_is_not_there_is_told_in_a_line(extension: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"^conf/method/dytoks\.yaml is not there: type method/ and one of .*dytox"):
        extension.rows("method", "dytoks")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_the_directive_makes_a_table_and_tells_a_wrong_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXTENSIONS)
    (tmp_path / "conf.py").write_text("extensions = ['myst_parser', 'options']\n")
    (tmp_path / "index.md").write_text("# T\n\n```{options} method/wa\n```\n\n```{options} method/nobody\n```\n")
    app = SphinxTestApp("dummy", srcdir=tmp_path)
    try:
        app.build()
        (table,) = app.env.get_doctree("index").findall(nodes.table)
        rows = [[cell.astext() for cell in row.findall(nodes.entry)] for row in table.findall(nodes.row)]
        assert rows[0] == ["Option", "Default", "Allowed", "Meaning"]
        assert ["method.temperature", "2.0", "above 0", "of the distillation, > 0"] in rows
        assert "conf/method/nobody.yaml is not there" in app.warning.getvalue()
        assert any(file.endswith("phase.yaml") for file in app.env.dependencies["index"])
    finally:
        app.cleanup()
