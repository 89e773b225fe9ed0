"""The configuration of an existing run, read from its ``config.yaml``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cl_lightning.config.command_line.literals import escaped_all, filled_in, kind_of_key, kinds, text_of, tree
from cl_lightning.config.compose import typed
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.saved_file import read_configuration
from cl_lightning.config.schema import Config, TimmConfig, ViTMethodConfig
from cl_lightning.config.schema.open_options import opened
from cl_lightning.config.schema.path_options import relative_paths
from cl_lightning.config.unused.check import refuse_unread
from cl_lightning.config.yaml_files import load_option, options, own_option, schema_name
from cl_lightning.core.errors import UserError
from cl_lightning.core.file_type import foreign_kind, read_file
from cl_lightning.core.json_schema import list_of, mapping_of, maybe, plain, record, text
from cl_lightning.core.paths import absolute

_CHANGEABLE = (
    "batch.evaluation",
    "data.max_pixels",
    "data.root",
    "evaluate_phases",
    "logger.",
    "report.",
    "trainer.",
    "verbose",
)
"""Keys that may change when a run is resumed: hardware and folders, never what it computes."""
_ROOT_OF_A_SET = re.compile(r"data\.sets\.\d+\.root=")
"""Pattern of an override of one data set's root in ``data=sequence``."""
_CHOSEN = {"trainer": ("accelerator", "devices", "strategy"), "logger": ("csv", "wandb", "tensorboard")}
"""Keys that ``trainer=gpu`` or ``logger=wandb`` changes here; the rest of the group stays as saved."""
_OUTLINE = record(
    {
        "data": record({"name": text, "sets": list_of(mapping_of(plain))}, more=True),
        "method": record({"name": text}, more=True),
        "model": record({"name": text, "kind": text}, more=True),
        **{
            group: mapping_of(plain)
            for group in ("batch", "early_stopping", "logger", "memory", "recipe", "report", "trainer")
        },
        "extends": maybe(mapping_of(plain)),
    },
    more=True,
)
"""Keys that must exist for the rest to be compared with the types of the options."""
_PRECISION = "trainer.precision"
"""Key that may change with ``allow=precision``: numbers change with it, and results state from which phase on."""


def load_saved(
    run_dir: Path, overrides: Sequence[str] = (), *, allow: Sequence[str] = (), word: str = "resume="
) -> Config:
    """Load the configuration of the run in ``run_dir``, with its files there, and ``overrides`` that change no number.

    Groups may be chosen anew where all of them may change: ``trainer=gpu``, ``logger=wandb``. If the run was to
    stop after a task, that is reset: a resumed run should not stop there again. So is ``verbose``.
    ``allow=("precision",)`` lets ``trainer.precision`` change too. ``word`` was typed before the folder.

    Raises:
        UserError: no run there, an override that nobody reads or that would make another run of it, or a configuration
            of another version.
    """
    saved = read_saved(run_dir, word)
    unknown = [name for name in allow if name != "precision"]
    if unknown:
        raise UserError(f"allow={unknown[0]} is not possible: type allow=precision")
    moved = [override for override in overrides if _ROOT_OF_A_SET.match(override)]
    for override in moved:
        _move_set(saved, override)
    overrides = [override for override in overrides if override not in moved]
    groups_first = sorted(overrides, key=lambda override: "." in override.partition("=")[0])
    changes = [change(override, precision="precision" in allow) for override in groups_first]
    try:
        config = load_plain(saved, *changes)
    except OmegaConfBaseException as error:
        line = " ".join(str(error).split())
        raise UserError(f"{word}{run_dir} does not go with this version or these overrides: {line}") from error
    refuse_unread([*moved, *overrides], config)
    return config


def _move_set(saved: dict[str, Any], override: str) -> None:
    """Set the root of one of several data sets: OmegaConf cannot merge into an entry of a list."""
    key = override.partition("=")[0]
    index, sets = int(key.split(".")[2]), saved["data"]["sets"]
    if index >= len(sets):
        allowed = " or ".join(f"data.sets.{number}.root=DIR" for number in range(len(sets))) or "data.root=DIR"
        raise UserError(f"{override} is none of the {len(sets)} entries of data.sets: type {allowed}")
    sets[index]["root"] = filled_in(override)


def read_saved(run_dir: Path, word: str) -> dict[str, Any]:
    """Return ``config.yaml`` of the run in ``run_dir``, with its files there; ``word`` was typed before the
    folder.

    Raises ``UserError`` if there is no run.
    """
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise UserError(f"{word}{run_dir} is no run, {_missing(run_dir, word)}")
    try:
        saved = read_configuration(file)
        _OUTLINE(saved, "it")
        saved["trainer"]["stop_after_task"] = None
        saved["verbose"] = own_option("verbose")  # not a property of the run
        saved["run_dir"] = str(run_dir)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        why = foreign_kind(file) or " ".join(str(error).split())
        raise UserError(
            f"{word}{run_dir} has a config.yaml that is damaged ({why}): type {word}RUN_DIR, another run"
        ) from error
    return saved


def old_paths(saved: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Return a line on each path that ``config.yaml`` of an earlier version has relative to the working directory, and
    that will be read: folders of images, unless ``overrides`` name others, and weights that no checkpoint has yet.
    """
    given = {override.partition("=")[0] for override in overrides}
    entries = saved["data"].get("sets") or []
    common = any(entry.get("root") is None for entry in entries) if entries else saved["data"]["name"] != "digits"
    begun = any(Path(saved["run_dir"]).glob("checkpoints/task_*.pt"))
    lines = []
    for key, value in relative_paths(saved, kinds()):
        begins = f"{key}={value} is relative in config.yaml of this run: {absolute(value, Path.cwd())} is read"
        if key in ("method.backbone_file", "model.weights_file") and not begun:
            lines.append(begins)
        elif key not in given and (key.startswith("data.sets.") or (key == "data.root" and common)):
            lines.append(f"{begins}, type {key}=DIR if its images are elsewhere")
    return lines


def load_learnt(run_dir: Path) -> Config:
    """Load the configuration of the run in ``run_dir`` for inference: weights come from its checkpoints.

    Raises:
        UserError: no run there, or one whose configuration this version cannot read.
    """
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run_dir} is no run, {_missing(run_dir, '')}")
    try:
        saved = read_configuration(file)
        _OUTLINE(saved, "it")
        saved["run_dir"] = str(run_dir)
        return _without_download(load_plain(saved))
    except (OmegaConfBaseException, yaml.YAMLError, TypeError, ValueError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} cannot be read by this version ({line}): use the version that made the run") from error


def _without_download(config: Config) -> Config:
    """Return the configuration whose network is built without timm's weights, which would only be replaced. Other
    models and methods load them when the first task begins.
    """
    if isinstance(config.model, TimmConfig) and not isinstance(config.method, ViTMethodConfig):
        return dataclasses.replace(config, model=dataclasses.replace(config.model, pretrained=False))
    return config


def _missing(run_dir: Path, word: str) -> str:
    """Return why a folder has no ``config.yaml``, and what to type; ``word`` is typed before a folder."""
    another = f"type {f'{word}RUN_DIR, ' if word else ''}the folder of a run, with config.yaml and checkpoints/"
    if not run_dir.is_dir():
        return f"there is no such folder: {another}"
    below = sorted(path.parent for path in run_dir.glob("*/config.yaml") if not path.parent.name.startswith("."))
    if below:
        return f"but {len(below)} of the folders in it are: type {word}{below[0]}, for example"
    if (run_dir / "run.log").is_file():
        return f"it ended before it had begun to learn: mend what {run_dir / 'run.log'} says and start it again"
    elsewhere = _moved_to(run_dir)
    if elsewhere is not None:
        return f"it has only what was typed, and run_dir={elsewhere} was: type {word}{elsewhere}"
    return f"it has no config.yaml: {another}"


def _moved_to(folder: Path) -> str | None:
    """Return the folder of a run's files where ``folder``, made by Hydra, has only the record of what was typed."""
    try:
        typed = yaml.safe_load(read_file(folder / ".hydra" / "overrides.yaml"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    given = [each for each in typed or [] if str(each).startswith("run_dir=")]
    return text_of(given[-1].removeprefix("run_dir=")) if given else None


def load_plain(values: dict[str, Any], *changes: DictConfig) -> Config:
    """Build a configuration from values of :func:`to_plain`, with changes. Raises ``UserError`` and omegaconf's errors
    for values that do not go with this version.

    A relative folder, which earlier versions saved, is one below the working directory, as then. A relative file stays
    as it is: it holds weights that the run's checkpoint has, and its path is part of what tells runs apart.
    """
    merged = OmegaConf.merge(_schema(values), escaped_all(values), *changes)
    lacking = sorted(OmegaConf.missing_keys(merged))
    if lacking:
        keys = ", ".join(lacking)
        raise UserError(
            f"config.yaml of this run has no {keys}: put back what it said, or use the version that made it"
        )
    return typed(merged, resolved=("folder",))  # type: ignore[arg-type]


def to_plain(config: Config) -> dict[str, Any]:
    """Return a filled-in configuration as dicts, lists, numbers and strings."""
    return dataclasses.asdict(config)


def _schema(saved: dict[str, Any]) -> DictConfig:
    """Return the types that the saved values must have."""
    groups = {group: next(iter(schemas.values())) for group, schemas in SCHEMAS.items()}
    name, kind = saved["method"]["name"], saved["model"]["kind"]
    if name not in options("method"):
        raise UserError(f"method={name} of this run does not exist here: use the version that made it")
    groups["method"] = SCHEMAS["method"][schema_name("method", name)]
    model = next((schema for schema in SCHEMAS["model"].values() if getattr(schema, "kind", None) == kind), None)
    if model is None:
        raise UserError(f"model.kind={kind} of this run does not exist here: use the version that made it")
    groups["model"] = model
    nodes = {group: OmegaConf.structured(opened(schema)) for group, schema in groups.items()}
    merged = OmegaConf.merge(OmegaConf.structured(opened(Config)), nodes)
    assert isinstance(merged, DictConfig)
    merged.method.origin = load_option("method", name).get("origin", "???")  # of a method that the table does not know
    return merged


def may_change(override: str, *, precision: bool = False) -> bool:
    """Return whether an override changes no number (but for the precision, where allowed), so that it may be typed with
    ``resume=``.
    """
    key, equals, value = override.partition("=")
    allowed = any(key == name or (name.endswith(".") and key.startswith(name)) for name in _CHANGEABLE)
    chosen = f"{key}." in _CHANGEABLE and value in options(key)
    return bool(equals) and ((allowed and (precision or key != _PRECISION)) or chosen)


def as_tree(override: str) -> DictConfig:
    """Return one override as a tree: a path or a text as it was typed, anything else as YAML reads it."""
    if kind_of_key(override.partition("=")[0]) is not None:
        return tree(override)
    try:
        return OmegaConf.from_dotlist([override])
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"{override} cannot be read ({line}): type key=value, a number, a word or a list") from error


def change(override: str, *, precision: bool = False) -> DictConfig:
    """Return one override as a tree. Raises UserError for keys that may not change."""
    key, _, value = override.partition("=")
    if may_change(override, precision=precision) and ("." in key or key in _CHANGEABLE):
        return as_tree(override)
    if may_change(override):
        chosen = {name: item for name, item in load_option(key, value).items() if name in _CHOSEN[key]}
        return OmegaConf.create({key: chosen})
    if key == _PRECISION:
        raise UserError(
            f"{override} changes the numbers of the run: type allow=precision as well, and they will say so"
        )
    free = ", ".join(name + ("..." if name.endswith(".") else "=...") for name in _CHANGEABLE)
    raise UserError(
        f"{override} is not possible beside resume=: it would make another run of this one, type {free} "
        f"or start a new run"
    )
