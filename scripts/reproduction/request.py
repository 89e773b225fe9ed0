"""The command line of ``scripts/reproduce.py``: its own options, and the overrides of each run."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cl_lightning.config.command_line.literals import literal
from cl_lightning.config.hydra_internals import Sweep, as_typed
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError

_PARTS = ("table", "rows", "columns", "runs", "out")
COMMANDS = {"run": (*_PARTS, "jobs", "dry_run"), "show": _PARTS, "keep": (*_PARTS, "force"), "docs": ()}
"""Command -> the options of this script that it reads."""
_OPTIONS = tuple(dict.fromkeys(option for options in COMMANDS.values() for option in options))
_HELP = {"help", "-h", "--help"}


@dataclass(frozen=True)
class Request:
    """The options of a command line."""

    command: str = "run"
    table: str | None = None
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    jobs: int = 1
    out: Path = field(default_factory=lambda: Path("outputs/reproduce"))
    dry_run: bool = False
    force: bool = False
    overrides: tuple[str, ...] = ()
    """Overrides of each run."""


def wants_help(arguments: Sequence[str]) -> bool:
    """Return whether the usage is asked for."""
    return not _HELP.isdisjoint(arguments)


def parse(arguments: Sequence[str]) -> Request:
    """Parse the command line. Raises UserError for what is not possible."""
    command = arguments[0] if arguments and "=" not in arguments[0] else "run"
    if command not in COMMANDS:
        raise UserError(f"{command} is no command of this script: type one of {', '.join(COMMANDS)}, or --help")
    options: dict[str, Any] = {}
    overrides = []
    for argument in arguments[1:] if command in arguments[:1] else arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UserError(f"{argument} cannot be read: type key=value, such as table=cifar100")
        if key in _OPTIONS:
            _check_read(command, argument)
            options[key] = _value(key, value)
        else:
            _check_override(argument)
            overrides.append(argument)
    request = Request(command, overrides=tuple(overrides), **options)
    _check_whole(request, arguments)
    return request


def _value(key: str, value: str) -> Any:
    match key:
        case "rows" | "columns" | "runs":
            return tuple(value.split(","))
        case "jobs":
            if not value.isdecimal() or int(value) < 1:
                raise UserError(f"jobs={value} is not possible: type jobs=1 or more")
            return int(value)
        case "out":
            return Path(value)
        case "dry_run" | "force":
            if value not in ("true", "false"):
                raise UserError(f"{key}={value} is not possible: type {key}=true or {key}=false")
            return value == "true"
    return value


def _check_read(command: str, argument: str) -> None:
    option = argument.partition("=")[0]
    if option not in COMMANDS[command]:
        readers = " or ".join(name for name, options in COMMANDS.items() if option in options)
        raise UserError(f"{argument} is not read by {command}, only by {readers}: leave it out")


def _check_override(argument: str) -> None:
    """Raise ``UserError`` for an option of this script that was misspelt, several values, and the folder of a run."""
    key = argument.partition("=")[0]
    if isinstance(as_typed(literal(argument).partition("=")[2]), Sweep):
        raise UserError(f"{argument} are several values: type one, which is given to every run")
    if key in ("run_dir", "hydra.run.dir"):
        raise UserError(f"{argument} would be one folder for all runs: type out=DIR, below which each has its own")
    if "." not in key and key not in {option.name for option in fields(Config)}:
        hint = _nearest(key)
        if hint:
            raise UserError(f"{argument} is no option of this script or of a run (did you mean {hint}=?)")


def _check_whole(request: Request, arguments: Sequence[str]) -> None:
    """Raise ``UserError`` for options that mean nothing without a table, or nothing to a command that runs nothing."""
    typed = [argument for argument in arguments if "=" in argument]
    if request.command == "docs":
        if typed:
            raise UserError(f"docs is about all tables: leave out {typed[0]}")
    elif request.table is None and (typed or request.command != "run"):
        what = f"{typed[0]} says" if typed else f"{request.command} says"
        raise UserError(f"{what} nothing without a table: type table=NAME as well, and nothing at all for their names")
    elif request.command != "run" and request.overrides:
        raise UserError(f"{request.overrides[0]} is for runs, and {request.command} makes none: leave it out")


def _nearest(key: str) -> str:
    return next(iter(difflib.get_close_matches(key, _OPTIONS, n=1, cutoff=0.7)), "")
