"""The closing text of a run: the accuracy matrix, its metrics, the main result, and what to do next.

How the numbers were measured is one line for the log, and an entry of ``results.json``, whose path stands below the
table. Plain ASCII of a given width: it reads the same in a terminal and in a log file.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cl_lightning.core.printable import printable
from cl_lightning.core.terminal import folded
from cl_lightning.metrics import continual
from cl_lightning.report.macro import macro_after_tasks

if TYPE_CHECKING:  # it needs torch, a table does not
    from cl_lightning.core.types import Plain

_GAP = "..."
_CELL = len("100.00") + 2
_GAP_CELL = len(_GAP) + 2
_FIXED = len("after") + 2 + len("all seen")
_MAX_ROWS = 25
"""Rows of the matrix at most: a screen should hold the first and last ones and the averages."""
_LEGEND = (
    "Avg: mean over tasks of the accuracy on all classes seen. Last: its last value. Forgetting and BWT (backward "
    "transfer) in points; n/a: nothing is old yet. *: main result."
)
_ROOM_FOR_MACRO = 64
"""Smallest width with a column for it; ``results.json`` has it in any case."""
_MACRO = "Macro: the last value with each class weighing the same, however many test images it has."
_TASK_INFERENCE = "Task-inference: the share of images that were taken for a class of their own task."
_NOT_EVALUATED = (
    "n/a in the matrix: not evaluated, the test images of that task were not at hand; what needs them is n/a too."
)


def render_table(results: Mapping[str, Plain], run_dir: str, width: int = 100) -> str:
    """Return the closing text of a run.

    Args:
        results: of ``build_results`` or ``results.json``.
        run_dir: folder of the run's files, for the reader.
        width: characters a line, at least 40. Columns and rows that do not fit are left out of the middle, with a line.

    Returns:
        Lines of at most ``width`` characters; accuracies in %, differences in percentage points.
    """
    width = max(width, 40)
    protocol = results["protocol"]
    R = results["accuracy_matrix"][protocol["evaluation"]][protocol["readout"]]
    shown = _visible(len(R), (width - _FIXED) // _CELL, (width - _FIXED - _GAP_CELL) // _CELL)
    parts: list[RenderableType] = [
        Text(
            "Accuracy in % after task (row) on task (column), "
            f"{_hyphenated(protocol['evaluation'])}, {protocol['readout']}"
        ),
        _matrix(results, R, shown),
    ]
    if len(shown) < len(R) or len(R) > _MAX_ROWS:
        parts.append(Text(f"{_left_out(len(shown), len(R))}; the full matrix is in {run_dir}/accuracy_matrix.csv"))
    macro = width >= _ROOM_FOR_MACRO and bool(results.get("macro_accuracy"))
    parts += [
        Text(""),
        _summary(results, macro),
        Text(_LEGEND),
        *([Text(_MACRO)] if macro else []),
        *([Text(_TASK_INFERENCE)] if "task_inference" in results["accuracy_matrix"] else []),
        *([Text(_NOT_EVALUATED)] if any(None in row for row in R) else []),
    ]
    return plain_text(parts, width)


def headline(results: Mapping[str, Plain]) -> str:
    """Return the main result in a line."""
    protocol, done, planned = results["protocol"], len(results["tasks"]), len(results["protocol"]["tasks"])
    average, last = (_measured(results[name]) for name in ("average_incremental_accuracy", "last_accuracy"))
    if planned == 1:
        return f"accuracy {last}"
    unfinished = "" if done == planned else f", after task {done} of {planned}"
    return f"average incremental accuracy {average}, last {last} ({_hyphenated(protocol['evaluation'])}{unfinished})"


def closing_lines(results: Mapping[str, Plain], run_dir: str, page: str | None, width: int = 100) -> list[str]:
    """Return the lines below the table: the main result, where it is, and the command that uses what was learnt. Paths
    and commands stay in one line, to be copied.
    """
    typed = shlex.quote(printable(run_dir))
    return [
        folded(f"result   {printable(headline(results))}", width, indent=len("result   ")),
        f"report   {printable(page)}" if page is not None else f"report   python -m cl_lightning.report {typed}",
        f"numbers  {printable(run_dir)}/results.json",
        f"next     python -m cl_lightning.predict {typed} PICTURE.png",
    ]


def protocol_line(results: Mapping[str, Plain]) -> str:
    """Return how the numbers were measured: ``key=value`` of the protocol, but for its mappings."""
    shown = {**results["protocol"], "parameters": f"{results['parameters']:,}"}
    if "commit" in results["provenance"]:
        shown["commit"] = results["provenance"]["commit"]
    return "; ".join(f"{key}={value}" for key, value in shown.items() if not isinstance(value, Mapping))


def plain_console(stream: TextIO, width: int) -> Console:
    """Return a console that writes plain text of a given width: the same in a terminal, a log file and a report."""
    return Console(
        file=stream,
        width=width,
        markup=False,
        highlight=False,
        emoji=False,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
    )


def plain_text(parts: Sequence[RenderableType], width: int) -> str:
    """Return the parts as lines of at most ``width`` characters, ending in a line break."""
    text = io.StringIO()
    console = plain_console(text, width)
    for part in parts:
        console.print(part)
    return "\n".join(printable(line.rstrip()) for line in text.getvalue().split("\n")).rstrip() + "\n"


def _matrix(results: Mapping[str, Plain], R: continual.Matrix, shown: Sequence[int]) -> Table:
    protocol = results["protocol"]
    seen = [task["accuracy"][protocol["evaluation"]][protocol["readout"]] for task in results["tasks"]]
    table = _table()
    headings = _with_gap([str(task + 1) for task in shown], shown, len(R))
    for heading in ["after", *headings, "all seen"]:
        table.add_column(heading, justify="right", no_wrap=True)
    rows = _visible(len(R), _MAX_ROWS, _MAX_ROWS - 1)
    for after in rows:
        cells = [_percent(R[after][task]) if task <= after else "" for task in shown]
        table.add_row(str(after + 1), *_with_gap(cells, shown, len(R)), _percent(seen[after]))
        if len(rows) < len(R) and after == rows[(len(rows) - 1) // 2]:
            table.add_row(*[_GAP] * (len(headings) + 2))
    return table


def _left_out(columns: int, tasks: int) -> str:
    """Return how much of the matrix is shown."""
    if columns < tasks:
        return f"{columns} of {tasks} task columns fit"
    return f"{_MAX_ROWS - 1} of {tasks} rows are shown"


def _visible(total: int, most: int, most_with_gap: int) -> list[int]:
    """Return the indices of the tasks to show, of ``total``: all, the first and last ones around a gap, or none."""
    if total <= most:
        return list(range(total))
    if most_with_gap < 2:
        return []
    return [*range((most_with_gap + 1) // 2), *range(total - most_with_gap // 2, total)]


def _with_gap(cells: Sequence[str], shown: Sequence[int], total: int) -> list[str]:
    if len(shown) in (0, total):
        return list(cells)
    middle = (len(shown) + 1) // 2
    return [*cells[:middle], _GAP, *cells[middle:]]


def _summary(results: Mapping[str, Plain], macro: bool) -> Table:
    protocol = results["protocol"]
    table = _table()
    table.add_column("protocol, read-out", overflow="fold")
    for heading in ("Avg", "Last", *(["Macro"] if macro else []), "Forgetting", "BWT"):
        table.add_column(heading, justify="right", no_wrap=True)
    for evaluation, readouts in results["accuracy_matrix"].items():
        for readout, R in readouts.items():
            seen = [task["accuracy"][evaluation][readout] for task in results["tasks"]]
            main = (evaluation, readout) == (protocol["evaluation"], protocol["readout"])
            name = f"{_hyphenated(evaluation)}, {readout}{' *' if main else ''}"
            average = None if None in seen else sum(seen) / len(seen)
            balanced = [macro_after_tasks(results, evaluation, readout)[-1]] if macro else []
            numbers = (average, seen[-1], *balanced, continual.forgetting(R), continual.backward_transfer(R))
            table.add_row(name, *map(_percent, numbers))
    return table


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.2f}"


def _measured(value: float | None) -> str:
    return "n/a" if value is None else f"{_percent(value)} %"


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")
