"""``python -m cl_lightning.report RUN_DIR...``: rebuild the report pages of runs from their files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cl_lightning.core.cli import Parser, carried_out, say
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.exit_codes import DONE, WRONG_INPUT
from cl_lightning.core.paths import typed_path
from cl_lightning.core.printable import printable

_EPILOG = "Everything is taken from the files of the runs: no data, no network, no GPU."


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the reports of the folders named; returns the exit code, 2 for a folder that holds no run."""
    parser = Parser("report", "Write RUN_DIR/report.html and the figures in RUN_DIR/report/ again.", _EPILOG)
    parser.add_argument(
        "runs", nargs="+", type=typed_path, metavar="RUN_DIR", help="a run that has finished a task at least"
    )
    runs: list[Path] = parser.parse_args(arguments).runs
    return carried_out(lambda: _write(runs))


def _write(runs: Sequence[Path]) -> int:
    from cl_lightning.report.write import write_report  # brings matplotlib, which --help does not need

    code = DONE
    for run_dir in runs:
        try:
            sys.stdout.write(f"{printable(str(write_report(run_dir)))}\n")
        except InvalidFileError as error:
            say(f"error: {error}")
            code = WRONG_INPUT
    return code


if __name__ == "__main__":
    sys.exit(main())
