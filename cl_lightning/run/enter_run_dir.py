"""The lock of a run's folder: one process at a time enters it, for a new run or to resume one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cl_lightning.config.command_line.record import key_of_folder
from cl_lightning.config.identity import differences, numeric_settings
from cl_lightning.config.saved import load_saved, to_plain
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.path_options import made_absolute
from cl_lightning.core.atomic_write import refuse_link
from cl_lightning.core.errors import UserError
from cl_lightning.core.paths import writing
from cl_lightning.distributed.run_lock import only_writer

_FOLDERS = ("checkpoints", "checkpoints/parts", "exemplars", "report", "wandb", "tensorboard", ".hydra")
"""Folders in which a run writes. A link there would lead out of the folder that was typed, itself maybe a link."""


@contextmanager
def enter_run_dir(
    config: Config, *, resume: bool, began: Callable[[Path], None] | None = None
) -> Iterator[tuple[bool, int]]:
    """Lock the run's folder for the block; ``began`` is called with the folder once it is locked.

    Yields whether a run that is there is resumed (as ``resume`` or ``config.if_exists`` says), and the descriptor of
    the lock.

    Raises:
        UserError: another process writes there, nobody may, or what is there is another run.
    """
    run_dir = Path(config.run_dir).resolve()
    if run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"run_dir={run_dir} is a file: type run_dir=DIR with another name")
    with ExitStack() as stack:
        with writing(run_dir, elsewhere(run_dir, resume=resume)):
            for name in _FOLDERS:
                refuse_link(run_dir / name)
            lock = stack.enter_context(only_writer(run_dir))
            if began is not None:
                began(run_dir)
        yield resume or (config.if_exists == "resume" and _holds(config)), lock


def elsewhere(run_dir: Path, *, resume: bool) -> str:
    """Return what to type where ``run_dir`` cannot be written."""
    if resume:
        return "make it writable, or type resume=COPY with a copy of it that is"
    return f"type {key_of_folder()}=DIR, a folder that can be written to"


def _holds(config: Config) -> bool:
    """Return whether ``run_dir`` holds this very run. Raises ``UserError`` if it holds another."""
    file = Path(config.run_dir) / "config.yaml"
    if not file.is_file():
        return False
    made = numeric_settings(to_plain(made_absolute(load_saved(Path(config.run_dir)), Path.cwd())))
    unlike = differences(made, numeric_settings(to_plain(config)))
    if unlike:
        raise UserError(
            f"run_dir={config.run_dir} holds another run, with {', '.join(unlike[:3])}: type another run_dir"
        )
    return True
