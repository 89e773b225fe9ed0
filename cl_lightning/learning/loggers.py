"""Curves of a whole run on one continuous axis, in a CSV file, in Weights & Biases and in TensorBoard.

Each phase has a Trainer of its own whose steps start at zero; the offset of the steps before it is added here, so that
a run reads as one, also if it was stopped and resumed. The CSV file is the reference: it is written first and cut back
to the checkpoint when a run is resumed, and Weights & Biases is then sent the points that it lacks; TensorBoard's files
are made anew from it.
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import WandbLogger

from cl_lightning.core.atomic_write import write_atomic
from cl_lightning.core.errors import InvalidFileError, InvalidSettingError
from cl_lightning.core.file_type import read_file
from cl_lightning.learning.curves_file import PHASE, PHASE_TASK, STEP, TASK, CurvesFile, Row, as_number, read_curves
from cl_lightning.learning.tensorboard_run import TensorBoardRun, check_tensorboard
from cl_lightning.learning.wandb_file import HEADER, read_records
from cl_lightning.report.panels import Panels, Picture

log = logging.getLogger(__name__)

Status = Literal["success", "failed", "stopped"]
"""Outcome of a run; a stopped one can be resumed."""


@dataclass(frozen=True)
class LoggerOptions:
    """Choice of loggers, and the names of a run in them."""

    csv: bool
    wandb: bool
    project: str
    entity: str | None
    mode: str
    name: str
    group: str
    tensorboard: bool = False
    quiet: bool = False
    """True if wandb may print nothing on the terminal."""


@dataclass(frozen=True)
class ResumePoint:
    """Extent of the saved curves of a resumed run: points up to step ``steps``, and those of the first ``tasks`` tasks
    and of the first ``phases`` evaluations after phases.
    """

    steps: int
    tasks: int
    phases: int = 0

    def __contains__(self, row: Row) -> bool:
        counted = ((TASK, self.tasks), (PHASE, self.phases))
        return int(row[STEP]) <= self.steps and all(int(row.get(name, -1)) < number for name, number in counted)


class Curves:
    """Logger of scalars of the current phase at (steps of earlier phases) + (steps in this one)."""

    def __init__(
        self,
        file: CurvesFile | None = None,
        wandb: WandbRun | None = None,
        tensorboard: TensorBoardRun | None = None,
    ) -> None:
        self._file = file
        self._wandb = wandb
        self._tensorboard = tensorboard
        self.offset = 0

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Log one point of each curve.

        Raises:
            OSError: a full disk, for example, or wandb's own process is gone; the message says which.
        """
        self._log(scalars, self.offset + step)

    def log_task(self, task: int, scalars: Mapping[str, float], panels: Callable[[], Panels] = Panels) -> None:
        """Log one point of each curve over tasks; names get the prefix ``task/``. ``panels`` makes the panels of a
        dashboard, and is called only if there is one. Raises like ``log``.
        """
        point = {**{f"task/{name}": value for name, value in scalars.items()}, TASK: task}
        self._log(point, self.offset, panels if self._wandb is not None else Panels)

    def log_phase(self, index: int, task: int, phase: str, scalars: Mapping[str, float]) -> None:
        """Log one point of each curve over the phases of this name, at the task's index; names get the prefix
        ``phase/NAME/``. It is the ``index``-th evaluation after a phase, from 0. Raises like ``log``.
        """
        named = {f"phase/{phase}/{name}": value for name, value in scalars.items()}
        self._log({**named, PHASE_TASK: task, PHASE: index}, self.offset)

    def _log(self, point: Mapping[str, float], step: int, panels: Callable[[], Panels] = Panels) -> None:
        if self._file is not None:
            self._file.append(point, step)
        if self._wandb is not None:
            self._wandb.send(point, step, panels())
        if self._tensorboard is not None:
            self._tensorboard.send(point, step)

    def log_configuration(self, configuration: dict[str, Any]) -> None:
        """Log the configuration of the run."""
        if self._wandb is not None:
            self._wandb.send_configuration(configuration)
        if self._tensorboard is not None:
            self._tensorboard.send_configuration(configuration)

    def sync(self) -> None:
        """Wait until all rows of the file would survive a power cut."""
        if self._file is not None:
            self._file.sync()
        if self._tensorboard is not None:
            self._tensorboard.sync()

    def close(self, status: Status) -> None:
        """End the runs in wandb and TensorBoard, so that the next job of this process starts its own; the file needs
        no end.
        """
        with ExitStack() as ends:  # each of them, whatever comes of the others
            if self._wandb is not None:
                ends.callback(self._wandb.finish, status)
            if self._tensorboard is not None:
                ends.callback(self._tensorboard.finish, status)
            self.sync()


_NOTHING = Panels()


class WandbRun:
    """Run of Weights & Biases that receives every point once, in however many parts it is made.

    The points of earlier parts are known from its server or, offline, from the files of these parts. Both may lack the
    last points before a kill, and may have points after the checkpoint that is resumed. So the number of a point does
    not depend on interruptions: it counts the steps, the tasks and the evaluations after phases before the point.
    """

    def __init__(
        self,
        options: LoggerOptions,
        run_dir: Path,
        rows: Sequence[Row],
        resume: ResumePoint | None,
        inherited: ResumePoint | None,
    ) -> None:
        """Begin a run, or, with ``resume``, resume the one of this folder; send those of ``rows`` that it lacks.
        ``inherited`` is the extent of the curves of another run with which a new one begins.

        Raises:
            ValueError: it cannot begin; one line for the user.
        """
        run_id = _run_id(run_dir, new=resume is None)
        in_files = _last_number(run_dir, run_id) if options.mode == "offline" else -1
        self._run = begin_wandb_run(options, run_dir, run_id)
        self._last_number = max(in_files, self._run.starting_step - 1)
        before = resume or inherited or ResumePoint(0, 0)
        self._tasks = before.tasks - sum(TASK in row for row in rows)  # tasks before the rows, in case rows are missing
        self._phases = before.phases - sum(PHASE in row for row in rows)
        for row in rows:
            self.send({name: as_number(value) for name, value in row.items() if name != STEP}, int(row[STEP]))

    def send(self, point: Mapping[str, float], step: int, panels: Panels = _NOTHING) -> None:
        """Send one point and its panels, unless the run has it already."""
        if TASK in point:
            self._tasks = int(point[TASK]) + 1
        if PHASE in point:
            self._phases = int(point[PHASE]) + 1
        number = step + self._tasks + self._phases
        if number <= self._last_number:
            return
        try:
            media = _media(panels)
            self._run.log({**point, **media, "trainer/global_step": step}, step=number, commit=True)
        except ConnectionError as error:
            raise ConnectionError(f"wandb's own process is gone ({error})") from error

    def send_configuration(self, configuration: dict[str, Any]) -> None:
        """Send the configuration of the run."""
        self._run.config.update(configuration, allow_val_change=True)

    def finish(self, status: Status) -> None:
        """End this part; wandb then shows the run as finished, failed, or, if it was stopped, preempted."""
        try:
            if status == "stopped":
                self._run.mark_preempting()
            self._run.finish(exit_code=0 if status == "success" else 1)
        except ConnectionError as error:
            log.warning("wandb's own process is gone (%s): its run lacks the end", error)


def make_curves(
    options: LoggerOptions, run_dir: Path, resume: ResumePoint | None = None, *, inherited: ResumePoint | None = None
) -> Curves:
    """Return the loggers of a run; with ``resume``, of a resumed one, whose CSV file is cut back to that point.
    ``inherited`` is the extent of the curves of another run with which a new one begins.

    Raises:
        ValueError: the file cannot be read, or a logger cannot start; one line for the user.
        OSError: a file cannot be written.
    """
    if options.tensorboard and not options.csv:
        reason = "leaves out the file from which TensorBoard's are made"
        raise InvalidSettingError("csv", False, reason, {"csv": True, "tensorboard": False})
    if options.tensorboard:
        check_tensorboard()
    rows: list[Row] = []
    file = None
    if options.csv:
        path = run_dir / "metrics.csv"
        if resume is not None:
            stored, damaged = read_curves(path)
            rows = [row for row in stored if row in resume]
            if lost := _lost(rows, resume, damaged):
                log.warning("%s has lost points of the curves: %s; what is left is kept", path, lost)
        file = CurvesFile(path, rows)
    to_wandb = options.wandb and options.mode != "disabled"
    tensorboard = TensorBoardRun(run_dir, rows) if options.tensorboard else None
    return Curves(file, WandbRun(options, run_dir, rows, resume, inherited) if to_wandb else None, tensorboard)


def _lost(rows: Sequence[Row], resume: ResumePoint, damaged: int) -> str:
    """Return a description of the missing points before ``resume``; empty where none seems to be missing.

    A run need not have been logged from its beginning: only points after an existing one are known to be missing.
    """
    lost = []
    for name, number, words in ((TASK, resume.tasks, "tasks"), (PHASE, resume.phases, "evaluations after phases")):
        indices = {int(row[name]) for row in rows if name in row}
        missing = set(range(min(indices, default=number), number)) - indices
        if missing:
            lost.append(f"those of {len(missing)} of {number} {words} are missing")
    steps = sorted({0, *(int(row[STEP]) for row in rows if TASK not in row and PHASE not in row)})
    usual = max((later - earlier for earlier, later in pairwise(steps)), default=0)
    if steps[-1] < resume.steps and (damaged or resume.steps - steps[-1] > usual > 0):
        lost.append(f"there is none of steps {steps[-1] + 1} to {resume.steps}")
    if lost and damaged:
        lost.insert(0, f"{damaged} of its lines are damaged")
    return ", ".join(lost)


def silent_curves() -> Curves:
    """Return curves that log nothing, for a process other than the main one."""
    return Curves()


def _run_id(run_dir: Path, *, new: bool) -> str:
    """Return the id of the run in wandb, chosen once and stored in ``wandb_id``."""
    path = run_dir / "wandb_id"
    if new or not path.exists():
        write_atomic(path, secrets.token_hex(4) + "\n")
    run_id = read_file(path).decode("utf-8", "replace").strip()
    if not re.fullmatch(r"[\w-]{1,64}", run_id, re.ASCII):
        reason = f"holds {run_id[:40]!r}, no id of a wandb run"
        raise InvalidFileError(path, reason, "delete it, and a new run begins in wandb")
    return run_id


def _last_number(run_dir: Path, run_id: str) -> int:
    """Return the largest number of a point in the files of a run's earlier parts; -1 if they have none.

    Files of killed parts are repaired on the way: ``wandb sync`` ends at a torn record, or at an empty file.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # created at import

    last = -1
    for path in run_dir.glob(f"wandb/*run-*/run-{run_id}.wandb"):
        if path.is_symlink() or path.parent.is_symlink():
            continue  # not wandb's, and nothing is repaired through links
        end = 0
        for data, end in read_records(path):  # noqa: B007 (the last end is what counts)
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                last = max(last, record.history.step.num)
        if end:
            os.truncate(path, end)
        elif path.stat().st_size <= len(HEADER):
            shutil.rmtree(path.parent)
    return last


def _media(panels: Panels) -> dict[str, Any]:
    """Return tables, pictures and galleries as wandb's media, in sections ``tables``, ``report`` and ``memory``."""
    if not panels.tables and not panels.pictures:
        return {}
    import wandb
    from PIL import Image

    def picture(of: Picture) -> Any:
        return wandb.Image(Image.open(io.BytesIO(of.png)), caption=of.caption or None)

    tables = {
        f"tables/{name}": wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        for name, (columns, rows) in panels.tables.items()
    }
    pictures = {
        f"memory/{name}" if name == "exemplars" else f"report/{name}": [picture(of) for of in gallery]
        for name, gallery in panels.pictures.items()
    }
    return {**tables, **{name: of[0] if len(of) == 1 else of for name, of in pictures.items()}}


def begin_wandb_run(options: LoggerOptions, run_dir: Path, run_id: str) -> Any:
    """Begin a wandb run, or go on with the one of this id, and return it."""
    import wandb

    settings = wandb.Settings(console="off", x_disable_stats=False, silent=options.quiet)
    logger = WandbLogger(
        id=run_id,
        resume="allow",
        name=options.name,
        group=options.group,
        project=options.project,
        entity=options.entity,
        mode=options.mode,
        save_dir=run_dir,
        settings=settings,
    )
    try:
        run = logger.experiment
    except wandb.errors.Error as error:
        mend = {"mode": "offline to need no network"}
        raise InvalidSettingError("wandb", True, f"cannot start ({error})", mend) from error
    run.define_metric(TASK)
    run.define_metric("task/*", step_metric=TASK)
    run.define_metric(PHASE_TASK)
    run.define_metric("phase/*", step_metric=PHASE_TASK)
    return run
