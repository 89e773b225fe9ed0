"""Run a table of results, show its state, store it: `python scripts/reproduce.py table=cifar100 data.root=DIR`.

    python scripts/reproduce.py                              the tables there are
    python scripts/reproduce.py table=NAME [key=value ...]   run what is missing, go on with what is unfinished, print
    python scripts/reproduce.py show table=NAME              print the table as it stands, run nothing
    python scripts/reproduce.py keep table=NAME              store results in docs/results, write REPRODUCIBILITY.md
    python scripts/reproduce.py docs                         write docs/REPRODUCIBILITY.md from docs/results

Options of this script: rows=, columns= and runs= choose a part, to run and to show (names separated by commas), jobs=N
runs N at a time, out=DIR is where the runs go (outputs/reproduce), dry_run=true prints the commands. keep leaves a
stored result that is better than the run: finished, or under the table's own settings; force=true replaces it. Every
other key=value goes to each run: data.root=DIR trainer=gpu. What changes a number (trainer.precision=bf16-mixed) is
shown as a deviation; such runs are in no mean with others.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import yaml

from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.hydra_errors import explain
from cl_lightning.config.identity import differences, numeric_settings, with_names_of_files
from cl_lightning.config.origin import origin_of
from cl_lightning.config.saved import may_change
from cl_lightning.config.schema import Config
from cl_lightning.config.unused.check import Unread, told
from cl_lightning.core.cli import discard_output
from cl_lightning.core.errors import UserError, as_user_error
from cl_lightning.core.exit_codes import DONE, INTERRUPTED, PARTLY, STOPPED, WRONG_INPUT
from cl_lightning.core.paths import let_any_name_be_printed
from cl_lightning.published.comparison import COMPARED_TABLES, comparison
from cl_lightning.published.page import count_cells, page
from cl_lightning.published.stored_results import StoredRun, condense, parse_stored, read_stored, store
from cl_lightning.published.tables import Job, Table, load_table, table_names
from cl_lightning.published.verdict import Status
from cl_lightning.report.layout import Block, Grid, as_markdown, as_text
from cl_lightning.report.words import counted

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where `scripts` is, wherever this is typed
from scripts.reproduction.data import check_data
from scripts.reproduction.request import Request, parse, wants_help

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "REPRODUCIBILITY.md"
COMPARED = (ROOT / "README.md", ROOT / "docs" / "results" / "index.md")
"""Pages with the comparison of all systems."""

_OF_A_RUN = ("seed", "data.order")
"""Keys in which the runs of a cell differ, and that no other setting depends on: one composition serves all."""


def expected(job: Job) -> dict[str, Any]:
    """Return the numeric settings of the job's own configuration."""
    pairs = [(override, *override.split("=", 1)) for override in job.overrides]
    own = {key: yaml.safe_load(value) for _, key, value in pairs if key in _OF_A_RUN}
    return _composed(tuple(override for override, key, _ in pairs if key not in _OF_A_RUN))[0] | own


def origin(job: Job) -> str:
    """Return the label of what the job's method is."""
    return _composed(tuple(override for override in job.overrides if override.partition("=")[0] not in _OF_A_RUN))[2]


@cache
def _composed(overrides: tuple[str, ...]) -> tuple[dict[str, Any], tuple[Unread, ...], str]:
    """Return the numeric settings of a configuration, the overrides that it does not read, and its label."""
    config, idle = compose_one_of_many(["run_dir=none", *overrides])
    return with_names_of_files(numeric_settings(dataclasses.asdict(config))), tuple(idle), origin_of(config)


def configuration(job: Job, overrides: Sequence[str]) -> Config:
    """Return the whole configuration of the job with further overrides."""
    return compose_one_of_many(["run_dir=none", *job.overrides, *overrides])[0]


def asked(job: Job, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the numeric settings of the job with further overrides."""
    return _composed((*job.overrides, *overrides))[0]


def unread_by(job: Job, overrides: Sequence[str]) -> tuple[Unread, ...]:
    """Return the overrides, of the job and further ones, that it does not read."""
    every = (*job.overrides, *overrides)
    return _composed(tuple(override for override in every if override.partition("=")[0] not in _OF_A_RUN))[1]


def differ(run: StoredRun, job: Job) -> list[str]:
    """Return the settings in which a stored run deviates from its job."""
    return differences(run.science, expected(job))


def worse(new: StoredRun, stored: StoredRun, job: Job) -> str | None:
    """Return why a run must not take the place of the stored one of its job, None if it may."""
    deviations = differ(new, job)
    if deviations and not differ(stored, job):
        return f"it was made with {'; '.join(deviations)}, the stored one as the table says"
    if stored.finished and not new.finished:
        return f"{len(new.curve)} of {new.tasks} tasks are done, the stored one is finished"
    return None


def call(command: Sequence[str], console: TextIO | None) -> int:
    """Run a command, its output in ``console`` (None: where ours is), to its exit code."""
    return subprocess.run(command, stdout=console, stderr=console, check=False).returncode


class Runs:
    """The runs of a request and their folders."""

    def __init__(self, request: Request, table: Table) -> None:
        self._request = request
        self.jobs = table.jobs(request.rows, request.columns, request.runs)
        if not self.jobs:
            raise UserError(
                f"no run of table {table.name} is in all of the rows, columns and runs typed: leave out one"
            )
        self._stopped = threading.Event()
        self._failed: list[str] = []

    def folder(self, job: Job) -> Path:
        """Return the folder of the job's files."""
        return self._request.out / job.path

    def read(self, jobs: Sequence[Job]) -> dict[Job, StoredRun]:
        """Return the results of ``jobs`` in the run folders, finished or not."""
        found = {}
        for job in jobs:
            content = self.content(job)
            if content is not None:
                found[job] = parse_stored(content)
        return found

    def content(self, job: Job) -> dict[str, Any] | None:
        """Return what would be stored of the job's run; None where there is no result yet."""
        results = self.folder(job) / "results.json"
        if not results.exists():
            return None
        return condense(json.loads(results.read_text(encoding="utf-8")), self.begun(job) or {})

    def begun(self, job: Job) -> dict[str, Any] | None:
        """Return the numeric settings of the run in the job's folder; None if there is none."""
        folder = self.folder(job)
        if not (folder / "results.json").exists() and not any(folder.glob("checkpoints/task_*.pt")):
            return None
        made = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return with_names_of_files(numeric_settings(made))

    def _goes_on(self, job: Job) -> bool:
        return any(self.folder(job).glob("checkpoints/task_*.pt"))

    def command(self, job: Job) -> list[str]:
        """Return the command line of a job: to start it, or to resume it."""
        python = [sys.executable, "-m", "cl_lightning"]
        folder = self.folder(job)
        if self._goes_on(job):
            # The others are what the run was begun with: `wanted` has compared them.
            return [*python, f"resume={folder}", *filter(may_change, self._read(job, self._request.overrides))]
        return [*python, *self._read(job, (*job.overrides, *self._request.overrides)), f"hydra.run.dir={folder}"]

    def _read(self, job: Job, overrides: Sequence[str]) -> list[str]:
        """Return those of ``overrides`` that the job reads: only some rows may read a table's common overrides."""
        idle = {one.text for one in unread_by(job, self._request.overrides)}
        return [override for override in overrides if override not in idle]

    def check(self) -> None:
        """Raise ``UserError`` for something that was typed and that no job of the request reads."""
        idle = [{one.key: one for one in unread_by(job, self._request.overrides)} for job in self.jobs]
        by_all = set.intersection(*map(set, idle)) if idle else set()
        found = [one for key, one in idle[0].items() if key in by_all] if by_all else []
        typed = [one for one in found if one.text in self._request.overrides]
        if typed:
            raise UserError(told(typed, "none of the runs"))

    def wanted(self) -> list[Job]:
        """Return the jobs that are not finished.

        Raises:
            UserError: a folder that holds a run under another configuration than this request would make, or something
                that was typed and that none of the runs reads.
        """
        self.check()
        found = self.read(self.jobs)
        for job in self.jobs:
            made = self.begun(job)
            other = differences(made, asked(job, self._request.overrides)) if made else []
            if other:
                raise UserError(
                    f"{self.folder(job)} holds a run with {'; '.join(other)}: type the same overrides as then, "
                    "or out=ANOTHER_FOLDER"
                )
        return [job for job in self.jobs if job not in found or not found[job].finished]

    def go(self) -> list[str]:
        """Run what is wanted; returns a line for each that failed. Ctrl-C ends it after the running jobs have stopped.

        Raises:
            UserError: as :meth:`wanted` does, and for data that cannot be read.
        """
        wanted = self.wanted()
        print(f"{len(self.jobs) - len(wanted)} of {len(self.jobs)} runs are finished, {len(wanted)} to go", flush=True)
        first = {job.column: job for job in reversed(wanted) if not self._goes_on(job)}  # a column is a setting of data
        check_data(configuration(job, self._request.overrides) for job in first.values())
        with ThreadPoolExecutor(self._request.jobs) as pool:
            try:
                for _ in pool.map(self._run, wanted):
                    pass
            except KeyboardInterrupt:
                self._stopped.set()  # the running jobs have had their own Ctrl-C
                raise
        return self._failed

    def _run(self, job: Job) -> None:
        if self._stopped.is_set():
            return
        command, folder = self.command(job), self.folder(job)
        fresh = not self._goes_on(job)
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)  # what a run left that did not reach its first checkpoint
            folder.mkdir(parents=True)
        _say(f"{job.path}: {'starts' if fresh else 'goes on'}")
        with (folder / "console.txt").open("a", encoding="utf-8") as console:
            alone = self._request.jobs == 1
            code = call(command, None if alone else console)
        if code in (INTERRUPTED, STOPPED):
            self._stopped.set()
        elif code:
            line = f"{job.path}: failed with exit code {code}, see {folder}{_last_error(folder / 'console.txt')}"
            self._failed.append(line)
            _say(line, sys.stderr)
        else:
            _say(f"{job.path}: {self.told(job)}")

    def told(self, job: Job) -> str:
        """Return the result of a run in a line."""
        run = self.read([job])[job]
        return f"Avg {run.metrics['avg']:.2f}, Last {run.metrics['last']:.2f}"


def _last_error(console: Path) -> str:
    """Return what the last error in the output of a run says; empty if it went to the terminal."""
    lines = console.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((f": {line}" for line in reversed(lines) if line.startswith("error:")), "")


def _say(line: str, to: TextIO | None = None) -> None:
    """Write a whole line at once: several runs may print."""
    stream = to or sys.stdout
    stream.write(line + "\n")
    stream.flush()


def main(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code: 1 if a run failed or was not kept, 2 for a wrong command, 130
    after Ctrl-C.
    """
    if wants_help(arguments):
        print(__doc__, end="")
        return DONE
    let_any_name_be_printed()
    try:
        with as_user_error():
            return _carry_out(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("\nstopped: type the same command to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return DONE
    except Exception as error:
        line = explain(error, arguments)  # an override that Hydra cannot carry out
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return WRONG_INPUT


def _carry_out(request: Request) -> int:
    if request.command == "docs":
        write_page()
        return 0
    if request.table is None:
        for name in table_names():
            print(f"table={name:20} {load_table(name).title} ({len(load_table(name).jobs())} runs)")
        return 0
    table = load_table(request.table)
    runs = Runs(request, table)
    failed: list[str] = []
    if request.command == "run":
        if request.dry_run:
            print("\n".join(shlex.join(runs.command(job)) for job in runs.wanted()))
            return 0
        failed = runs.go()
    if request.command == "keep":
        return keep(runs, force=request.force)
    show(request, table, runs)
    for line in failed:  # again, where it is seen
        _say(line, sys.stderr)
    return PARTLY if failed else DONE


def show(request: Request, table: Table, runs: Runs) -> None:
    """Print the chosen part of the table, and where results are that it does not show."""
    part = table.part(request.rows, request.columns)
    print(as_text(page(part, runs.read(runs.jobs), differ, origin), shutil.get_terminal_size((120, 40)).columns))
    stored = read_stored(RESULTS, runs.jobs)
    if request.command == "show" and stored:
        page_of = PAGE.relative_to(ROOT)
        print(f"These are the runs in {request.out}. {counted(len(stored), 'stored result')}: {page_of}")


def keep(runs: Runs, *, force: bool) -> int:
    """Store the results of runs and write the page; returns 1 if a stored result was better and stayed."""
    stored, left = read_stored(RESULTS, runs.jobs), 0
    for job in runs.jobs:
        content = runs.content(job)
        if content is None:
            continue
        why = worse(parse_stored(content), stored[job], job) if job in stored and not force else None
        if why:
            left += 1
            print(f"not kept {job.path}: {why}; type force=true as well to replace it", file=sys.stderr)
        else:
            print(f"kept {store(RESULTS, job, content).relative_to(ROOT)}")
    write_page()
    return PARTLY if left else DONE


# ---- docs/REPRODUCIBILITY.md -----------------------------------------------------------------------------------------


def write_page() -> None:
    """Replace the generated blocks of docs/REPRODUCIBILITY.md by what docs/results holds."""
    for path, made in ((PAGE, with_blocks), *((path, with_comparison) for path in COMPARED)):
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


def with_blocks(text: str) -> str:
    """Return ``text`` with the part between ``<!-- NAME -->`` and ``<!-- /NAME -->`` replaced for each table, and an
    overview of them.
    """
    standing = []
    for name in table_names():
        table = load_table(name)
        found = read_stored(RESULTS, table.jobs())
        standing.append([table.title, *count_cells(table, found, differ)])
        command = f"```sh\npython scripts/reproduce.py table={name}\n```"
        blocks = [f"## {table.title}", command, *page(table, found, differ, origin)]
        text = _replaced(text, f"table:{name}", blocks)
    return _replaced(text, "overview", [Grid(["cells of", *map(str, Status)], standing)])


def with_comparison(text: str) -> str:
    """Return ``text`` with the part between ``<!-- comparison -->`` and ``<!-- /comparison -->`` replaced."""
    tables = {name: load_table(name) for name in COMPARED_TABLES}
    found = read_stored(RESULTS, [job for table in tables.values() for job in table.jobs()])
    return _replaced(text, "comparison", [comparison(tables, found, differ, origin)])


def _replaced(text: str, name: str, blocks: Sequence[Block]) -> str:
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    assert text.count(first) == text.count(last) == 1, f"there is no place for {name}"
    before, _, rest = text.partition(first)
    return f"{before}{first}\n\n{as_markdown(blocks)}\n{last}{rest.partition(last)[2]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
