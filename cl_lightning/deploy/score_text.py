"""A score as text: tables for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cl_lightning.core.csv_cells import cell
from cl_lightning.core.printable import json_for_terminals, printable
from cl_lightning.core.types import TASK_INFERENCE, Plain
from cl_lightning.deploy.score import TOP, confusions
from cl_lightning.report.table import plain_text

_MOST_ROWS = 60
_LOWEST = 20
"""Number of classes that a table shows of more than ``_MOST_ROWS``: those of the lowest accuracy."""
_CONFUSIONS = 10
_LONGEST_NAME = 40
_SHORT = {"class_incremental": "class-inc.", "task_incremental": "task-inc.", "task_inference": "task-inf."}
_ALL_IN = "all of them are in --out FILE.csv"


def as_json(score: Mapping[str, Plain]) -> str:
    """Return the whole score; bytes of a name that are no text are escaped."""
    text = json.dumps(score, indent=1, ensure_ascii=False, allow_nan=False)
    return json_for_terminals(text.encode("utf-8", "backslashreplace").decode("utf-8")) + "\n"


# ---- CSV -----------------------------------------------------------------------------------------------------------


def as_csv(score: Mapping[str, Plain]) -> str:
    """Return a line for each protocol, read-out, and task or class, and one for all images together; accuracies are in
    [0, 1], cells that do not apply are empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["part", "protocol", "readout", "task", "class", "images", "right", "accuracy", "macro_accuracy", "top5"]
    )
    for protocol, readouts in score["accuracy"].items():
        for readout in readouts:
            writer.writerows(_csv_rows(score, protocol, readout))
    return text.getvalue()


def _csv_rows(score: Mapping[str, Plain], protocol: str, readout: str) -> Iterator[list[Plain]]:
    def of(name: str) -> Plain:
        return score[name][protocol][readout]

    classes, right = score["classes"], of("right_by_class")
    tasks = [each["task"] for each in classes]
    images = [each["images"] for each in classes]
    start = [protocol, readout]
    whole = [sum(images), sum(right), of("accuracy"), of("macro_accuracy"), of("top5")]
    yield ["all", *start, "", "", *map(_blank, whole)]
    for task, value in zip(dict.fromkeys(tasks), of("accuracy_by_task"), strict=True):
        own = [index for index, other in enumerate(tasks) if other == task]
        sums = [sum(images[index] for index in own), sum(right[index] for index in own)]
        yield ["task", *start, task, "", *sums, _blank(value), "", ""]
    for index, value in enumerate(of("accuracy_by_class")):
        name = cell(printable(classes[index]["name"]))
        yield ["class", *start, tasks[index], name, images[index], right[index], _blank(value), "", ""]


def _blank(value: Plain) -> Plain:
    return "" if value is None else value


# ---- tables --------------------------------------------------------------------------------------------------------


def as_table(score: Mapping[str, Plain], width: int) -> str:
    """Return tables of at most ``width`` characters, at least 60: protocols, tasks, classes, confusions. In %."""
    width = max(width, 60)
    parts: list[RenderableType] = [*_summary(score)]
    if len(_main(score, "accuracy_by_task")) > 1:
        parts += _tasks(score, width)
    parts += _classes(score, width)
    parts += _confusions(score, width)
    return plain_text(parts, width)


def _main(score: Mapping[str, Plain], name: str) -> Plain:
    return score[name][score["evaluation"]][score["readout"]]


def _pairs(score: Mapping[str, Plain]) -> list[tuple[str, str]]:
    return [(protocol, readout) for protocol, readouts in score["accuracy"].items() for readout in readouts]


def _star(score: Mapping[str, Plain], protocol: str, readout: str) -> str:
    return " *" if (protocol, readout) == (score["evaluation"], score["readout"]) else ""


def _summary(score: Mapping[str, Plain]) -> Iterator[RenderableType]:
    with_images = sum(each["images"] > 0 for each in score["classes"])
    of = with_images if with_images == len(score["classes"]) else f"{with_images} of {len(score['classes'])}"
    count = score["images"]["evaluated"]
    yield Text(f"Accuracy in %, {count} image{'' if count == 1 else 's'} of {of} classes")
    table = _table("protocol, read-out", right=["accuracy", "macro", f"top-{TOP}"])
    for protocol, readout in _pairs(score):
        numbers = [score[name][protocol][readout] for name in ("accuracy", "macro_accuracy", "top5")]
        name = f"{protocol.replace('_', '-')}, {readout}{_star(score, protocol, readout)}"
        table.add_row(name, *map(_percent, numbers))
    yield table
    yield Text(
        f"Macro: mean over classes{' with images' if with_images < len(score['classes']) else ''}, each weighing the "
        f"same. *: main result. n/a: no more than {TOP} compete."
    )
    if TASK_INFERENCE in score["accuracy"]:
        yield Text("Task-inference: the share of images that were taken for a class of their own task.")
    calibration = score["calibration"][score["readout"]]
    if not calibration["bins"]:
        yield Text(f"Confidence: {calibration['confidence']}.")
        return
    error = calibration["expected_calibration_error"]
    yield Text(
        f"Expected calibration error: {_percent(error)} points, {len(calibration['bins'])} bins of confidence, all "
        f"{len(score['classes'])} classes competing. Confidence: {calibration['confidence']}."
    )


def _tasks(score: Mapping[str, Plain], width: int) -> Iterator[RenderableType]:
    """Yield accuracies on each task, in as many tables as the width asks for."""
    numbers = list(dict.fromkeys(each["task"] for each in score["classes"]))
    images = {task: sum(each["images"] for each in score["classes"] if each["task"] == task) for task in numbers}
    shown = numbers if len(numbers) <= _MOST_ROWS else [*numbers[: _MOST_ROWS // 2], *numbers[-_MOST_ROWS // 2 :]]
    heads = [f"{_SHORT[protocol]}\n{readout}{_star(score, protocol, readout)}" for protocol, readout in _pairs(score)]
    cell_width = max(cell_len(line) for head in heads for line in head.split("\n")) + 2
    at_once = max(1, (width - len("task  images  ")) // cell_width)
    for start in range(0, len(heads), at_once):
        chosen = list(zip(_pairs(score), heads, strict=True))[start : start + at_once]
        yield Text("\nBy task")
        table = _table(right=["task", "images", *(head for _, head in chosen)])
        for task in shown:
            values = [score["accuracy_by_task"][p][name][numbers.index(task)] for (p, name), _ in chosen]
            table.add_row(str(task), str(images[task]), *map(_percent, values))
        yield table
    if len(shown) < len(numbers):
        yield Text(f"The first and last {_MOST_ROWS // 2} of {len(numbers)} tasks; {_ALL_IN}.")


def _classes(score: Mapping[str, Plain], width: int) -> Iterator[RenderableType]:
    right, values = _main(score, "right_by_class"), _main(score, "accuracy_by_class")
    rows = [
        (each["name"], each["task"], each["images"], own, value)
        for each, own, value in zip(score["classes"], right, values, strict=True)
    ]
    told = [row for row in rows if row[2]]
    if len(told) > _MOST_ROWS:
        lowest = sorted(range(len(told)), key=lambda index: (told[index][4], index))[:_LOWEST]
        shown, more = [told[index] for index in lowest], f": the lowest {_LOWEST} of {len(told)}; {_ALL_IN}"
    else:
        shown, more = rows, ""
    yield Text(f"\nBy class, {score['evaluation'].replace('_', '-')}, read-out {score['readout']}{more}")
    table = _table("class", right=["task", "images", "right", "accuracy"])
    for name, task, images, own, value in shown:
        table.add_row(_cut(name, width - 40), str(task), str(images), str(own), _percent(value))
    yield table


def _confusions(score: Mapping[str, Plain], width: int) -> Iterator[RenderableType]:
    found = confusions(score, _CONFUSIONS)
    if not found:
        return
    yield Text(f"\nMost often confused, read-out {score['readout']}, all {len(score['classes'])} classes competing")
    table = _table("images of", "taken for", right=["images", "%"])
    for true, taken, count, share in found:
        room = (width - 24) // 2
        table.add_row(_cut(true, room), _cut(taken, room), str(count), f"{100 * share:.1f}")
    yield table


def _table(*left: str, right: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cut(name: str, room: int) -> Text:
    """Return a name, the end of a long one left out."""
    name, most = printable(name), min(room, _LONGEST_NAME)
    return Text(name if cell_len(name) <= most else set_cell_size(name, most - 3) + "...")


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.2f}"
