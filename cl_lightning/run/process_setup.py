"""The settings of a job's process, undone for the next job of a multirun: logs, warnings, threads, environment.

Quiet runs print nothing but warnings and errors, loud ones also what otherwise is only in ``run.log``.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from io import TextIOWrapper
from pathlib import Path

import torch

from cl_lightning.config.schema import Config
from cl_lightning.core.atomic_write import open_to_append
from cl_lightning.core.printable import PrintableFormatter
from cl_lightning.distributed.signals import StoppedError
from cl_lightning.learning.trainer import quieten_lightning
from cl_lightning.models import kernels
from cl_lightning.run.malloc import keep_freed_memory

log = logging.getLogger(__name__)


class Verbosity(IntEnum):
    """The values of ``verbose``."""

    QUIET = 0
    NORMAL = 1
    LOUD = 2


@contextmanager
def job_environment(config: Config, run_dir: Path, *, is_main: bool, on_gpu: bool) -> Iterator[None]:
    """Log into ``run_dir``, which exists, and to the console as verbosity asks, for the block; only the main process
    does both.
    """
    file, console = _log_handlers(run_dir, is_main, Verbosity(config.verbose))
    root, package = logging.getLogger(), logging.getLogger("cl_lightning")
    levels, threads, environment = (root.level, package.level), torch.get_num_threads(), dict(os.environ)
    root.addHandler(file)
    package.addHandler(console)
    root.setLevel(logging.INFO)
    if config.verbose == Verbosity.LOUD:
        package.setLevel(logging.DEBUG)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    if config.trainer.keep_memory and not on_gpu:
        keep_freed_memory()
    kernels.set_enabled(config.trainer.kernels)
    try:
        with warnings.catch_warnings():
            quieten_lightning()
            if on_gpu and config.trainer.precision != "32-true":
                kernels.smoke_test()
            yield
    except StoppedError as stopped:
        log.info("%s", stopped)
        raise
    except Exception:
        package.removeHandler(console)
        log.exception("the run ended with an error")
        raise
    finally:
        root.removeHandler(file)
        package.removeHandler(console)
        file.close()
        root.setLevel(levels[0])
        package.setLevel(levels[1])
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)


def _log_handlers(run_dir: Path, is_main: bool, verbosity: Verbosity) -> tuple[logging.Handler, logging.Handler]:
    file: logging.Handler = (
        _QuietFile(run_dir / "run.log", encoding="utf-8", errors="backslashreplace")
        if is_main
        else logging.NullHandler()
    )
    file.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    console = logging.StreamHandler(sys.stderr)
    level = logging.DEBUG if verbosity is Verbosity.LOUD else logging.WARNING
    console.setLevel(level if is_main else logging.ERROR)
    console.setFormatter(_Lines())
    console.addFilter(lambda record: not getattr(record, "displayed", False))
    return file, console


class _Lines(PrintableFormatter):
    """Formatter of lines such as ``warning: ...`` and ``info: ...``."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name in logging)
        """Return the message, after its level."""
        return f"{record.levelname.lower()}: {record.message}"


class _QuietFile(logging.FileHandler):
    """A log that stays silent on a full disk: what matters fails by itself, and is reported once. No links."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(os.fdopen(open_to_append(Path(self.baseFilename)), "ab"), self.encoding, self.errors)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name in logging)
        """Ignore the error."""

    def close(self) -> None:
        """Close the file, also if the disk had no room for its last lines."""
        with suppress(OSError):
            super().close()
