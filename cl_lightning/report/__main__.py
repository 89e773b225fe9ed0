"""``python -m cl_lightning.report RUN_DIR...``: the pages of runs, made again from their files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the reports that were asked for; returns the exit code, 2 for a folder that holds no run."""
    parser = argparse.ArgumentParser(
        prog="python -m cl_lightning.report",
        description="Write RUN_DIR/report.html and the figures in RUN_DIR/report/ again, from the files of the run.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="a run that has finished a task at least")
    asked = parser.parse_args(arguments)
    from cl_lightning.report.write import write_report  # brings matplotlib, which --help does not need

    code = 0
    for run_dir in asked.runs:
        try:
            sys.stdout.write(f"{write_report(run_dir)}\n")
        except ValueError as error:
            sys.stderr.write(f"error: {error}\n")
            code = 2
    return code


if __name__ == "__main__":
    sys.exit(main())
