"""``python -m cl_lightning``: compose the configuration, check it, hand over. Heavy libraries are imported behind
that.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cl_lightning.config.add_task import load_learn, moved
from cl_lightning.config.command_line.arguments import read, wants_many
from cl_lightning.config.command_line.record import write_typed
from cl_lightning.config.compose import compose_typed, typed
from cl_lightning.config.hydra_errors import explain
from cl_lightning.config.registry import register
from cl_lightning.config.saved import load_saved, old_paths, read_saved
from cl_lightning.config.schema import Config
from cl_lightning.config.sweep.check import mistake_of_job, typed_for
from cl_lightning.config.sweep.multirun import Failed, as_job, is_elsewhere, sweep_group, watch
from cl_lightning.config.sweep.parallel import has_left
from cl_lightning.config.yaml_files import config_dir
from cl_lightning.core.cli import discard_output
from cl_lightning.core.errors import UserError
from cl_lightning.core.exit_codes import INTERRUPTED, STOPPED
from cl_lightning.core.paths import let_any_name_be_printed, typed_path
from cl_lightning.core.printable import printable
from cl_lightning.distributed.rank import rank_from_environment
from cl_lightning.distributed.slurm_requeue import requeued_when_left
from cl_lightning.run.job import (
    ONE_LINE,
    WANTS_TRACEBACK,
    ExitRequestedError,
    attempt,
    failures,
    last_failure,
    report_error,
)


@hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")
def _job(composed: DictConfig) -> float | Failed:
    """One run of one configuration; returns the average incremental accuracy (what a sweeper maximises).

    The user's mistakes are told here and counted, not raised: the other jobs of a multirun go on. The process may be
    another one than the command's.
    """
    if has_left():
        return Failed(STOPPED, "")
    try:
        with as_job(), requeued_when_left(), _no_empty_folder():
            value = attempt(lambda: _typed(composed), began=lambda run_dir: write_typed(run_dir, composed))
    except ExitRequestedError as left:
        if not is_elsewhere(HydraConfig.get()):
            raise
        return Failed(left.code, "it was told to stop")
    return Failed(*last_failure()) if math.isnan(value) else value


@contextmanager
def _no_empty_folder() -> Iterator[None]:
    """Take away the folder that Hydra makes for every job if nothing came into it; of a single run, also those above it
    that were made for it, below the working directory.
    """
    hydra_config = HydraConfig.get()
    folder, here = Path(hydra_config.runtime.output_dir), Path.cwd()
    above = [parent for parent in folder.parents if here in parent.parents]
    try:
        yield
    finally:
        with suppress(OSError):  # something is in it
            for empty in (folder, *(above if hydra_config.mode is RunMode.RUN else ())):
                empty.rmdir()


def _typed(composed: DictConfig) -> Config:
    mistake = _shared_folder() or mistake_of_job(composed)
    if mistake:
        raise UserError(mistake)
    hydra_config = HydraConfig.get()
    config = typed(composed, typed_for(hydra_config), alone=hydra_config.mode is not RunMode.MULTIRUN)
    config.logger.group = config.logger.group or sweep_group(config)
    return config


def saved_configuration(arguments: list[str]) -> Config:
    """The configuration that ``resume=RUN_DIR`` means; Hydra has no part in it, so no folder of its own is made."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise UserError(f"{flags[0]} does not go with resume=, which takes one run: leave it out")
    folders, allowed = _values(arguments, "resume="), _values(arguments, "allow=")
    if len(folders) > 1 or not folders[0]:
        raise UserError("resume= takes one folder: type resume=RUN_DIR")
    overrides = [argument for argument in arguments if not argument.startswith(("resume=", "allow=", "data.new="))]
    run_dir = typed_path(folders[0])
    config = load_saved(run_dir, overrides, allow=allowed)
    _tell(old_paths(read_saved(run_dir, "resume="), overrides))
    elsewhere = _values(arguments, "data.new=")
    return moved(config, elsewhere[-1]) if elsewhere else config


def learnt_configuration(arguments: list[str]) -> Config:
    """The configuration that ``learn=RUN_DIR data.new=FOLDER`` means: a run that goes on with a finished one."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise UserError(f"{flags[0]} does not go with learn=, which takes one run: leave it out")
    if any(argument.startswith("resume=") for argument in arguments):
        raise UserError("resume= does not go with learn=: type resume=NEW alone to go on with what learn= began")
    folders = _values(arguments, "learn=")
    if len(folders) > 1 or not folders[0]:
        raise UserError("learn= takes one folder: type learn=RUN_DIR data.new=FOLDER")
    run_dir, overrides = typed_path(folders[0]), [word for word in arguments if not word.startswith("learn=")]
    config = load_learn(run_dir, overrides)
    _tell(old_paths(read_saved(run_dir, "learn="), overrides))
    return config


def _tell(warnings: list[str]) -> None:
    for line in warnings:
        print(f"warning: {printable(line)}", file=sys.stderr)


def _values(arguments: list[str], prefix: str) -> list[str]:
    return [argument.removeprefix(prefix) for argument in arguments if argument.startswith(prefix)]


def _shared_folder() -> str | None:
    """One line if the jobs of a multirun would write into one folder."""
    hydra_config = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra_config is None or hydra_config.mode is not RunMode.MULTIRUN:
        return None
    shared = [override for override in typed_for(hydra_config) if override.startswith("run_dir=")]
    return f"{shared[0]} would be one folder for all jobs: type hydra.sweep.dir=DIR" if shared else None


def _start(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    if "--version" in arguments:
        print(f"cl_lightning {metadata.version('cl-lightning')}, Hydra {metadata.version('hydra-core')}")
        return
    _check_here()
    rank = rank_from_environment(os.environ)
    if any(argument.startswith("learn=") for argument in arguments):
        attempt(lambda: learnt_configuration(arguments))
    elif any(argument.startswith("resume=") for argument in arguments):
        attempt(lambda: saved_configuration(arguments), resume=True)
    elif any(argument.startswith("data.new=") for argument in arguments):
        raise UserError("data.new= is what a finished run learns: type learn=RUN_DIR data.new=FOLDER")
    elif rank is None or rank.rank == 0:
        if rank is not None and wants_many(arguments):
            raise UserError("-m does not go with processes that were started already: type trainer.devices=N instead")
        _job()
    else:
        # Hydra would make this process a folder of its own; the first one's configuration and folder count anyway.
        attempt(lambda: compose_typed([*arguments, "run_dir=that_of_the_first_process"]))


def _check_here() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the working directory is no longer there: type cd DIR first") from error


def main() -> None:
    """Entry of ``python -m cl_lightning`` and of the console script; exit code 2 for a wrong configuration."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads crawl where another process wants a core
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise instead of printing and exiting by itself
    if not WANTS_TRACEBACK:
        os.environ[ONE_LINE] = "1"
    let_any_name_be_printed()
    register()
    failures.clear()
    watch(failures)
    arguments = sys.argv[1:]
    try:
        arguments = sys.argv[1:] = read(arguments)
        _start(arguments)
    except ExitRequestedError as left:
        sys.exit(left.code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except UserError as error:
        report_error(str(error))
    except BrokenPipeError:  # of what Hydra prints; a run has its own way to end
        discard_output()
    except Exception as error:
        line = None if WANTS_TRACEBACK else explain(error, arguments)
        if line is None:
            raise
        report_error(line)
    if failures:
        sys.exit(max(failures))


if __name__ == "__main__":
    main()
