r"""Paths and texts as the shell passes them, though Hydra's grammar would read a comma, ``ü`` or ``(`` differently.

Where an option is a path or a text, its value is quoted for Hydra unless Hydra would read the very same
without. Three things keep their meaning, because commands rely on it: a value that is in quotes as a whole
(``data.root="a,b"``), ``null``, and ``${...}``, which OmegaConf fills in (``\${...}`` is not). A path that exists under
the very name that was typed is that path, whatever it looks like. With ``-m`` a comma separates values, as usual.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from cl_lightning.config import hydra_internals as internals
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.path_options import PATHS, Kind, kind_of
from cl_lightning.core.errors import UserError

_OF_HYDRA = ("hydra.run.dir", "hydra.sweep.dir")
"""Paths that Hydra itself makes, usually with interpolations (``outputs/${method.name}``)."""
_ESCAPED = set("\\()[]{}:=, \t")
"""Characters that Hydra's sweepers escape with a backslash when they pass an unquoted value to a job."""
_PIECE = re.compile(r"""\s*("(?:\\.|[^"\\])*"(?=\s*(?:,|$))|'(?:\\.|[^'\\])*'(?=\s*(?:,|$))|[^,]*)\s*(,|$)""")
"""Pattern of a value and the comma after it; one that is quoted as a whole may contain commas."""


@cache
def kinds() -> dict[str, Kind]:
    """Return key -> kind of all paths and texts among the options; the key of a list's entry has no number."""
    return {key: kind for key, field, _ in _options() if (kind := kind_of(field)) is not None}


@cache
def _lists() -> frozenset[str]:
    lists, groups = set(), set()
    for name, _, hint in _options():
        if hint is Any or any(get_origin(each) is list for each in (hint, *get_args(hint))):
            lists.add(name)
        elif dataclasses.is_dataclass(hint):
            groups.add(name)
    return frozenset(lists - groups)  # method.main is a phase of most methods, and nothing of the others


def holds_list(key: str) -> bool:
    """Return whether the value of an option may be a list."""
    return key in _lists()


def option_keys() -> frozenset[str]:
    """Return the keys of all options, of every choice of a group; the key of a list's entry has no number."""
    return frozenset(key for key, _, _ in _options())


def _options(schema: type = Config, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yield key, field and type of each option, of every choice of a group."""
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        yield key, field, hint
        choices = [] if prefix else list(SCHEMAS.get(field.name, {}).values())
        for inner in choices or [hint, *get_args(hint)]:
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from _options(inner, f"{key}.")


def kind_of_key(key: str) -> Kind | None:
    """Return the kind of an option that is typed as ``data.root``, ``+data.root`` or ``data.sets.0.root``."""
    parts = key.lstrip("+").split(".")
    return kinds().get(".".join(part for part in parts if not part.isdecimal()))


def literal(override: str, *, many: bool = False) -> str:
    """Return an override quoted for Hydra, so that a path or a text is read as it was typed; others as they are.

    ``many``: commas separate values for several runs (``-m``). Idempotent.

    Raises ``UserError`` for a path without a name.
    """
    key, equals, value = override.partition("=")
    name = key.lstrip("+")
    if name in _OF_HYDRA and equals:
        return f"{key}={_one(os.path.expanduser(value), is_path=False)}"
    kind = kind_of_key(key)
    if kind is None or not equals:
        return override
    is_path = kind in PATHS
    if is_path and not value:
        word = kind.upper() if kind == "file" else "DIR"
        raise UserError(f"{override} names no {kind}: type {key}={word}, or leave it out")
    if many:
        return f"{key}={_several(value, is_path=is_path)}"
    if is_path and "," in value and not _is_there(value) and all(map(_is_there, value.split(","))):
        raise UserError(f"{override} is no {kind}, its parts are: type -m as well for a run of each")
    return f"{key}={_one(value, is_path=is_path)}"


def text_of(value: str) -> str | None:
    """Return the value of a path or a text, without quotes for Hydra's grammar; None for ``null``."""
    if value.lower() == "null":
        return None
    typed = internals.as_typed(value)
    return typed.text if isinstance(typed, internals.QuotedString) else value


def tree(override: str) -> DictConfig:
    """Return an override of a path or a text as a tree, without Hydra."""
    key, _, value = literal(override).partition("=")
    made = OmegaConf.create()
    OmegaConf.update(made, key, text_of(value))
    return made


def filled_in(override: str) -> str | None:
    """Return the value of an override of a path or a text, read without Hydra: as :func:`text_of`, ``${oc.env:HOME}``
    filled in. Raises ``UserError`` for what cannot be.
    """
    key = override.partition("=")[0]
    try:
        found = OmegaConf.select(tree(override), key)
    except (InterpolationResolutionError, GrammarParseError) as error:
        raise UserError(unresolved(error)) from error
    return None if found is None else str(found)


def unresolved(error: OmegaConfBaseException) -> str:
    """Return one line for ``${...}`` that cannot be filled in."""
    key, node = str(error.full_key or error.key), error.parent_node
    within: Any = OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else None
    for part in str(error.key).split("."):
        within = within.get(part) if isinstance(within, dict) else None
    value = "" if within is None else str(within)
    kind = kind_of_key(key)
    meant = f"this {kind}" if kind == "text" else f"a {kind} of that name"
    named = f", or '{key}={escaped(value)}' for {meant}" if kind and value else ""
    return f"{key}={value} cannot be filled in ({internals.why_unresolved(error)}): type {key}= something else{named}"


def escaped(value: str) -> str:
    """Escape a text so that OmegaConf reads no interpolations in it."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)


def escaped_all(plain: Any) -> Any:
    """Escape each text in dicts and lists of plain values."""
    if isinstance(plain, dict):
        return {key: escaped_all(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [escaped_all(value) for value in plain]
    return escaped(plain) if isinstance(plain, str) else plain


def _one(value: str, *, is_path: bool) -> str:
    there = is_path and _is_there(value)
    if not there and (value.lower() in ("", "null") or _is_quoted(value)):
        return value
    text = escaped(value) if there or not internals.has_interpolation(value) else value
    if text == value and not _ESCAPED & set(value) and internals.as_typed(value) == value:
        return value
    return internals.QuotedString(text, internals.Quote.double).with_quotes()


def _several(value: str, *, is_path: bool) -> str:
    """Quote the values of ``-m``; those that Hydra reads as texts, or as its own sweeps (``choice(a,b)``), stay."""
    typed = internals.as_typed(value)
    if isinstance(typed, internals.Sweep | internals.Glob):
        given = typed.list if isinstance(typed, internals.ChoiceSweep) else []
        if all(isinstance(each, str | internals.QuotedString) for each in given):
            return value
    elif typed is not None:
        return value if isinstance(typed, str) and typed != value else _one(value, is_path=is_path)
    pieces = [piece.strip() for piece, comma in _PIECE.findall(f"{value},") if comma]
    return ",".join(_one(piece, is_path=is_path) for piece in pieces)


def _is_there(path: str) -> bool:
    return os.path.lexists(os.path.expanduser(path))


def _is_quoted(value: str) -> bool:
    return value[:1] in ("'", '"') and isinstance(internals.as_typed(value), internals.QuotedString)
