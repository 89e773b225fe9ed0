"""A Sphinx directive that lists the options of a file of ``conf/`` with the comments beside them.

In a page of the site::

    ```{options} method/dytox
    ```

Defaults and explanations come from the YAML files, bounds from the dataclasses of ``cl_lightning.config.schema``, so
nothing is written a second time.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schedule_scales import phases_in
from cl_lightning.config.schema.bounds import Choice, Each, Range, bounds_of
from cl_lightning.config.schema.fixed_names import is_chosen
from cl_lightning.config.yaml_files import config_dir, options, schema_name

HEADINGS = ("Option", "Default", "Allowed", "Meaning")
BOUNDLESS = 1e6
"""Upper bound from which on it is not shown: it keeps numbers finite, and limits nothing that one would type."""


@dataclasses.dataclass(frozen=True)
class Explained:
    """A value as a file of ``conf/`` has it, and the comment beside it."""

    value: str
    comment: str


@dataclasses.dataclass(frozen=True)
class Option:
    """A row of the table."""

    key: str
    """Name as it is typed: ``method.main.lr``."""
    default: str
    allowed: str
    meaning: str


def rows(group: str, name: str) -> list[Option]:
    """Return the options of ``group=name``: those of phases last, groups of options before what is in them.

    Raises:
        ValueError: there is no such file, or nobody explains one of its options.
    """
    if name not in options(group):
        raise ValueError(f"conf/{group}/{name}.yaml is not there: type {group}/ and one of {', '.join(options(group))}")
    schema = SCHEMAS[group][schema_name(group, name)]
    found, usual = explained(group, name), explained(group, default_choice(group))
    phases = phases_in(schema)
    return [
        Option(
            f"{group}.{path}",
            found[path].value,
            _allowed(hint, field, group, name),
            _meaning(path, field, found, usual),
        )
        for path, hint, field in sorted(_fields(schema), key=lambda each: each[0].partition(".")[0] in phases)
        if path in found and (not _inner(hint) or None in _kinds(hint) or found[path].comment)
    ]


def explained(group: str, name: str) -> dict[str, Explained]:
    """Return the options of a file by their path within it, with those of the files that it starts from.

    A value or comment of the file itself replaces an inherited one; where it has no comment, the inherited one stays.
    """
    return dict(_explained(config_dir() / group / f"{name}.yaml"))


@cache
def _explained(file: Path) -> dict[str, Explained]:
    text = file.read_text(encoding="utf-8")
    merged: dict[str, Explained] = {}
    for parent in yaml.safe_load(text).get("defaults", []):
        if not isinstance(parent, str) or parent == "_self_" or parent.startswith("schema_"):
            continue
        inherited, _, package = parent.partition("@")
        folder = config_dir() if inherited.startswith("/") else file.parent
        for path, option in _explained(folder / f"{inherited.removeprefix('/')}.yaml").items():
            merged[f"{package}.{path}" if package else path] = option
    for path, option in read(text):
        comment = option.comment or merged.get(path, option).comment
        merged[path] = Explained(option.value, comment)
    return merged


def read(text: str) -> Iterator[tuple[str, Explained]]:
    """Yield path, value and comment of each option of a YAML text.

    The comment of an option stands behind it, or in the lines right above it.
    """
    lines = text.splitlines()
    for path, key, value in _pairs(yaml.compose(text)):
        end = value.end_mark if value.end_mark.line == key.end_mark.line else key.end_mark
        comment = lines[key.end_mark.line][end.column :].partition("#")[2].strip()
        yield path, Explained(_plain(value), comment or _above(lines, key.start_mark.line, key.start_mark.column))


def _pairs(mapping: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key, value in mapping.value:
        if prefix or key.value != "defaults":
            yield f"{prefix}{key.value}", key, value
            if isinstance(value, yaml.MappingNode) and not value.flow_style:
                yield from _pairs(value, f"{prefix}{key.value}.")


def _above(lines: list[str], line: int, column: int) -> str:
    """Return the comment lines right above ``line`` that begin at its column."""
    told: list[str] = []
    while line > 0 and lines[line - 1][:column].isspace() == bool(column) and lines[line - 1][column:].startswith("#"):
        line -= 1
        told.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(told)


def _plain(value: Any) -> str:
    """Return a value as it is typed; nothing for a group of options."""
    if isinstance(value, yaml.ScalarNode):
        return str(value.value)
    if isinstance(value, yaml.SequenceNode):
        return f"[{','.join(map(_plain, value.value))}]"
    return f"{{{','.join(f'{k.value}: {_plain(v)}' for k, v in value.value)}}}" if value.flow_style else ""


def default_choice(group: str) -> str:
    """Return what is chosen of a group where nothing is typed."""
    chosen = yaml.safe_load((config_dir() / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return next(str(each[group]) for each in chosen if isinstance(each, dict) and group in each)


def _meaning(path: str, field: dataclasses.Field[Any], found: dict[str, Explained], usual: dict[str, Explained]) -> str:
    """Return what an option is: as its file says, as the group's default choice says, or as for the main phase."""
    for known in (found, usual):
        if path in known and known[path].comment:
            return known[path].comment
    like = f"main.{path.rpartition('.')[2]}"
    if "." in path and any(like in known and known[like].comment for known in (found, usual)):
        return f"as {like}"
    if is_chosen(field):
        return "the name in results"
    if not found[path].value:
        return "a group of options; null leaves it out"
    raise ValueError(f"nobody explains {path}={found[path].value!r}: write a comment behind it in conf/")


# ---- what may be typed -----------------------------------------------------------------------------------------------


def _fields(schema: type, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Yield path, type and field of each option of a dataclass, of groups of options too."""
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        yield f"{prefix}{field.name}", hint, field
        for inner in _inner(hint):
            yield from _fields(inner, f"{prefix}{field.name}.")


def _kinds(hint: Any) -> tuple[Any, ...]:
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(None if part is type(None) else part for part in parts)


def _inner(hint: Any) -> list[type]:
    return [kind for kind in _kinds(hint) if isinstance(kind, type) and dataclasses.is_dataclass(kind)]


def _allowed(hint: Any, field: dataclasses.Field[Any], group: str, name: str) -> str:
    """Return the values that an option may have, in words; nothing where its meaning lists them."""
    if is_chosen(field):
        return f"comes with {group}={name}"
    words = _bounds(hint, field)
    if None not in _kinds(hint):
        return words
    return f"{words}, or null" if words else "null" if _inner(hint) else ""


def _bounds(hint: Any, field: dataclasses.Field[Any]) -> str:
    match bounds_of(field):
        case Choice(allowed=allowed):
            return ", ".join(map(str, allowed))
        case Range() as numbers:
            return f"{'whole, ' if numbers.whole else ''}{_ends(numbers)}"
        case Each(range=numbers):
            return f"a list of numbers, {_ends(numbers)}"
    if any(kind is bool for kind in _kinds(hint)):
        return "true, false"
    return ", ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else ""


def _ends(numbers: Range) -> str:
    """Return the ends of a range in the program's words; an upper end that no run comes near is left out."""
    return numbers.told().partition(" and at most ")[0] if numbers.high >= BOUNDLESS else numbers.told()


# ---- the directive ---------------------------------------------------------------------------------------------------


class OptionsDirective(SphinxDirective):
    """A table of the options of ``GROUP/NAME``, a file of ``conf/``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table; the page is built again when a file of the group has changed."""
        group, _, name = self.arguments[0].partition("/")
        for file in (*(config_dir() / group).glob("*.yaml"), *config_dir().glob("*.yaml")):
            self.env.note_dependency(str(file))
        try:
            return [table(rows(group, name))]
        except (KeyError, ValueError) as error:
            raise self.error(str(error)) from error


def table(listed: list[Option]) -> nodes.table:
    """Return a table of HEADINGS with a row for each option."""
    head = nodes.row("", *(_cell(nodes.Text(text)) for text in HEADINGS))
    body = [nodes.row("", *_cells(option)) for option in listed]
    widths = (nodes.colspec(colwidth=width) for width in (26, 12, 22, 40))
    group = nodes.tgroup("", *widths, nodes.thead("", head), nodes.tbody("", *body), cols=len(HEADINGS))
    return nodes.table("", group, classes=["options"])


def _cells(option: Option) -> list[nodes.entry]:
    names = (nodes.literal("", text) if text else nodes.Text("") for text in (option.key, option.default))
    return [_cell(each) for each in (*names, nodes.Text(option.allowed), nodes.Text(option.meaning))]


def _cell(content: nodes.Node) -> nodes.entry:
    return nodes.entry("", nodes.paragraph("", "", content))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive to Sphinx."""
    app.add_directive("options", OptionsDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
