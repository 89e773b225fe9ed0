"""The closing text of a run: the accuracy matrix, its metrics, the main result, and what to do next.

How the numbers were measured is one line for the log, and an entry of ``results.json``, whose path stands below the
table. Plain ASCII of a given width: it reads the same in a terminal and in a log file.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
_HEADINGS = {1: "protocol, read-out", 2: "protocol, read-out", 3: "read-out"}
_CELL = len("100.00") + 2
_GAP_CELL = len(_GAP) + 2
_FIXED = len("after") + 2 + len("all seen")
_MAX_ROWS = 25
"""Rows of the matrix at most: a screen should hold the first and last ones and the averages."""
_AVERAGE, _LAST, _ACCURACY, _MACRO, _FORGETTING, _BWT = "Avg", "Last", "Accuracy", "Macro", "Forgetting", "BWT"
_LEGEND = "Avg: mean over tasks of the accuracy on all classes seen. Last: its last value."
_IN_POINTS = {
    (_FORGETTING, _BWT): "Forgetting and BWT (backward transfer) in points; n/a: nothing is old yet.",
    (_FORGETTING,): "Forgetting in points; n/a: nothing is old yet.",
}
_WEIGHING = "with each class weighing the same, however many test images it has."
_BALANCED = {False: f"Macro: the last value {_WEIGHING}", True: f"Macro: the accuracy {_WEIGHING}"}
"""Its meaning in a run of several tasks, and of one."""
_SHORT = {"class_incremental": "class-inc.", "task_incremental": "task-inc.", "task_inference": "task-inf."}
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
    single = len(protocol["tasks"]) == 1
    layout = _layout(results, width)
    parts: list[RenderableType] = [
        *([] if single else _matrix_parts(results, R, run_dir, width)),
        _summary(results, layout),
        *_legend(layout),
        *([Text(_BALANCED[single])] if _MACRO in layout.columns else []),
        *([Text(_TASK_INFERENCE)] if "task_inference" in layout.protocols else []),
        *([Text(_NOT_EVALUATED)] if any(None in row for row in R) else []),
    ]
    return plain_text(parts, width)


def _matrix_parts(
    results: Mapping[str, Plain], R: continual.Matrix, run_dir: str, width: int
) -> Iterator[RenderableType]:
    """Yield the accuracy matrix under its title, and how much of it is shown."""
    protocol = results["protocol"]
    shown = _visible(len(R), (width - _FIXED) // _CELL, (width - _FIXED - _GAP_CELL) // _CELL)
    how = f"{_hyphenated(protocol['evaluation'])}, {protocol['readout']}"
    yield Text(f"Accuracy in % after task (row) on task (column), {how}")
    yield _matrix(results, R, shown)
    if len(shown) < len(R) or len(R) > _MAX_ROWS:
        yield Text(f"{_left_out(len(shown), len(R))}; the full matrix is in {run_dir}/accuracy_matrix.csv")
    yield Text("")


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


@dataclass(frozen=True)
class _Layout:
    """The rows and columns of the summary, as they fit a width."""

    columns: tuple[str, ...]
    protocols: tuple[str, ...]
    names: Mapping[tuple[str, str], str]
    """The name of the row of each protocol and read-out, in one line or two."""
    heading: str
    """Heading of the names."""


def _layout(results: Mapping[str, Plain], width: int) -> _Layout:
    """Return the first layout that fits, the fullest first.

    Names take two lines before a column is left out. The first to go is Macro where it says no more than Last, then
    BWT; names are shortened before Forgetting goes too.
    """
    protocol, single = results["protocol"], len(results["protocol"]["tasks"]) == 1
    # with a single task the protocols are the same
    protocols = (protocol["evaluation"],) if single else tuple(results["accuracy_matrix"])
    rows = [(each, readout) for each in protocols for readout in results["accuracy_matrix"][each]]
    kept = (_MACRO,) if _macro_differs(results, rows) else ()
    macro = (_MACRO,) if results.get("macro_accuracy") else ()
    column_sets: list[tuple[tuple[str, ...], tuple[int, ...]]]
    if single:
        column_sets = [((_ACCURACY, *macro), (1, 2)), ((_ACCURACY, *kept), (2, 3))]
    else:
        column_sets = [
            ((_AVERAGE, _LAST, *macro, _FORGETTING, _BWT), (1, 2)),
            ((_AVERAGE, _LAST, *kept, _FORGETTING, _BWT), (1, 2)),
            ((_AVERAGE, _LAST, *kept, _FORGETTING), (1, 2, 3)),
            ((_AVERAGE, _LAST, *kept), (3,)),
        ]
    main = None if single and len(rows) == 1 else (protocol["evaluation"], protocol["readout"])
    layouts = [
        _Layout(columns, protocols, {row: _row_name(*row, row == main, form) for row in rows}, _HEADINGS[form])
        for columns, forms in column_sets
        for form in forms
    ]
    return next((layout for layout in layouts if _needed(layout) <= width), layouts[-1])


def _row_name(evaluation: str, readout: str, main: bool, form: int) -> str:
    """Return the name of a row: in one line (1), in two (2), or in two with a short protocol (3)."""
    protocol = _SHORT.get(evaluation, _hyphenated(evaluation)) if form == 3 else _hyphenated(evaluation)
    between = " " if form == 1 else "\n"
    return f"{protocol},{between}{readout}{' *' if main else ''}"


def _needed(layout: _Layout) -> int:
    """Return the characters a line that a layout needs."""
    widest = {_BWT: len("-100.00")}
    numbers = sum(2 + max(len(name), widest.get(name, len("100.00"))) for name in layout.columns)
    return numbers + max(len(line) for name in (layout.heading, *layout.names.values()) for line in name.split("\n"))


def _macro_differs(results: Mapping[str, Plain], rows: Sequence[tuple[str, str]]) -> bool:
    """Return whether a row's class-balanced accuracy is another number than its last accuracy, as printed."""
    return any(
        balanced is not None and _percent(balanced) != _percent(_seen(results, *row)[-1])
        for row in rows
        for balanced in macro_after_tasks(results, *row)[-1:]
    )


def _seen(results: Mapping[str, Plain], evaluation: str, readout: str) -> list[float | None]:
    """Return the accuracy on all classes seen, after each task."""
    return [task["accuracy"][evaluation][readout] for task in results["tasks"]]


def _summary(results: Mapping[str, Plain], layout: _Layout) -> Table:
    table = _table()
    table.add_column(layout.heading, overflow="fold")
    for heading in layout.columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, name in layout.names.items():
        seen, R = _seen(results, *row), results["accuracy_matrix"][row[0]][row[1]]
        known = [accuracy for accuracy in seen if accuracy is not None]
        numbers = {
            _AVERAGE: sum(known) / len(known) if len(known) == len(seen) else None,
            _LAST: seen[-1],
            _ACCURACY: seen[-1],
            _MACRO: macro_after_tasks(results, *row)[-1],
            _FORGETTING: continual.forgetting(R),
            _BWT: continual.backward_transfer(R),
        }
        table.add_row(name, *(_percent(numbers[column]) for column in layout.columns))
    return table


def _legend(layout: _Layout) -> Iterator[Text]:
    """Yield what the columns mean that are shown."""
    in_points = tuple(column for column in layout.columns if column in (_FORGETTING, _BWT))
    words = [
        *([_LEGEND] if _AVERAGE in layout.columns else ["Accuracy in % on all classes."]),
        *([_IN_POINTS[in_points]] if in_points else []),
        *(["*: main result."] if any(name.endswith(" *") for name in layout.names.values()) else []),
    ]
    yield Text(" ".join(words))


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.2f}"


def _measured(value: float | None) -> str:
    return "n/a" if value is None else f"{_percent(value)} %"


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")
