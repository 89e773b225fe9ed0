"""The command ``python -m cl_lightning.bundle``: a finished run with its exemplars, in one file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cl_lightning.core.cli import carried_out
from cl_lightning.core.exit_codes import DONE
from cl_lightning.core.paths import typed_path
from cl_lightning.core.printable import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute a command line; returns the exit code: 2 for wrong input, 1 where a disk failed. A command that is
    stopped has written nothing.
    """
    typed = _parser().parse_args(arguments)
    return carried_out(lambda: typed.run(typed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cl_lightning.bundle", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="export | import")
    export = commands.add_parser("export", help="write a finished run to a file")
    export.add_argument("run_dir", type=typed_path, metavar="RUN_DIR")
    export.add_argument("file", type=typed_path, metavar="FILE")
    export.set_defaults(run=_export)
    restore = commands.add_parser("import", help="restore a run from such a file")
    restore.add_argument("file", type=typed_path, metavar="FILE")
    restore.add_argument("run_dir", type=typed_path, metavar="RUN_DIR")
    restore.set_defaults(run=_import)
    return parser


def _export(typed: argparse.Namespace) -> int:
    _prepare()
    from cl_lightning.bundle.pack import export_run  # heavy

    images, size = export_run(typed.run_dir, typed.file)
    print(f"{printable(str(typed.file))}: {images} images of its memory, {size / 1e6:.1f} MB")
    return DONE


def _import(typed: argparse.Namespace) -> int:
    _prepare()
    from cl_lightning.bundle.pack import import_run  # heavy

    images, classes = import_run(typed.file, typed.run_dir)
    print(f"{printable(str(typed.run_dir))}: a run of {classes} classes with {images} images in its memory")
    print(f"type python -m cl_lightning learn={printable(str(typed.run_dir))} data.new=FOLDER to teach it more")
    return DONE


def _prepare() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from cl_lightning.config.registry import register

    register()


if __name__ == "__main__":
    sys.exit(main())
