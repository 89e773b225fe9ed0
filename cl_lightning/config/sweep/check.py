"""Checks that concern many runs at once: settings that Hydra's launchers and sweepers accept silently, or fail on with
a traceback.
"""

from __future__ import annotations

import math
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cl_lightning.config.hydra_internals import Override, parse_overrides

_MOST_RUNS = 100_000
"""Largest number of runs of a grid."""


def is_search(hydra: Any) -> bool:
    """Return whether Optuna chooses the runs of the multirun with this ``hydra`` node."""
    return "optuna" in str(hydra.sweeper._target_)


def is_submitit(hydra: Any) -> bool:
    """Return whether submitit starts them, each in a process whose output goes to files."""
    return "submitit" in str(hydra.launcher._target_)


def is_slurm(hydra: Any) -> bool:
    """Return whether SLURM starts them."""
    return str(hydra.launcher._target_).endswith("SlurmLauncher")


def typed_for(hydra: Any) -> list[str]:
    """Return the overrides of the job or the multirun with this ``hydra`` node, as typed.

    OmegaConf would fill in ``${...}`` within them, which is about the configuration and not about this list.
    """
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def mistake_of_multirun(config: DictConfig) -> str | None:
    """Return one line on what is wrong with a multirun as a whole, before any of its jobs is started, else ``None``.

    Args:
        config: as Hydra composed it, without the overrides that differ from job to job, with the node ``hydra``.
    """
    sweeps = [text for text in typed_for(config.hydra) if text.startswith("sweep=") and _is_swept(text)]
    if sweeps:
        return f"{sweeps[0]} would go through files instead of runs: type sweep=[{sweeps[0].partition('=')[2]}]"
    description = Path(str(config.hydra.sweep.dir)) / "multirun.yaml"
    if description.is_symlink():  # Hydra writes it, through links too
        return f"{description} is a link, and nothing is written through links: delete it, or type hydra.sweep.dir=DIR"
    mistake = _mistake_of_search(config) if is_search(config.hydra) else _mistake_of_grid(config)
    return mistake or (_mistake_of_slurm(config) if is_slurm(config.hydra) else None)


def mistake_of_job(composed: DictConfig) -> str | None:
    """Return one line on what is wrong with this job beside its own configuration ``composed``, else ``None``."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode is RunMode.RUN:
        choices = [f"{group}={hydra.runtime.choices.get(group)}" for group in ("hydra/launcher", "hydra/sweeper")]
        idle = [text for text in typed_for(hydra) if text.startswith("sweep=")] + choices
        idle = [text for text in idle if text.partition("=")[2] not in ("", "null", "None", "basic")]
        if idle:
            return f"{idle[0]} is for several runs: type -m as well"
    elif is_search(hydra):
        return looks_at_test_images(composed)  # it may be what is searched for
    return None


def _mistake_of_search(config: DictConfig) -> str | None:
    sweeper = config.hydra.sweeper
    if sweeper.direction != "maximize" and getattr(sweeper.direction, "name", None) != "maximize":
        return "this would look for the worst accuracy: type sweep=search, or hydra.sweeper.direction=maximize"
    if not (sweeper.params or sweeper.search_space or any(_is_swept(text) for text in typed_for(config.hydra))):
        return "there is nothing to search for: type 'lr_scale=interval(0.5,8)', or method.temperature=1,2,4"
    if str(sweeper.sampler._target_).endswith("GridSampler"):  # dies with a traceback if its last trial fails
        return "hydra/sweeper/sampler=grid is what -m does with values and commas: leave it and sweep=search out"
    if sweeper.storage is not None and int(version("optuna").partition(".")[0]) < 4:
        return f'hydra.sweeper.storage={sweeper.storage} needs a newer Optuna: type pip install "optuna>=4.9,<5"'
    return looks_at_test_images(config)


def _mistake_of_grid(config: DictConfig) -> str | None:
    endless = [text for text in typed_for(config.hydra) if _parsed(text).is_interval_sweep()]
    if not endless:
        return _mistake_of_many(config)
    return f"{endless[0]} can be searched, not gone through: type sweep=search as well, or values with commas"


def _mistake_of_many(config: DictConfig) -> str | None:
    """Return one line on a grid that is too large: it is listed in memory before its first run."""
    params = config.hydra.sweeper.get("params") or {}
    texts = [*typed_for(config.hydra), *(f"{key}={value}" for key, value in params.items())]
    swept = {text: _values(_parsed(text)) for text in texts if _is_swept(text)}
    if math.prod(swept.values()) <= _MOST_RUNS:
        return None
    return f"{' '.join(swept)} would be more than {_MOST_RUNS} runs: type fewer values"


def _values(override: Override) -> float:
    """Return the number of values of an override."""
    sweep: Any = override.value()
    if override.is_range_sweep():
        start, stop, step = (float(end or 0) for end in (sweep.start, sweep.stop, sweep.step))
        steps = (stop - start) / step if step else math.inf
        return max(0.0, steps) if not math.isnan(steps) else math.inf
    return float(len(sweep.list)) if override.is_choice_sweep() else 1.0


def looks_at_test_images(config: DictConfig) -> str | None:
    """Return one line if the runs of a search would be chosen by test images, else ``None``."""
    data, patience = config.data, config.early_stopping.patience
    sets = data.sets or [data]
    if patience is not None and data.validation and data.get("evaluate_on") != "val":
        return (
            f"early_stopping.patience={patience} leaves the evaluation to the test images, which a search must not "
            "look at: type data.evaluate_on=val, which evaluates on the images set aside"
        )
    if data.validation or all(each.name == "image_folder" and each.get("evaluate_on") == "val" for each in sets):
        return None
    own = ", or data.evaluate_on=val where data.root has a folder val" if data.name == "image_folder" else ""
    return f"data.validation={data.validation} lets a search look at the test images: type data.validation=0.1{own}"


def _mistake_of_slurm(config: DictConfig) -> str | None:
    if shutil.which("srun") is None or shutil.which("sbatch") is None:
        return "SLURM's sbatch and srun are not on this machine: type hydra/launcher=joblib to stay on it"
    if config.if_exists != "resume":
        return "SLURM may start a job again, which would find its own run and stop: type if_exists=resume"
    return None


def _is_swept(override: str) -> bool:
    return _parsed(override).is_sweep_override()


def _parsed(override: str) -> Override:
    return parse_overrides([override])[0]
