"""The composition of a command line's overrides to the program's dataclasses: composed, filled in, checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError

from cl_lightning.config.check import check
from cl_lightning.config.check_bounds import check_values
from cl_lightning.config.command_line.literals import literal, unresolved
from cl_lightning.config.command_line.overrides import assignments, keys_set
from cl_lightning.config.fill_auto import fill_in
from cl_lightning.config.hydra_errors import added_keys, missing_keys
from cl_lightning.config.hydra_internals import job_set_aside
from cl_lightning.config.registry import register
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.fixed_names import lacking_in_file, typed_names
from cl_lightning.config.schema.open_options import Open
from cl_lightning.config.schema.path_options import PATHS, Kind, made_absolute
from cl_lightning.config.unused.check import Unread, told, unread
from cl_lightning.config.yaml_files import config_dir
from cl_lightning.core.errors import UserError, as_user_error


def typed(
    composed: DictConfig,
    overrides: Sequence[str] = (),
    *,
    alone: bool = True,
    resolved: Collection[Kind] = PATHS,
) -> Config:
    """Return what Hydra composed of ``overrides``, filled in and checked; paths of kinds in ``resolved`` are absolute.

    ``alone``: this is not one of several runs, of which another may read what this one does not.

    Raises:
        UserError: values that are missing, that nobody reads, or that are not possible.
    """
    config, idle = typed_and_unread(composed, overrides, resolved)
    if alone and idle:
        raise UserError(told(idle))
    return config


def typed_and_unread(
    composed: DictConfig, overrides: Sequence[str], resolved: Collection[Kind] = PATHS
) -> tuple[Config, list[Unread]]:
    """Return the configuration as :func:`typed` does, and those of ``overrides`` that it does not read."""
    set_by_user = assignments(overrides)
    try:
        mistake = typed_names(set_by_user, composed) or lacking_in_file(composed) or missing_keys(composed)
        mistake = mistake or added_keys(composed)
        if mistake:
            raise UserError(mistake)
        config: Open[Any] = OmegaConf.to_object(composed)
    except (InterpolationResolutionError, GrammarParseError) as error:
        raise UserError(unresolved(error)) from error
    assert isinstance(config, Config)
    with as_user_error():
        check_values(config)  # before anything is computed from them
        given = made_absolute(config, _typed_in(), resolved)
        filled = fill_in(given, keys_set(overrides))
        check(filled, automatic_model=config.model.name == "auto")
    return filled, unread(set_by_user, filled, given)


def _typed_in() -> Path:
    """Return the folder in which the command was typed, also for a job in another one (``hydra.job.chdir``)."""
    return Path(HydraConfig.get().runtime.cwd) if HydraConfig.initialized() else Path.cwd()


def compose_typed(overrides: Sequence[str]) -> Config:
    """Compose the configuration that ``python -m cl_lightning`` would run with these overrides.

    It is composed outside of a run of Hydra, so ``run_dir`` must be given where it is asked for. Raises as
    :func:`typed` does, and Hydra's own errors for overrides that it cannot carry out.
    """
    config, idle = compose_one_of_many(overrides)
    if idle:
        raise UserError(told(idle))
    return config


def compose_one_of_many(overrides: Sequence[str]) -> tuple[Config, list[Unread]]:
    """Compose the configuration of one of several runs, with the overrides that it does not read: another run may.

    Hydra's state is restored afterwards, so it may be called within a job of Hydra.
    """
    register()
    with job_set_aside(), initialize_config_dir(str(config_dir()), version_base="1.3"):
        quoted = [literal(override) for override in overrides]
        return typed_and_unread(compose("config", overrides=quoted), quoted)
