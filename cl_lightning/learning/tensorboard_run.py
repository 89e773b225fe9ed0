"""Curves of a run in TensorBoard's event files, by Lightning's logger.

Event files cannot be cut back. So a resumed run makes them anew from the rows of its CSV file, which has been cut back
to the checkpoint: no point is there twice, and none is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.learning.curves_file import PHASE, PHASE_TASK, STEP, TASK, Row, as_number

FOLDER = "tensorboard"
"""Folder of the event files in that of the run."""


def check_tensorboard() -> None:
    """Raise ``InvalidSettingError`` if the package is not installed."""
    if find_spec("tensorboard") is None:
        reason = "needs a package that is not installed"
        raise InvalidSettingError("tensorboard", True, reason, False, 'run pip install "cl-lightning[tensorboard]"')


class TensorBoardRun:
    """Event files of a run: curves over steps, and those over tasks (``task/...``, ``phase/NAME/...``) over the task's
    index, as elsewhere.
    """

    def __init__(self, run_dir: Path, rows: Sequence[Row]) -> None:
        """Begin the files anew, with all points of ``rows``. Raises ``OSError`` if they cannot be written."""
        for old in (run_dir / FOLDER).glob("events.out.tfevents.*"):
            old.unlink()
        self._logger = TensorBoardLogger(run_dir, name="", version=FOLDER, default_hp_metric=False)
        for row in rows:
            self.send({name: as_number(value) for name, value in row.items() if name != STEP}, int(row[STEP]))

    def send(self, point: Mapping[str, float], step: int) -> None:
        """Write one point of each curve."""
        axis = TASK if TASK in point else PHASE_TASK if PHASE in point else None
        at = step if axis is None else int(point[axis])
        curves = {name: value for name, value in point.items() if name not in (TASK, PHASE, PHASE_TASK)}
        self._logger.log_metrics(curves, at)

    def send_configuration(self, configuration: dict[str, Any]) -> None:
        """Write the configuration of the run."""
        self._logger.log_hyperparams(configuration)

    def sync(self) -> None:
        """Hand what was written to the operating system."""
        self._logger.experiment.flush()

    def finish(self, status: str) -> None:
        """Close the files."""
        self._logger.finalize(status)
