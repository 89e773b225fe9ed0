"""The score of a model on labelled images, as plain values: every number in a table, a file or a figure is from here.

Legend: C competing classes, T their tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from cl_lightning.core.types import CLASS_INCREMENTAL, TASK_INFERENCE, Plain, Readout
from cl_lightning.deploy.evaluation import Evaluation
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.predictions import meaning
from cl_lightning.metrics.accuracy import Counts, accuracies_of_each
from cl_lightning.metrics.class_balance import macro_accuracy
from cl_lightning.metrics.confusion import Answers, reliability

TOP = 5
"""Number of guesses of which one must be right; fewer competitors than one more make it no question."""


def score_of(evaluation: Evaluation, model: TrainedModel, origin: str, unknown: Sequence[str] = ()) -> dict[str, Plain]:
    """Return all numbers of an evaluation: accuracies in [0, 1], None for what does not apply.

    ``accuracy`` and its kin map protocol and read-out to values, the main ones first; those of a class or a task
    without images are None. ``macro_accuracy`` is the mean over the classes with images. ``unknown`` are
    names of folders that were left out.
    """
    who = evaluation.competition
    names = [model.class_names[label] for label in who.labels]
    tasks = [model.task_of(label) for label in who.labels]
    totals = next(iter(evaluation.counts.values())).total.tolist()
    rivals = _rivals(evaluation)

    def each(of: Callable[[str, Counts], Plain]) -> dict[str, dict[str, Plain]]:
        return {
            protocol: {name: of(protocol, evaluation.counts[protocol, name]) for name in who.readouts}
            for protocol in who.protocols
        }

    return {
        "model": {"from": model.source, "stage": model.stage, "protocol": dict(model.protocol), "commit": model.commit},
        "images": {
            "from": origin,
            "evaluated": evaluation.images,
            "unknown_classes": list(unknown),
            "skipped": [{"file": str(each.file), "reason": each.reason} for each in evaluation.skipped],
        },
        "evaluation": who.protocols[0],
        "readout": who.readouts[0],
        "classes": [
            {"name": name, "task": task, "images": total}
            for name, task, total in zip(names, tasks, totals, strict=True)
        ],
        "accuracy": each(lambda _, counts: _share(int(counts.hits1.sum()), int(counts.total.sum()))),
        "macro_accuracy": each(lambda _, counts: macro_accuracy(_with_images(counts))),
        "top5": each(
            lambda protocol, counts: (
                _share(int(counts.hits5.sum()), int(counts.total.sum())) if rivals[protocol] > TOP else None
            )
        ),
        "accuracy_by_task": each(lambda _, counts: accuracies_of_each(counts.by_task(who.offsets).cells())),
        "accuracy_by_class": each(lambda _, counts: accuracies_of_each(counts.cells())),
        "right_by_class": each(lambda _, counts: counts.hits1.tolist()),
        "confusion": {name: answered.confusion.tolist() for name, answered in evaluation.answers.items()},
        "calibration": {
            name: {**_calibration(model.readouts[name], answered), "confidence": meaning(model.readouts[name])}
            for name, answered in evaluation.answers.items()
        },
    }


def _rivals(evaluation: Evaluation) -> dict[str, int]:
    """Return the largest number of competitors of an image in each protocol."""
    who = evaluation.competition
    largest = max(high - low for low, high in pairwise(who.offsets))
    of = {CLASS_INCREMENTAL: len(who.labels), TASK_INFERENCE: len(who.offsets) - 1}
    return {protocol: of.get(protocol, largest) for protocol in who.protocols}


def _with_images(counts: Counts) -> list[tuple[int, int]]:
    pairs = zip(counts.hits1.tolist(), counts.total.tolist(), strict=True)
    return [(right, images) for right, images in pairs if images]


def _share(right: int, images: int) -> float | None:
    return right / images if images else None


def _calibration(readout: Readout, answered: Answers) -> dict[str, Plain]:
    """Return the expected calibration error (Guo et al. 2017, eq. 3) in [0, 1], and its bins: none where scores rank
    only.
    """
    if readout.ranks_only:
        return {"expected_calibration_error": None, "bins": []}
    found = reliability(answered.reliability.sum(dim=0))
    bins = zip(found.images, found.confidence, found.accuracy, strict=True)
    return {
        "expected_calibration_error": found.calibration_error,
        "bins": [{"images": n, "confidence": c, "accuracy": a} for n, c, a in bins],
    }


def confusions(score: Mapping[str, Plain], most: int) -> list[tuple[str, str, int, float]]:
    """Return the most frequent mistakes of the main read-out: class, class that it was taken for, number of images, and
    their share of the class's.
    """
    table, names = score["confusion"][score["readout"]], [each["name"] for each in score["classes"]]
    pairs = [
        (count, true, taken)
        for true, row in enumerate(table)
        for taken, count in enumerate(row)
        if count and true != taken
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [(names[true], names[taken], count, count / sum(table[true])) for count, true, taken in pairs[:most]]


def differs_from_results(score: Mapping[str, Plain], results: Mapping[str, Plain]) -> str | None:
    """Return how accuracies on tasks differ from those that the run itself counted; None if none does.

    Raises:
        KeyError, IndexError, TypeError: results that do not go as far, or are of another form.
    """
    for protocol, readouts in score["accuracy_by_task"].items():
        for name, values in readouts.items():
            recorded = results["accuracy_matrix"][protocol][name][len(values) - 1]
            for task, (now, then) in enumerate(zip(values, recorded, strict=True), start=1):
                if now != then and None not in (now, then):
                    where = f"{protocol.replace('_', '-')}, {name}, task {task}"
                    return f"{where}: {100 * now:.2f} % here, {100 * then:.2f} % there"
    return None
