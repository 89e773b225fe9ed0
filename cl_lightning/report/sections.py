"""The figures of the page in its groups, with their titles and captions. A caption says what is seen, with numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cl_lightning.report import figures, training_figures
from cl_lightning.report.data import ReportInput
from cl_lightning.report.drawing import Draw
from cl_lightning.report.numbers import falls, main_curve, main_matrix, seen_classes, task_confusion
from cl_lightning.report.words import counted, duration, hyphenated


@dataclass(frozen=True)
class Section:
    """A figure of the page, with its title and caption."""

    name: str
    title: str
    draw: Draw
    caption: Callable[[ReportInput], str]
    narrow: Draw | None = None
    """The same for a phone, of a figure that is wider than one column."""


_COMPETING = {
    "class_incremental": "all classes seen competing",
    "task_incremental": "its own classes competing",
}
_PROTOCOLS = {
    "class_incremental": "Class-incremental: all classes learnt so far compete, nobody tells the task.",
    "task_incremental": "Task-incremental: an image's task is told, so that only its classes compete.",
    "task_inference": "Task-inference: the share of images that were taken for a class of their own task.",
}


def _accuracy_caption(run: ReportInput) -> str:
    curve, classes = main_curve(run), seen_classes(run)
    now = "" if math.isnan(curve[-1]) else f" After {counted(classes[-1], 'class', 'classes')}: {curve[-1]:.1f} %."
    parts = [f"After each task, the share of right answers to the test images of all classes learnt so far.{now}"]
    parts += [_PROTOCOLS[name] for name in run.results["tasks"][-1]["accuracy"] if name in _PROTOCOLS]
    published = run.data.published
    if published is None and run.data.has_published:
        parts.append("No published curve of this very protocol is known.")
    elif published is not None:
        parts.append(f"Dashed: published, {published.name} ({published.source}).")
    return " ".join(parts)


def competing(run: ReportInput) -> str:
    """Return which classes an image may be taken for in the main protocol."""
    protocol = run.results["protocol"]["evaluation"]
    return _COMPETING.get(protocol, hyphenated(protocol))


def _phases_caption(run: ReportInput) -> str:
    return (
        f"On all classes learnt so far, {competing(run)}, when a phase had ended and the rest of its task "
        "was still to come; by the read-outs that existed by then."
    )


def _matrix_caption(run: ReportInput) -> str:
    protocol = run.results["protocol"]
    return (
        "Row: the task just learnt. Column: the task whose test images were shown. On the diagonal a task is new; down "
        f"a column it grows old. {hyphenated(protocol['evaluation']).capitalize()}, read-out {protocol['readout']}."
    )


def _tasks_caption(run: ReportInput) -> str:
    now = {task: value for task, value in enumerate(main_matrix(run)[-1]) if not math.isnan(value)}
    lowest = min(now, key=lambda task: now[task]) if now else None
    seen = "" if lowest is None else f"Lowest now: task {lowest + 1} with {now[lowest]:.1f} %. "
    return f"{seen}Each line is the accuracy on the test images of one task, {competing(run)}."


def _forgetting_caption(run: ReportInput) -> str:
    lost = falls(run)
    last = max(lost)
    most = max(lost[last], key=lambda fall: fall.points)
    mean = np.mean([fall.points for fall in lost[last]])
    return (
        f"After task {last + 1}, old tasks are {mean:.1f} points below their best on average, task {most.task + 1} "
        f"most: {most.best:.1f} % then, {most.present:.1f} % now. The best accuracy of an old task so far, less its "
        "present one (Chaudhry et al. 2018)."
    )


def _confusion_caption(run: ReportInput) -> str:
    share = task_confusion(run)
    assert share is not None
    apart = np.nan_to_num(share - np.diag(np.diag(share)))
    row, column = np.unravel_index(apart.argmax(), apart.shape)
    newest = apart[:-1, -1].mean()
    return (
        f"After the last task, all classes competing. Most often images of task {row + 1} are taken for classes of "
        f"task {column + 1} ({apart[row, column]:.1f} %); old tasks lose {newest:.1f} % of their images to the newest "
        f"on average.{'' if run.data.reliability is not None else f' {run.data.probabilities}'.rstrip()}"
    )


def _calibration_caption(run: ReportInput) -> str:
    others = "" if run.results["protocol"]["evaluation"] == "class_incremental" else " Here all classes compete."
    return (
        "Answers in ten bins of confidence, the larger the point the more images; below the dashed line the network is "
        "surer than it is right. The error is the mean distance between confidence and accuracy."
        f"{others} {run.data.probabilities}"
    ).strip()


def _losses_caption(run: ReportInput) -> str:
    return f"Each term as it is summed, on one axis over all phases. {_dotted(run)}".strip()


def _rate_caption(run: ReportInput) -> str:
    return f"Over all phases. {_dotted(run)}".strip()


def _dotted(run: ReportInput) -> str:
    return "Dotted lines: a new task." if training_figures.task_starts(run) else ""


def _speed_caption(run: ReportInput) -> str:
    phases = run.results["provenance"]["phases"]
    seconds = sum(phase["seconds"] for phase in phases)
    return (
        f"Above, seconds of each phase; below, images a second. Training alone, without evaluation and herding: "
        f"{duration(seconds)}, {counted(sum(phase['images'] for phase in phases), 'image')}."
    )


def _tokens_caption(run: ReportInput) -> str:
    return (
        "Cosine of the angle between what two tasks brought to the network: their tokens, or banks of keys. 1: the "
        "same direction, 0: nothing in common."
    )


def _attention_caption(run: ReportInput) -> str:
    maps = run.data.attention
    drawn = training_figures.tasks_attended(run)
    few = "" if maps is None or maps.shape[1] <= drawn else f" The first {drawn} of {maps.shape[1]} tasks."
    return f"Share of each patch in what is read for a task, mean over heads; bright is more.{few}"


ACCURACY = Section(
    "accuracy", "Accuracy on all classes seen", figures.accuracy, _accuracy_caption, figures.accuracy_narrow
)
"""The curve of a run, on the page's first screen."""
PHASES = Section("phases", "Accuracy after each phase", figures.phases, _phases_caption)
MATRIX = Section("matrix", "Accuracy matrix", figures.matrix, _matrix_caption)
TASKS = Section("tasks", "Each task over time", figures.tasks_over_time, _tasks_caption)
FORGETTING = Section("forgetting", "Forgetting", figures.forgetting, _forgetting_caption)
CONFUSION = Section("confusion", "Which tasks lose to which", figures.confusion, _confusion_caption)
CALIBRATION = Section("calibration", "Confidence and accuracy", figures.calibration, _calibration_caption)
LOSSES = Section("losses", "Loss", training_figures.losses, _losses_caption)
RATE = Section("rate", "Learning rate", training_figures.learning_rate, _rate_caption)
SPEED = Section("speed", "Time", training_figures.speed, _speed_caption)
TOKENS = Section("tokens", "What tasks brought", training_figures.tokens, _tokens_caption)
ATTENTION = Section(
    "attention", "Where the network looks for each task", training_figures.attention, _attention_caption
)
SECTIONS = (
    ACCURACY, PHASES, MATRIX, TASKS, FORGETTING, CONFUSION, CALIBRATION, LOSSES, RATE, SPEED, TOKENS, ATTENTION
)  # fmt: skip
"""All figures."""
