"""The search by Optuna: resumed without repeating trials or mixing configurations, quiet, with one final result."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from cl_lightning.config.hydra_internals import parse_overrides
from cl_lightning.config.identity import differences, numeric_settings
from cl_lightning.config.sweep.check import typed_for
from cl_lightning.core.errors import UserError
from cl_lightning.core.printable import printable

_CONFIGURATION = "configuration"
"""Attribute of a stored search: the settings common to its trials, as JSON."""


class Search(Sweeper):
    """Hydra's Optuna sweeper, with what it lacks.

    - Trials that a storage holds already count: the same seed would begin with the same trials again.
    - Trials of another configuration do not: resuming such a search is an error.
    - Failed trials are recorded as failed, and the search continues; all failed is an error.
    """

    def __init__(self, config: DictConfig, make: Callable[[], Sweeper], values: Mapping[int, float]) -> None:
        """Wrap the sweeper that ``make`` returns for ``config``; ``values`` are those of finished jobs, by number."""
        self._config = config
        self._values = values
        with _quiet():
            earlier = 0
            if config.hydra.sweeper.storage is not None:
                with _told(f"hydra.sweeper.storage={config.hydra.sweeper.storage} is not possible"):
                    earlier = _earlier_trials(config)
            _set_seed(config, int(config.seed) + earlier)
            self._sweeper = make()

    def setup(self, **given: Any) -> None:
        """Do nothing: the wrapped sweeper has been set up."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials; then report the best one."""
        with _quiet(), _told("the search cannot go on"):
            result = self._sweeper.sweep(arguments)
        self._say_best()
        return result

    def _say_best(self) -> None:
        folder = str(self._config.hydra.sweep.dir)
        best = OmegaConf.load(Path(folder) / "optimization_results.yaml")
        found = " ".join(f"{name}={printable(str(value))}" for name, value in best.best_params.items())
        here = [number for number, value in self._values.items() if value == best.best_value]
        stops = OmegaConf.select(self._config, "early_stopping.patience") is not None
        without = "-m, sweep=search and data.evaluate_on=val" if stops else "-m and sweep=search"
        where = f"{folder}/{here[0]}" if here else "an earlier part of the search"
        sys.stdout.write(
            f"best: {100 * best.best_value:.2f} % average incremental accuracy on validation images, with {found} "
            f"({where})\nfor its accuracy on the test images, type this instead of what was searched for, without "
            f"{without}\n"
        )


def _earlier_trials(config: DictConfig) -> int:
    """Count the trials in the storage, made if there is none. Raises ``UserError`` if they are of other runs."""
    import optuna

    sweeper = config.hydra.sweeper
    if sweeper.study_name is None:
        raise UserError(f"hydra.sweeper.storage={sweeper.storage} needs a name: type hydra.sweeper.study_name=NAME")
    study = optuna.create_study(
        study_name=sweeper.study_name, storage=sweeper.storage, direction="maximize", load_if_exists=True
    )
    wanted = _in_common(config)
    made = study.user_attrs.get(_CONFIGURATION)
    if made is None:
        study.set_user_attr(_CONFIGURATION, json.dumps(wanted))
    unlike = differences(json.loads(made), wanted) if made else []
    if unlike:
        raise UserError(
            f"hydra.sweeper.study_name={sweeper.study_name} in {sweeper.storage} is a search with "
            f"{', '.join(unlike[:3])}: type another hydra.sweeper.study_name"
        )
    return len(study.trials)


def _in_common(config: DictConfig) -> dict[str, Any]:
    """Return the settings common to all trials that values depend on: neither those searched for, nor Hydra's part."""
    parsed = parse_overrides(typed_for(config.hydra))
    searched = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    searched |= set(config.hydra.sweeper.params or {})
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    assert isinstance(plain, dict)
    flat = numeric_settings({str(key): value for key, value in plain.items()})
    return {key: value for key, value in flat.items() if not _is_part(key, searched)}


def _is_part(key: str, searched: set[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in searched)


def _set_seed(config: DictConfig, seed: int) -> None:
    """Give the sampler a seed, if it takes one and has none."""
    sampler = config.hydra.sweeper.sampler
    if "seed" in sampler and sampler.seed is None:
        with read_write(config), open_dict(config):
            sampler.seed = seed


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's messages, and its warnings on the sweeper's use of it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("hydra_plugins").setLevel(logging.CRITICAL)  # a failed trial has reported what went wrong
    with warnings.catch_warnings():
        for module in ("optuna", "hydra_plugins"):
            warnings.filterwarnings("ignore", module=module)
        yield


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise ``UserError`` for what Optuna and its storage refuse; a job's own error, which has a note, passes."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "__notes__"):
            raise
        if isinstance(error, ValueError) and "No trials are completed" in str(error):
            raise UserError("no trial of the search went well: see what each said") from error
        library = type(error).__module__.partition(".")[0]
        if isinstance(error, ValueError) or library in ("optuna", "sqlalchemy"):
            raise UserError(f"{what}: {' '.join(str(error).splitlines()[:1])}") from error
        raise
