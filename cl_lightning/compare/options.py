"""The command line of ``python -m cl_lightning.compare``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cl_lightning.compare.formats import FORMATS
from cl_lightning.core.cli import nearest_option
from cl_lightning.core.errors import UserError
from cl_lightning.core.paths import typed_path
from cl_lightning.report.figure_file import SUFFIXES

PROGRAM = "python -m cl_lightning.compare"


@dataclass(frozen=True)
class Options:
    """The options typed, checked."""

    paths: tuple[Path, ...]
    form: str
    out: Path | None
    figure: Path | None
    evaluation: str | None
    readout: str | None
    baseline: str | None
    across: tuple[str, ...]
    over: str | None
    only: Mapping[str, tuple[str, ...]]
    unfinished: bool
    leave_out: tuple[Path, ...]
    costs: bool


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest option."""

    def error(self, message: str) -> NoReturn:
        """Raise ``UserError``."""
        raise UserError(f"{message}{nearest_option(self, message)}: {PROGRAM} --help lists the options")


def parse(arguments: Sequence[str]) -> Options:
    """Return the command line's options, read and checked.

    Raises:
        UserError: something that is not possible, or a folder to write into that is not there.
        SystemExit: help was asked for and given.
    """
    typed = _parser().parse_args(arguments)
    if not typed.paths:
        raise UserError(f"nothing to compare: type {PROGRAM} DIR, a folder with runs")
    if typed.figure is not None and typed.figure.suffix.lower() not in SUFFIXES:
        raise UserError(f"--figure {typed.figure} has none of the suffixes {', '.join(SUFFIXES)}: type one of them")
    for option, file in (("--out", typed.out), ("--figure", typed.figure)):
        if file is not None and (not file.parent.is_dir() or file.is_dir()):
            why = "is a folder" if file.is_dir() else f"cannot be written, as {file.parent} is no folder"
            raise UserError(f"{option} {file} {why}: type a file in a folder that exists")
    return Options(
        paths=tuple(typed.paths),
        form=_form(typed.format, typed.out),
        out=typed.out,
        figure=typed.figure,
        evaluation=typed.evaluation,
        readout=typed.readout,
        baseline=typed.baseline,
        across=tuple(dict.fromkeys(typed.across)),
        over=typed.over,
        only=_only(typed.only),
        unfinished=typed.unfinished,
        leave_out=tuple(typed.leave_out),
        costs=typed.costs,
    )


def _form(typed: str | None, out: Path | None) -> str:
    if typed is not None:
        if typed not in FORMATS:
            raise UserError(f"--format {typed} does not exist: type --format {', '.join(FORMATS)}")
        return typed
    if out is None:
        return "table"
    by_suffix = {suffix: form for form, suffix in FORMATS.items()}
    if out.suffix.lower() not in by_suffix:
        raise UserError(f"--out {out} has none of the suffixes {', '.join(by_suffix)}: type one of them, or --format")
    return by_suffix[out.suffix.lower()]


def _only(typed: Sequence[str]) -> dict[str, tuple[str, ...]]:
    wanted: dict[str, tuple[str, ...]] = {}
    for one in typed:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise UserError(f"--only {one} cannot be read: type --only KEY=VALUE, such as --only method=dytox")
        wanted[key] = (*wanted.get(key, ()), value)
    return wanted


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Mean and deviation over seeds and class orders of runs that were made under one protocol, paired "
        "differences, curves. Runs that answer another question (data, tasks, evaluation) are refused, not averaged.",
        epilog="Exit code: 0, 2 for what is not possible, 1 where a disk failed. Notes go to standard error.",
    )
    parser.add_argument(
        "paths", nargs="*", type=typed_path, metavar="DIR", help="a run, a multirun, or any folder of such"
    )
    add = parser.add_argument
    add("--format", metavar="FORM", help=f"{', '.join(FORMATS)}; by default as --out's suffix says, else table")
    add("--out", type=typed_path, metavar="FILE", help="write it there instead of printing it")
    add("--figure", type=typed_path, metavar="FILE", help=f"draw the curves ({', '.join(SUFFIXES)})")
    add("--over", metavar="KEY", help="show and draw accuracy over a numeric setting, such as memory.size")
    add("--baseline", metavar="GROUP", help="what differences are taken from; by default the first group by name")
    add(
        "--evaluation",
        metavar="NAME",
        help="class_incremental, task_incremental or task_inference; by default the runs' main one",
    )
    add("--readout", metavar="NAME", help="linear, nme ...; by default each method's own")
    add("--only", action="append", default=[], metavar="KEY=VALUE", help="runs with this value; may be repeated")
    add("--across", action="append", default=[], metavar="KEY", help="let the protocols differ in KEY; may be repeated")
    add("--costs", action="store_true", help="add what runs cost: multiply-adds, peak memory, seconds, disk")
    add("--unfinished", action="store_true", help="keep runs that have not reached their last task, as own groups")
    add(
        "--leave-out",
        action="append",
        default=[],
        type=typed_path,
        metavar="DIR",
        help="pass over a run, or all below a folder; may be repeated",
    )
    return parser
