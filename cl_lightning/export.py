"""``python -m cl_lightning.export RUN_DIR --out DIR``: write a trained model for programs without this package."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cl_lightning.core.cli import Parser, carried_out, positive, say
from cl_lightning.core.exit_codes import DONE, PARTLY
from cl_lightning.core.paths import typed_path

FORMAT_NAMES = ("safetensors", "torch_export", "onnx")
_EPILOG = """\
safetensors: model.safetensors, read with model.json by cl_lightning.deploy.exported.load_exported(DIR).
torch_export: model.pt2, read by torch.export.load. onnx: model.onnx; needs pip install "cl-lightning[onnx]".
Each file is compared with the run's own model before it is put there.
Exit codes: 0 done; 1 a file differed and was removed, or a format asked for cannot be made here; 2 wrong input."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = _parser().parse_args(arguments)
    return carried_out(lambda: _export(given))


def _parser() -> Parser:
    parser = Parser("export", "Write down what a run has learnt, for other programs.", _EPILOG)
    parser.add_argument("run_dir", metavar="RUN_DIR", type=typed_path, help="folder of a run")
    parser.add_argument("--out", type=typed_path, metavar="DIR", required=True, help="folder for the files")
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=FORMAT_NAMES,
        metavar="FORMAT",
        help=f"of {', '.join(FORMAT_NAMES)} (default: all that can be made here)",
    )
    parser.add_argument(
        "--readout", help="of model.pt2 and model.onnx: linear, or nme of iCaRL (default: the method's own)"
    )
    parser.add_argument(
        "--checkpoint", type=typed_path, metavar="FILE", help="of the run (default: its newest finished task)"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="IMAGES",
        help="compare on these: files, folders, quoted patterns (default: evaluation images of the run if they are at "
        "hand, else random ones)",
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="of a picture: larger ones are not read (default: data.max_pixels of the run)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in DIR")
    return parser


def _export(given: argparse.Namespace) -> int:
    from cl_lightning.config.saved import load_learnt
    from cl_lightning.deploy.export_model import export, prepare  # heavy, as those below
    from cl_lightning.deploy.formats import FORMATS
    from cl_lightning.deploy.run_model import model_of
    from cl_lightning.deploy.verification import sample

    config = load_learnt(given.run_dir)
    model = model_of(config, given.run_dir, given.checkpoint).reading_at_most(given.max_pixels)
    readout = model.exportable(given.readout)
    images = sample(model, config.data, given.images)
    wanted = list(dict.fromkeys(given.formats or FORMAT_NAMES))
    possible = [name for name in wanted if not FORMATS[name].missing()]
    for name in wanted:
        if name not in possible:
            lacking = ", ".join(FORMATS[name].missing())
            say(f'{name} is left out, it needs {lacking}: type pip install "cl-lightning[onnx]"')
    if not possible:
        return PARTLY
    prepare(given.out, given.overwrite)
    say(f"{model.source}: {model.protocol['method']} on {model.protocol['data']}, {model.stage}; read-out {readout}")
    say(f"compared on {images.origin}, in batches of 1, 7 and all")
    agrees = export(model, readout, given.out, possible, images, say)
    return DONE if agrees and (given.formats is None or possible == wanted) else PARTLY


if __name__ == "__main__":
    sys.exit(main())
