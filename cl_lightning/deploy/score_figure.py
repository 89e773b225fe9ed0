"""The figure of a score, as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cl_lightning.core.types import Plain
from cl_lightning.report.class_figure import ClassScores, draw
from cl_lightning.report.figure_file import save


def save_figure(score: Mapping[str, Plain], out: Path) -> None:
    """Write accuracies of classes and the confusion matrix of the main read-out, in the format of the suffix."""
    protocol, readout = score["evaluation"], score["readout"]
    of = score["model"]["protocol"]
    overall = score["accuracy"][protocol][readout]
    scores = ClassScores(
        title=f"{of['method']} on {of['data']}: {100 * overall:.1f} % of {score['images']['evaluated']} images",
        accuracy_title=f"{protocol.replace('_', '-')}, {readout} read-out",
        names=[each["name"] for each in score["classes"]],
        tasks=[each["task"] for each in score["classes"]],
        accuracy=score["accuracy_by_class"][protocol][readout],
        macro=score["macro_accuracy"][protocol][readout],
        confusion=np.array(score["confusion"][readout], dtype=np.int64),
    )
    save(draw(scores), out)
