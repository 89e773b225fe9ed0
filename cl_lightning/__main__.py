"""``python -m cl_lightning``: compose the configuration, check it, hand over. Heavy libraries are imported behind
that.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cl_lightning.config.compose import typed
from cl_lightning.config.errors import explain
from cl_lightning.config.files import config_dir
from cl_lightning.config.saved import load_saved
from cl_lightning.config.schema import Config, register
from cl_lightning.errors import UserError

DIVERGED = 1
WRONG_CONFIGURATION = 2
INTERRUPTED = 130
_WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


_failures: list[int] = []
"""Exit codes of this process's jobs that went wrong."""


@hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")
def _job(composed: DictConfig) -> float:
    """One run of one configuration; returns the average incremental accuracy (what a sweeper maximises).

    The user's mistakes are told here and counted, not raised: the other jobs of a multirun go on.
    """
    return _attempt(lambda: _typed(composed))


def _typed(composed: DictConfig) -> Config:
    mistake = _shared_folder()
    if mistake:
        raise UserError(mistake)
    return typed(composed)


def _attempt(make: Callable[[], Config], *, resume: bool = False) -> float:
    """Run what ``make`` gives."""
    config = None
    try:
        config = make()
        from cl_lightning.run import execute

        return execute(config, resume=resume)
    except (UserError, FloatingPointError) as error:
        if _WANTS_TRACEBACK:
            raise
        _complain(_last_line(error), WRONG_CONFIGURATION if isinstance(error, UserError) else DIVERGED)
        return math.nan
    except KeyboardInterrupt:
        print(f"\nstopped: {_left(config)}", file=sys.stderr)
        raise


def _left(config: Config | None) -> str:
    """What an interrupted run leaves, for its user."""
    if config is None or not list(Path(config.run_dir).glob("checkpoints/task_*.pt")):
        return "no task had been finished"
    return f"the tasks finished so far are in {config.run_dir}; type resume={config.run_dir} to go on"


def _saved(arguments: list[str]) -> Config:
    """The configuration that ``resume=RUN_DIR`` means; Hydra has no part in it, so no folder of its own is made."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise UserError(f"{flags[0]} does not go with resume=, which takes one run: leave it out")
    folders = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if len(folders) > 1 or not folders[0]:
        raise UserError("resume= takes one folder: type resume=RUN_DIR")
    return load_saved(Path(folders[0]), [argument for argument in arguments if not argument.startswith("resume=")])


def _shared_folder() -> str | None:
    """One line if the jobs of a multirun would write into one folder."""
    hydra_config = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra_config is None or hydra_config.mode is not RunMode.MULTIRUN:
        return None
    shared = [override for override in hydra_config.overrides.task if override.startswith("run_dir=")]
    return f"{shared[0]} would be one folder for all jobs: type hydra.sweep.dir=DIR" if shared else None


def _last_line(error: BaseException) -> str:
    """What went wrong, also where a loader's worker wrapped it in its traceback."""
    return str(error).strip().splitlines()[-1].rpartition("UnreadableImageError: ")[2]


def main() -> None:
    """Entry of ``python -m cl_lightning`` and of the console script; exit code 2 for a wrong configuration."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads crawl where another process wants a core
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise instead of printing and exiting by itself
    register()
    _failures.clear()
    arguments = sys.argv[1:]
    try:
        if any(argument.startswith("resume=") for argument in arguments):
            _attempt(lambda: _saved(arguments), resume=True)
        else:
            _job()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (HydraException, OmegaConfBaseException, AssertionError) as error:
        if _WANTS_TRACEBACK or (isinstance(error, AssertionError) and "type for root" not in str(error)):
            raise
        _complain(explain(error, arguments))
    if _failures:
        sys.exit(max(_failures))


def _complain(line: str, code: int = WRONG_CONFIGURATION) -> None:
    _failures.append(code)
    print(f"error: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
