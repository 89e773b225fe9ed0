"""The configuration of ``learn=RUN_DIR data.new=FOLDER``: that of a finished run, with one more task."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cl_lightning.config.check import check
from cl_lightning.config.command_line.literals import filled_in
from cl_lightning.config.fill_auto import suggested_scales
from cl_lightning.config.identity import differences, numeric_settings
from cl_lightning.config.option_names import COMMON_WORDS
from cl_lightning.config.saved import as_tree, change, load_plain, may_change, read_saved, to_plain
from cl_lightning.config.schedule_scales import all_phases, as_typed, scaled_anew
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.added_task import ExtendsConfig, LearntFolderConfig
from cl_lightning.config.unused.check import refuse_unread
from cl_lightning.core.errors import UserError, as_user_error
from cl_lightning.core.paths import absolute, to_type
from cl_lightning.distributed.run_lock import holds_no_run

_FREE = (
    "balanced_epochs_scale",
    "batch.size",
    "data.augmentation",
    "data.balance",
    "data.cutout",
    "epochs_scale",
    "lr_scale",
    "memory.size",
    "method.drop_weight",
    "method.ffn_rate",
    "method.keep",
    "method.token_rate",
    "seed",
    "trainer.precision",
)
"""Keys that a new task may change, beside those of any run: training and its length, the size of the memory, and all
options of the phases of a later task. The network is fixed.
"""
_READING = ("evaluate_on", "test_share", "test_split", "files", "on_broken", "orientation")
"""Options of reading a folder: the run's own, unless typed."""
_OF_THE_FOLDER = (*(f"data.{name}" for name in _READING), "data.allow_similar")
_OWN = ("data.new", "run_dir", *_OF_THE_FOLDER)


def load_learn(run_dir: Path, overrides: Sequence[str]) -> Config:
    """Load the configuration of the run that learns one more task than the run in ``run_dir``.

    ``overrides`` hold ``data.new=FOLDER`` and may hold ``run_dir=NEW``, options of reading that folder, and
    options that may differ between tasks.

    Raises:
        UserError: no run, no folder, a new folder that is taken, or an override that would make another network of it.
    """
    saved = read_saved(run_dir, "learn=")
    given = {name: _last(overrides, name) for name in _OWN}
    folder = _folder(given["data.new"], f"learn={run_dir}")
    free = [name for name in free_keys() if _has(saved, name)]
    changes = [_change(override, free, saved) for override in overrides if override.partition("=")[0] not in _OWN]
    try:
        before = load_plain(saved)
        config = _rescaled(load_plain(saved, *changes), before, {override.partition("=")[0] for override in overrides})
        entry = _entry(
            folder, before, given, differences(numeric_settings(to_plain(config)), numeric_settings(to_plain(before)))
        )
    except OmegaConfBaseException as error:
        raise UserError(_wrong_value(error, overrides, run_dir)) from error
    name = None if given["run_dir"] is None else filled_in(f"run_dir={given['run_dir']}")
    target = _target(name, run_dir, folder)
    earlier = [] if before.extends is None else before.extends.folders
    extends = ExtendsConfig(run=str(run_dir.resolve()), folders=[*earlier, entry])
    config = dataclasses.replace(config, run_dir=str(target), if_exists="refuse", extends=extends)
    with as_user_error():
        check(config)
    refuse_unread([override for override in overrides if override.partition("=")[0] not in _OWN], config)
    return config


def _rescaled(config: Config, before: Config, typed: Collection[str]) -> Config:
    """Apply the phases and scales typed, as in a new run: a saved scale that equals the data's suggestion
    does not apply to epochs that are typed now.
    """
    suggested = {
        name: scale
        for name, scale in suggested_scales(before).items()
        if name not in typed and getattr(before, name) == scale
    }
    method = as_typed(scaled_anew(config.method, typed), typed, suggested)
    return dataclasses.replace(config, method=method)


def moved(config: Config, folder: str) -> Config:
    """Return the configuration of a resumed run whose folder of new classes has been moved.

    Raises ``UserError`` if it learns none, or there is no such folder.
    """
    extends = config.extends
    if extends is None:
        raise UserError(f"data.new={folder} is not possible: {config.run_dir} was not made by learn=, leave it out")
    path = str(_folder(folder, f"resume={config.run_dir}"))
    folders = [*extends.folders[:-1], dataclasses.replace(extends.folders[-1], folder=path)]
    return dataclasses.replace(config, extends=dataclasses.replace(extends, folders=folders))


def _last(overrides: Sequence[str], name: str) -> str | None:
    found = [override.partition("=")[2] for override in overrides if override.startswith(f"{name}=")]
    return found[-1] if found else None


def _folder(typed: str | None, beside: str) -> Path:
    if not typed:
        raise UserError(f"{beside} needs new classes: type data.new=FOLDER, with one folder of images per class")
    folder = absolute(typed, Path.cwd())
    if not folder.is_dir():
        raise UserError(f"data.new={typed} does not exist: type data.new=FOLDER, with one folder of images per class")
    return folder.resolve()


def _target(typed: str | None, run_dir: Path, folder: Path) -> Path:
    own = run_dir.resolve()
    target = absolute(typed, Path.cwd()) if typed else own.with_name(f"{own.name}_plus_{folder.name}")
    if target.is_dir() and holds_no_run(target):
        return target
    if (target / "config.yaml").is_file():
        word = to_type("resume", target)
        raise UserError(f"run_dir={target} holds a run already: type {word} to go on with it, or another run_dir=NEW")
    if target.exists():
        raise UserError(f"run_dir={target} exists already: type another run_dir=NEW")
    return target


def _entry(folder: Path, before: Config, given: dict[str, str | None], changed: list[str]) -> LearntFolderConfig:
    data = before.data
    shared = {**{name: getattr(data, name) for name in _READING}, "allow_similar": False, "changed": changed}
    where = {"name": folder.name, "folder": str(folder)}
    typed = {name.partition(".")[2]: given[name] for name in _OF_THE_FOLDER if given[name] is not None}
    node = OmegaConf.merge(OmegaConf.structured(LearntFolderConfig), where, shared, typed)
    read = dataclasses.replace(data, **{name: getattr(node, name) for name in _READING})
    with as_user_error():
        check(dataclasses.replace(before, data=read))
    entry = OmegaConf.to_object(node)
    assert isinstance(entry, LearntFolderConfig)
    return entry


def free_keys() -> list[str]:
    """Return what a new task may do otherwise; a name with a point at its end stands for all below it."""
    return sorted([*_FREE, *(f"method.{name}." for name, use in all_phases().items() if use.first_task_if is None)])


def _has(saved: Mapping[str, Any], name: str) -> bool:
    """Return whether the run's own method has the option ``name``; a group that is null has none."""
    group, _, key = name.rstrip(".").partition(".")
    return group != "method" or (key in saved[group] and not (name.endswith(".") and saved[group][key] is None))


def _change(override: str, free: Sequence[str], saved: Mapping[str, Any]) -> DictConfig:
    key = override.partition("=")[0]
    if any(key == name or (name.endswith(".") and key.startswith(name)) for name in free):
        return as_tree(override)
    if may_change(override):
        return change(override)
    names = (*free, *_OF_THE_FOLDER, "run_dir")
    hint = "" if _is_option(key, saved) else _meant(key, names)
    listed = ", ".join(f"{name}KEY=..." if name.endswith(".") else f"{name}=..." for name in names)
    raise UserError(
        f"{override} is not possible beside learn={hint}: network and method are those of the run, "
        f"type {listed}, logger.KEY=..., trainer.KEY=... or start a new run"
    )


def _is_option(key: str, saved: Mapping[str, Any]) -> bool:
    """Return whether the run has the option ``key``: it is no slip then, and nothing else is meant."""
    node: Any = saved
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _meant(key: str, names: Sequence[str]) -> str:
    """Return a question for a word of other programs, or a slip in one of ``names``, else an empty text."""
    common = COMMON_WORDS.get(key, "")
    if any(common == name or (name.endswith(".") and common.startswith(name)) for name in names):
        return f" (did you mean {common}?)"
    near = difflib.get_close_matches(key, [name for name in names if not name.endswith(".")], n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _wrong_value(error: OmegaConfBaseException, overrides: Sequence[str], run_dir: Path) -> str:
    """Return one line for a value of the wrong type, or a key that the run's own choices do not have."""
    reason, at = str(error).splitlines()[0], str(error.full_key or "")
    for override in overrides:
        key = override.partition("=")[0]
        if at and (key == at or key.endswith(f".{at}") or key.startswith(f"{at}.")):
            return f"{override} is not possible beside learn={run_dir}: {reason}"
    return f"learn={run_dir} does not go with this version: {reason}"
