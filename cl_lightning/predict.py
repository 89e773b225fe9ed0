"""``python -m cl_lightning.predict RUN_DIR IMAGES...``: predict the classes of pictures with a trained run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cl_lightning.core.cli import Parser, carried_out, make_room, positive, say
from cl_lightning.core.exit_codes import DONE, PARTLY, WRONG_INPUT
from cl_lightning.core.paths import typed_path
from cl_lightning.core.printable import printable

if TYPE_CHECKING:
    from cl_lightning.deploy.predictions import Classifier

_EPILOG = """\
task: the one that brought the predicted class, counted from 1. Nothing else is inferred of it.
Exit codes: 0 all images; 1 some could not be read, and were named; 2 wrong input, or no image could be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = _parser().parse_intermixed_args(arguments)
    return carried_out(lambda: _predict(given))


def _parser() -> Parser:
    parser = Parser("predict", "Classify pictures with what a run has learnt.", _EPILOG)
    parser.add_argument("model", metavar="RUN_DIR", type=typed_path, help="folder of a run, or of an export")
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders, quoted patterns ('DIR/**/*.png')")
    parser.add_argument("--top", type=positive, default=1, metavar="K", help="guesses an image (default 1)")
    parser.add_argument("--task", type=int, metavar="N", help="only the classes of task N compete, counted from 1")
    parser.add_argument(
        "--readout",
        help="how classes are read: linear, nme of iCaRL, entropy or class_mean of MEAT (default: the method's own)",
    )
    parser.add_argument(
        "--checkpoint", type=typed_path, metavar="FILE", help="of the run (default: its newest finished task)"
    )
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), help="default: by the suffix of --out, else table"
    )
    parser.add_argument("--out", type=typed_path, metavar="FILE", help="write there instead of to stdout")
    parser.add_argument("--batch", type=positive, default=64, metavar="B", help="images at a time (default 64)")
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="of a picture: larger ones are not read (default: data.max_pixels of the run)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto: a GPU if any")
    return parser


def _predict(given: argparse.Namespace) -> int:
    from cl_lightning.data.sources.skipped_files import Aside, in_words  # heavy, as those below
    from cl_lightning.deploy.command import open_model, watch
    from cl_lightning.deploy.image_files import image_files
    from cl_lightning.deploy.listing import listing
    from cl_lightning.deploy.predictions import Classifier, classify

    if given.out is not None:
        make_room(given.out)
    form = given.format or {".csv": "csv", ".json": "json"}.get(given.out.suffix if given.out else "", "table")
    model, aside = open_model(given.model, given.checkpoint, given.device, given.max_pixels), Aside()
    files = image_files(given.images, model.preprocessing.files, aside)
    classifier = Classifier(model, model.readout(given.readout), model.classes_of(given.task), given.top)
    _explain(classifier, given.task)
    if aside.kinds():
        say(f"left out: {in_words(aside.kinds())}")
    outcome = classify(classifier, files, given.batch, watch(len(files)))
    if not outcome.predictions:
        say(f"error: none of {len(files)} files could be read as an image")
        return WRONG_INPUT
    _write(listing(outcome, classifier, form), given.out)
    count, skipped = len(outcome.predictions), len(outcome.skipped)
    images = (
        f"{count} image{'' if count == 1 else 's'} in {outcome.seconds:.2f} s ({count / outcome.seconds:.0f} images/s)"
    )
    say(images + (f", {skipped} skipped" if skipped else ""))
    return PARTLY if skipped else DONE


def _explain(classifier: Classifier, task: int | None) -> None:
    from cl_lightning.core.types import TASK_INCREMENTAL
    from cl_lightning.deploy.predictions import meaning

    model = classifier.model
    method, data = model.protocol["method"], model.protocol["data"]
    say(f"{model.source}: {method} on {data}, {model.stage}; read-out {classifier.readout}")
    say(f"probability: {meaning(model.readouts[classifier.readout])}")
    if task is None:
        say("task: the one that brought the predicted class, counted from 1")
        if model.protocol["evaluation"] == TASK_INCREMENTAL:
            tasks = f"--task 1{f' to {len(model.task_sizes)}' if len(model.task_sizes) > 1 else ''}"
            say(f"{method} learns each task for itself, to be told which it is ({tasks}): here all classes compete")
    else:
        names = ", ".join(printable(model.class_names[label]) for label in classifier.labels)
        say(f"task {task} was given: only {names} compete")


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    from cl_lightning.core.atomic_write import write_atomic

    write_atomic(out, text)


if __name__ == "__main__":
    sys.exit(main())
