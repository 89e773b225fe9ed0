"""What is done with each of the runs that are kept, at 93a97df and now, and what comes of it.

Every operation takes place in a folder with a fresh copy of the run in ``runs/NAME`` and the generated pictures. It
returns plain values in two parts: ``exact`` (counts, choices, texts) and ``near`` (floats).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.compatibility.cases import ASKED, FOLDERS, Case
from tests.compatibility.commands import (
    BUNDLE,
    PROGRAM,
    Plain,
    bundled,
    compared,
    exported,
    outcome,
    predictions,
    reported,
    type_in,
)
from tests.compatibility.pictures import write_digits, write_pictures

FILE = "run.bundle"


def write_all_pictures(root: Path) -> None:
    """The folders that cases name."""
    for folder, (each, classes) in FOLDERS.items():
        write_pictures(root / folder, classes, each=each)
    write_digits(root / ASKED)


def _resume(run_dir: Path, case: Case) -> dict[str, Plain]:
    type_in(PROGRAM, f"resume={run_dir}", *case.moved)
    return outcome(run_dir, ASKED, case.readouts)


def _learn(run_dir: Path, case: Case) -> dict[str, Plain]:
    type_in(PROGRAM, f"learn={run_dir}", f"data.new={case.folder}", "run_dir=learnt", *case.learns)
    return outcome(Path("learnt"), ASKED, case.readouts)


def _predict(run_dir: Path, case: Case) -> dict[str, Plain]:
    return predictions(run_dir, ASKED, case.readouts)


def _export(run_dir: Path, case: Case) -> dict[str, Plain]:
    return exported(run_dir, Path("exported"), ASKED, case.formats)


def _bundle(run_dir: Path, case: Case) -> dict[str, Plain]:
    type_in(BUNDLE, "export", run_dir, FILE)
    return bundled(Path(FILE))


def _compare(run_dir: Path, case: Case) -> dict[str, Plain]:
    return compared(run_dir)


def _report(run_dir: Path, case: Case) -> dict[str, Plain]:
    return reported(run_dir)


def _import(run_dir: Path, case: Case) -> dict[str, Plain]:
    """``run_dir`` holds a bundle, in the place of which there is the run afterwards."""
    shutil.move(run_dir / FILE, FILE)
    type_in(BUNDLE, "import", FILE, run_dir)
    return outcome(run_dir, ASKED, case.readouts)


OPERATIONS: dict[str, Callable[[Path, Case], dict[str, Plain]]] = {
    "resume": _resume,
    "learn": _learn,
    "predict": _predict,
    "export": _export,
    "bundle": _bundle,
    "import": _import,
    "compare": _compare,
    "report": _report,
}


def carry_out(name: str, case_name: str, case: Case) -> dict[str, Plain]:
    """One of :data:`OPERATIONS` on the case in ``runs/NAME`` below the present folder.

    Of a multirun the runs are compared with each other, and its first one is what is learnt from, predicted by ...
    """
    folder = Path("runs") / case_name
    if case.jobs and name != "compare":
        folder /= case.jobs[0]
    if (folder / FILE).exists() and name != "import":
        _import(folder, case)
    return OPERATIONS[name](folder, case)
