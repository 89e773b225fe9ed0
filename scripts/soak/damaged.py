"""Checkpoints and bundles that are torn, altered, or crafted by somebody who means harm."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import shutil
from pathlib import Path
from typing import Any

from cl_lightning.bundle.pack import export_run, import_run
from cl_lightning.checkpoint.files import last_checkpoint, list_checkpoints
from cl_lightning.core.errors import UserError
from scripts.kill_test import outcome
from scripts.soak import bundles, checkpoints
from scripts.soak.attack import Fault, Tally
from scripts.soak.program import Death, run
from scripts.soak.runs import Peace, difference

_AT_ONCE = 20
_WHOLE = 0.1
"""Share of the trials that resume a run, which takes seconds; the others only read files."""


class Checkpoints:
    """The newest checkpoint of a run is damaged: the one before it is taken, or nothing is."""

    name = "checkpoints"
    unit = "files"

    def __init__(self, peace: Peace) -> None:
        self._peace = peace

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Damage some copies of one file."""
        words = self._peace.words("icarl")
        run_dir = self._peace.folder_of(words)
        if chance.random() < _WHOLE:
            return self._gone_on_with(chance, folder, words)
        *_, newest = list_checkpoints(run_dir / "checkpoints")
        content, tally = newest.read_bytes(), Tally()
        before = folder / "task_001.pt"
        shutil.copy(newest, before)
        for _ in range(_AT_ONCE):
            name, damaged = checkpoints.damage(chance, content)
            (folder / newest.name).write_bytes(damaged)
            tally.tried[name] += 1
            tally.answers[_read(folder, before)] += 1
        return tally

    def _gone_on_with(self, chance: random.Random, folder: Path, words: list[str]) -> Tally:
        run_dir, tally = folder / "run", Tally()
        run([*words, f"run_dir={run_dir}"], folder, Death(self._peace.seconds(words) * chance.uniform(0.5, 0.9)))
        kept = list_checkpoints(run_dir / "checkpoints")
        if not kept:
            return tally
        name, damaged = checkpoints.damage(chance, kept[-1].read_bytes())
        kept[-1].write_bytes(damaged)
        end = run([f"resume={run_dir}"], folder).refuse_traceback()
        tally.tried[name] += 1
        tally.answers[f"resume= ends with {end.code}"] += 1
        if end.code == 2 and name == "code":
            return tally
        if end.code:
            raise Fault("lost", f"{name}: resume= ended with {end.code}: {end.said[-2000:]}")
        unlike = difference(run_dir, self._peace.outcome(words))
        if unlike:
            raise Fault("lost", f"{name}: {unlike} not as in peace")
        if kept[-1].name not in end.said:
            raise Fault("accepted", f"{name}: nothing was said of {kept[-1].name}")
        return tally


def _read(folder: Path, before: Path) -> str:
    """Return the answer of a reader of the folder."""
    said, told = io.StringIO(), _Told()
    try:
        with contextlib.redirect_stdout(said), told:
            found = last_checkpoint(folder)
    except (ValueError, UserError) as error:
        if "\n" in str(error):
            raise Fault("traceback", f"not one line: {error}") from error
        return "refused"
    if said.getvalue():
        raise Fault("accepted", f"code has run: {said.getvalue()}")
    if found is None or found[0] != before:
        raise Fault("lost" if found is None else "accepted", f"{folder}: {None if found is None else found[0]}")
    if not any("task_002.pt" in line for line in told.lines):
        raise Fault("accepted", f"nothing was said of the damaged file: {told.lines}")
    return "the one before"


class _Told(logging.Handler):
    """A handler of warnings on checkpoints, which go nowhere else for the block."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._log = logging.getLogger("cl_lightning.checkpoint.files")

    def emit(self, record: logging.LogRecord) -> None:
        """Store the line."""
        self.lines.append(record.getMessage())

    def __enter__(self) -> None:
        self._log.addHandler(self)
        self._log.propagate = False

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self)
        self._log.propagate = True


class Bundles:
    """A received bundle is damaged: it is refused in a line, and leaves nothing behind."""

    name = "bundles"
    unit = "files"

    def __init__(self, peace: Peace) -> None:
        self._peace = peace
        self._whole: list[tuple[bytes, dict[str, Any]]] = []

    def _bundles(self, folder: Path) -> list[tuple[bytes, dict[str, Any]]]:
        """Return valid bundles, one with pixels and one with files, and the outcomes of their runs."""
        if not self._whole:
            for kind in ("icarl", "files"):
                run_dir = self._peace.folder_of(self._peace.words(kind))
                export_run(run_dir, folder / f"{kind}.clbundle")
                import_run(folder / f"{kind}.clbundle", folder / f"{kind}_again")
                content = (folder / f"{kind}.clbundle").read_bytes()
                self._whole.append((content, _imported(folder / f"{kind}_again")))
        return self._whole

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Damage some copies of one bundle."""
        (whole, expected), tally = chance.choice(self._bundles(folder)), Tally()
        place = folder / "here"
        place.mkdir()
        for _ in range(_AT_ONCE):
            name, damaged = bundles.damage(chance, whole)
            tally.tried[name] += 1
            tally.answers[_import(place, damaged, name, expected)] += 1
        return tally


def _import(place: Path, damaged: bytes, name: str, expected: dict[str, Any]) -> str:
    file, run_dir = place / "sent.clbundle", place / "run"
    file.write_bytes(damaged)
    try:
        import_run(file, run_dir)
    except UserError as error:
        if "\n" in str(error):
            raise Fault("traceback", f"{name}: not one line: {error}") from error
        left = [path.name for path in place.iterdir() if path != file]
        if left:
            raise Fault("lost", f"{name}: the refused bundle has left {', '.join(left)}") from error
        return "refused"
    found = _imported(run_dir)
    shutil.rmtree(run_dir)
    if found != expected:
        raise Fault("accepted", f"{name}: {file} was imported as another run")
    return "the same run"


def _imported(run_dir: Path) -> dict[str, Any]:
    made = outcome(run_dir)
    made["results"] = {name: value for name, value in made["results"].items() if name not in bundles.FREE}
    return made
