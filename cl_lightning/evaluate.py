"""``python -m cl_lightning.evaluate RUN_DIR [FOLDER]``: score a trained run on its test images, or on a folder."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cl_lightning.core.cli import Parser, carried_out, make_room, positive, say
from cl_lightning.core.errors import UserError
from cl_lightning.core.exit_codes import DONE, PARTLY, WRONG_INPUT
from cl_lightning.core.paths import typed_path
from cl_lightning.report.figure_file import SUFFIXES

if TYPE_CHECKING:
    from cl_lightning.core.types import Plain
    from cl_lightning.deploy.evaluation import Competition, LabelledImages
    from cl_lightning.deploy.model import TrainedModel

_TEXTS = {".csv": "csv", ".json": "json", ".txt": "table"}
_BATCH = 64
_EPILOG = """\
FOLDER/<class>/<files>, or these in FOLDER/test or FOLDER/val; folders are matched with the model's classes by name.
Without FOLDER: the images that the run itself was evaluated on, if they are at hand; nothing is downloaded.
Exit codes: 0 all images; 1 some could not be read, and were named; 2 wrong input, or no image could be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = _parser().parse_intermixed_args(arguments)
    return carried_out(lambda: _evaluate(given))


def _parser() -> Parser:
    parser = Parser("evaluate", "Score what a run has learnt on labelled pictures.", _EPILOG)
    parser.add_argument("model", metavar="RUN_DIR", type=typed_path, help="folder of a run, or of an export")
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=typed_path,
        nargs="?",
        help="pictures, in one folder a class (default: the run's)",
    )
    parser.add_argument("--task", type=int, metavar="N", help="only task N: its images, its classes competing, from 1")
    parser.add_argument(
        "--readout",
        help="how classes are read: linear, nme of iCaRL, entropy or class_mean of MEAT (default: all of the model's)",
    )
    parser.add_argument(
        "--checkpoint", type=typed_path, metavar="FILE", help="of the run (default: its newest finished task)"
    )
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="of stdout (default table)")
    parser.add_argument(
        "--out",
        type=typed_path,
        metavar="FILE",
        action="append",
        default=[],
        help="write a file too, by its suffix: .csv .json .txt, or a figure as .svg .png .pdf; may be repeated",
    )
    parser.add_argument(
        "--batch", type=positive, metavar="B", help=f"images at a time (default: as in the run; {_BATCH} for an export)"
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="of a picture: larger ones are not read (default: data.max_pixels of the run)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto: a GPU if any")
    return parser


def _evaluate(given: argparse.Namespace) -> int:
    for out in given.out:
        _check_suffix(out)
        make_room(out)

    from cl_lightning.deploy.command import open_model, watch  # heavy, as those below
    from cl_lightning.deploy.evaluation import competition, evaluate
    from cl_lightning.deploy.exported import is_export
    from cl_lightning.deploy.score import score_of

    if given.folder is None and is_export(given.model):
        raise UserError(f"{given.model} is an export, which has no test images: type a folder of pictures behind it")
    model = open_model(given.model, given.checkpoint, given.device, given.max_pixels)
    who = competition(model, given.readout, given.task)
    say(f"{model.source}: {model.protocol['method']} on {model.protocol['data']}, {model.stage}")
    images, unknown, batch = _images(given, model, who)
    say(f"{len(images.labels)} image{'' if len(images.labels) == 1 else 's'}: {images.origin}")
    evaluation = evaluate(model, images, who, given.batch or batch, watch(len(images.labels)))
    if not evaluation.images:
        say(f"error: none of {len(images.labels)} files could be read as an image")
        return WRONG_INPUT
    score = score_of(evaluation, model, images.origin, unknown)
    if given.folder is None and given.task is None:
        _compare(given.model, score)
    _deliver(score, given)
    count, seconds, skipped = evaluation.images, evaluation.seconds, len(evaluation.skipped)
    rate = f"{count} image{'' if count == 1 else 's'} in {seconds:.2f} s ({count / seconds:.0f} images/s)"
    say(rate + (f", {skipped} skipped" if skipped else ""))
    return PARTLY if skipped else DONE


def _check_suffix(out: Path) -> None:
    allowed = (*_TEXTS, *SUFFIXES)
    if out.suffix.lower() not in allowed:
        raise UserError(
            f"--out {out} has none of the suffixes {' '.join(allowed)}: type --out {out.stem or 'score'}.csv"
        )


def _images(
    given: argparse.Namespace, model: TrainedModel, who: Competition
) -> tuple[LabelledImages, Sequence[str], int]:
    """Return the images, the names of folders that are no classes, and the number of images at a time."""
    from cl_lightning.config.saved import load_learnt
    from cl_lightning.data.sources.skipped_files import Aside, in_words
    from cl_lightning.deploy.exported import is_export
    from cl_lightning.deploy.labelled_folder import labelled_folder
    from cl_lightning.deploy.own_images import own_images

    config = None if is_export(given.model) and given.checkpoint is None else load_learnt(given.model)
    batch = _BATCH if config is None else config.batch.evaluation
    if given.folder is None:
        assert config is not None, "an export has been refused"
        images = own_images(config, model)
        images = images if given.task is None else images.of_labels(who.labels)
        if not len(images.labels):
            raise UserError(
                f"no test image of task {given.task} is at hand: type a folder of pictures behind the run's"
            )
        return images, (), batch
    aside = Aside()
    found = labelled_folder(given.folder, model, who.labels, aside)
    for line in found.lines(model, who.labels):
        say(line)
    if aside.kinds():
        say(f"left out: {in_words(aside.kinds())}")
    return found.images, found.unknown, batch


def _compare(run_dir: Path, score: Mapping[str, Plain]) -> None:
    """Tell whether the run itself has counted the same."""
    import json

    from cl_lightning.core.file_type import read_file
    from cl_lightning.deploy.score import differs_from_results

    try:
        difference = differs_from_results(score, json.loads(read_file(run_dir / "results.json")))
    except (OSError, ValueError, KeyError, IndexError, TypeError):  # an unfinished task, or no results at all
        return
    why = "other images, another processor, or another size of batches"
    say("the same as in results.json" if difference is None else f"not as in results.json ({difference}): {why}")


def _deliver(score: Mapping[str, Plain], given: argparse.Namespace) -> None:
    """Print the score, and write the files."""
    from cl_lightning.core.atomic_write import write_atomic
    from cl_lightning.deploy.score_text import as_csv, as_json, as_table

    forms: dict[str, Callable[[int], str]] = {
        "table": lambda width: as_table(score, width),
        "csv": lambda _: as_csv(score),
        "json": lambda _: as_json(score),
    }
    for out in given.out:
        suffix = out.suffix.lower()
        if suffix in SUFFIXES:
            from cl_lightning.deploy.score_figure import save_figure

            save_figure(score, out)
        else:
            write_atomic(out, forms[_TEXTS[suffix]](100))
    sys.stdout.write(forms[given.format](shutil.get_terminal_size((100, 40)).columns))
    sys.stdout.flush()
    for out in given.out:
        say(f"wrote {out}")


if __name__ == "__main__":
    sys.exit(main())
