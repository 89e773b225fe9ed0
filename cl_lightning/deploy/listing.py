"""Predictions as text: a table for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len

from cl_lightning.core.csv_cells import cell, file_cell
from cl_lightning.core.printable import json_for_terminals, printable
from cl_lightning.deploy.predictions import Classifier, Outcome, Prediction, meaning

FORMATS = ("table", "csv", "json")


def listing(outcome: Outcome, classifier: Classifier, form: str) -> str:
    """Return the text of all predictions in one of ``FORMATS``, ending in a line break."""
    if form == "json":
        return _json(outcome, classifier)
    return _csv(outcome.predictions) if form == "csv" else _table(outcome.predictions)


def name_of(file: Path) -> str:
    """Return the path; bytes that are not UTF-8, and control characters, are escaped."""
    return printable(str(file))


def _exact(file: Path) -> str:
    """Return the path as it is; only bytes that are no text are escaped."""
    return str(file).encode("utf-8", "backslashreplace").decode("utf-8")


def _table(predictions: Sequence[Prediction]) -> str:
    """Return the table: columns as wide as needed, further guesses for an image below its first one; scores where there
    are no probabilities.
    """
    ranks_only = any(guess.probability is None for each in predictions for guess in each.guesses)
    rows = [("file", "class", "score" if ranks_only else "probability", "task")]
    for prediction in predictions:
        for rank, guess in enumerate(prediction.guesses):
            name = "" if rank else name_of(prediction.file)
            number = guess.score if guess.probability is None else guess.probability
            rows.append((name, printable(guess.name), f"{number:.4f}", str(guess.task)))
    widths = [max(cell_len(row[column]) for row in rows) for column in range(2)]
    return "".join(
        f"{_padded(file, widths[0])}  {_padded(name, widths[1])}  {probability:>11}  {task:>4}\n"
        for file, name, probability, task in rows
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _csv(predictions: Sequence[Prediction]) -> str:
    """Return a line for each file and rank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "probability", "task", "score"])
    for prediction in predictions:
        for rank, guess in enumerate(prediction.guesses, start=1):
            probability = "" if guess.probability is None else f"{guess.probability:.6g}"
            row = [cell(printable(guess.name)), probability, guess.task, f"{guess.score:.6g}"]
            writer.writerow([file_cell(name_of(prediction.file)), rank, *row])
    return text.getvalue()


def _json(outcome: Outcome, classifier: Classifier) -> str:
    """Return everything, with the meaning of the numbers."""
    model = classifier.model
    plain = {
        "model": {"from": model.source, "stage": model.stage, "protocol": dict(model.protocol), "commit": model.commit},
        "readout": classifier.readout,
        "probability": meaning(model.readouts[classifier.readout]),
        "classes": [model.class_names[label] for label in classifier.labels],
        "images": [
            {
                "file": _exact(prediction.file),
                "guesses": [
                    {"class": g.name, "probability": g.probability, "task": g.task, "score": g.score}
                    for g in prediction.guesses
                ],
            }
            for prediction in outcome.predictions
        ],
        "skipped": [{"file": _exact(each.file), "reason": each.reason} for each in outcome.skipped],
    }
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    return json_for_terminals(text) + "\n"
