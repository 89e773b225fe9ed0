"""Hydra's composition errors, each as one line that names the value, what is allowed and the override to type.

The cause of an error is read from its type and its attributes, never from its text; rare errors keep Hydra's text.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import re
import sys
import traceback
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf import errors as omegaconf_errors
from omegaconf.errors import OmegaConfBaseException

from cl_lightning.config.command_line.arguments import wants_many
from cl_lightning.config.command_line.keys import SEVERAL
from cl_lightning.config.command_line.literals import holds_list, unresolved
from cl_lightning.config.hydra_internals import Glob, Sweep, as_typed, merges_into_null
from cl_lightning.config.option_names import COMMON_WORDS
from cl_lightning.config.schema import ModelConfig, SetConfig
from cl_lightning.config.schema.open_options import schema_of
from cl_lightning.config.yaml_files import options
from cl_lightning.core.nearest_name import nearest_name
from cl_lightning.core.paths import cannot_be_written
from cl_lightning.core.printable import printable


def explain(error: BaseException, arguments: Sequence[str]) -> str | None:
    """Return one line for an error of Hydra's, None for one of ours; ``arguments`` are the command line's."""
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return _unwritable(error, arguments)
    theirs = isinstance(error, HydraException | OmegaConfBaseException) and not isinstance(error, AttributeError)
    if not theirs and not merges_into_null(error):
        return None
    own = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return printable(_explained(error, arguments) or own)


def _explained(error: BaseException, arguments: Sequence[str]) -> str | None:
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    for each in _chain(error):
        match each:
            case omegaconf_errors.InterpolationResolutionError(full_key="run_dir") if "--resolve" in arguments:
                mend = "type run_dir=DIR as well, or leave out --resolve"
                return f"--resolve asks for a run_dir that only a run has: {mend}"
            case omegaconf_errors.InterpolationResolutionError() | omegaconf_errors.GrammarParseError():
                return unresolved(each)
            case omegaconf_errors.MissingMandatoryValue():
                return f"{each.full_key} has no value: type {each.full_key}=VALUE"
            case omegaconf_errors.ConfigAttributeError() | omegaconf_errors.ConfigKeyError():
                return _unknown_key(each, arguments)
            case omegaconf_errors.ValidationError() | omegaconf_errors.ConfigTypeError():
                return _wrong_value(each, arguments)
            case _ if merges_into_null(each):
                return _inside_null(arguments)
    return _several_values(arguments)


def _unreadable(given: str) -> str:
    """Return a line for ``seed=ü``, ``data.sets=[{name: image_folder, root: DIR/ü}]``, which Hydra's grammar does not
    have. Paths and texts are quoted for the user (:mod:`~cl_lightning.config.command_line.literals`): this is neither.
    """
    key, _, value = given.partition("=")
    examples = {"[": f"""'{key}=["a", "b"]'""", "{": f"""'{key}={{a: "b"}}'"""}
    like = """'data.sets=[{name: image_folder, root: "DIR"}]'""" if key == "data.sets" else examples.get(value[:1])
    if like is None:
        return f"{given} cannot be read: type key=value, with a number, a word or a list '[...]' of a to z and 0 to 9"
    return (
        f"{given} cannot be read: close each bracket, put texts in double quotes and the whole in single ones: {like}"
    )


def _unwritable(error: OSError, arguments: Sequence[str]) -> str | None:
    """Return a line if Hydra cannot make the folder of a run or of a sweep, or write the overrides to it; None for an
    error from anywhere else, a job's own too.
    """
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [name.partition(".")[0] for name in frames]
    last = [package for package in packages if package not in sys.stdlib_module_names][-1:]
    if getattr(error, "__notes__", ()) or last[0] not in ("hydra", "hydra_plugins", "omegaconf"):
        return None
    key = "hydra.sweep.dir" if wants_many(arguments) else "hydra.run.dir"
    room = "with room " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return cannot_be_written(error, f"the folder for {key}", f"type {key}=DIR, a folder {room}that can be written to")


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


_PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}
"""Hydra's groups -> options of optional packages."""


def _missing_option(error: MissingConfigException) -> str | None:
    """Return a line for ``method=dytx``: no such file in the group."""
    group, _, value = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return None
    if value.startswith("schema_"):
        name = value.removeprefix("schema_")
        where = f'SCHEMAS["{group}"] of cl_lightning/config/registry.py'
        return f'{group}={value} does not exist: {where} has no line "{name}", add it, or choose another in the file'
    if value in _PLUGINS.get(group, ()):
        return f'{group}={value} needs packages that are not installed: type pip install "cl-lightning[sweep]"'
    allowed = ["basic", *_PLUGINS[group]] if group in _PLUGINS else options(group) or error.options or ["(nothing)"]
    near = nearest_name(value, allowed)
    hint = f" (did you mean {group}={near}?)" if near else ""
    return f"{group}={value} does not exist{hint}: type {group}= one of {', '.join(allowed)}"


def _several_values(arguments: Sequence[str]) -> str | None:
    """Return a line for ``seed=0,1`` without ``-m``."""
    for argument in () if wants_many(arguments) else arguments:
        key, _, values = argument.partition("=")
        if isinstance(as_typed(values), Sweep | Glob):
            one = f", or '{key}=[{values}]' for one list" if holds_list(key) or key in SEVERAL else ""
            return f"{argument} are several values: type -m as well for a run of each{one}"
    return None


def _inside_null(arguments: Sequence[str]) -> str:
    """Return a line for ``method.finetuning.lr=1``, or ``method.finetuning={lr: 1}``, where that is null."""
    deep = [a for a in arguments if a.partition("=")[0].count(".") >= 2 or "={" in a] or ["the override"]
    key = deep[-1].partition("=")[0]
    parent = key if "={" in deep[-1] else key.rpartition(".")[0]
    if parent == "method.main":
        instead = deep[-1].replace("method.main", "method.backbone", 1)
        return f"{deep[-1]} is not possible: this method trains in the first task alone, type {instead}"
    return f"{deep[-1]} is not possible: {parent} is null here, choose an option that has it"


def _unknown_key(error: OmegaConfBaseException, arguments: Sequence[str]) -> str | None:
    """Return a line for ``method.temprature=2``: no such key in the chosen option."""
    key, has = _key(error), _owner(error)
    if has is None or not dataclasses.is_dataclass(has) or _given(key, error, arguments) is None:
        return None
    allowed = [field.name for field in dataclasses.fields(has)]
    if has is SetConfig:
        hint = _nearest(str(error.key), allowed, "")
        return f"data.sets: {error.key} is not an option of an entry{hint}: it has {', '.join(allowed)}"
    parent = key.rpartition(".")[0]
    hint = _meant(str(error.key), allowed, parent)
    where = f"{parent} has" if parent else "there is"
    mend = " (model=auto has no options: choose a model by name, such as model=convit_tiny)"
    return f"{key} is not an option{hint}: {where} {', '.join(sorted(allowed))}{mend if has is ModelConfig else ''}"


def _wrong_value(error: OmegaConfBaseException, arguments: Sequence[str]) -> str | None:
    """Return a line for ``seed=abc``, ``method.finetuning=none``, ``seed=null``: not of the key's type."""
    key = _key(error)
    given = _given(key, error, arguments)
    if given is None:
        return None
    kinds = _kinds(error)
    if _owner(error) is SetConfig and kinds[0] in _WORDS:
        mend = f"type {error.key}: {_WORDS[kinds[0]]}"
        return f"data.sets: {error.key}: {error.value!r} is not possible in an entry: {mend}"
    if key.startswith("data.sets"):
        return f"{given} is no list of entries: type 'data.sets=[{{name: digits}}, {{name: cifar100, classes: 20}}]'"
    if error.value is None and error.key is not None:
        return f"{given} is not possible: it needs a value, type {key}=VALUE or leave it out"
    return f"{given} is not possible: {_mend(key, kinds) or str(error).splitlines()[0]}"


def _owner(error: OmegaConfBaseException) -> Any:
    """Return the dataclass of the schema in which the key is."""
    return schema_of(error.object_type)


def _key(error: OmegaConfBaseException) -> str:
    """Return the key as it is typed; in an entry of ``data.sets`` typed whole, OmegaConf knows the entry alone."""
    key = re.sub(r"\[(\d+)\]", r".\1", str(error.full_key))
    return f"data.sets.{key}" if _owner(error) is SetConfig and not key.startswith("data.sets") else key


def _given(key: str, error: OmegaConfBaseException, arguments: Sequence[str]) -> str | None:
    """Return the override that sets ``key``, None if a file does; of several runs, the wrong value of one."""
    if wants_many(arguments):
        return f"{key}={'...' if error.key is None else 'null' if error.value is None else error.value}"
    typed = {argument.lstrip("+").partition("=")[0]: argument for argument in arguments}
    whole = [
        name for name, text in typed.items() if key.startswith(f"{name}.") and text.partition("=")[2][:1] in ("{", "[")
    ]
    about = [name for name in typed if f"{name}.".startswith(f"{key}.")]
    return typed.get(max(about or whole, key=len, default=""))


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "one word, or a text in quotes"}


def _kinds(error: OmegaConfBaseException) -> tuple[Any, ...]:
    """Return the types that the key's value may have; for whole groups that do not match, OmegaConf names no key."""
    owner, hint = error.object_type, error.ref_type
    if error.key is not None:
        hint = get_type_hints(owner).get(error.key) if dataclasses.is_dataclass(owner) else None
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _mend(key: str, kinds: Sequence[Any]) -> str | None:
    """Return what to type for a value of ``kinds``, None where OmegaConf's text is better."""
    kind, *others = [kind for kind in kinds if kind is not NoneType]
    if others:
        return None
    if dataclasses.is_dataclass(kind):
        names = ", ".join(sorted(field.name for field in dataclasses.fields(kind)))
        none = f", or {key}=null for none" if NoneType in kinds else ""
        return f"type {key}.KEY=VALUE with one of {names}{none}"
    if get_origin(kind) is list:
        return f"type '{key}=[...]', a list"
    return f"type {key}= {_WORDS[kind]}" if kind in _WORDS else None


def missing_keys(config: DictConfig) -> str | None:
    """Return one line on values that the user must give and did not, else ``None``."""
    missing = sorted(key for key in OmegaConf.missing_keys(config) if key != "run_dir")
    if not missing:
        return None
    missing = [re.sub(r"\[(\d+)\]", r".\1", key) for key in missing]  # as an entry of a list is typed
    return f"{', '.join(missing)} must be given: type {' '.join(f'{key}=...' for key in missing)}"


def added_keys(config: DictConfig) -> str | None:
    """Return one line on keys that were added with ``+key=value``, else ``None``: nothing would read them."""
    unknown = sorted(_added(config, ""))
    return None if not unknown else f"{', '.join(unknown)} is read by nobody: leave out +{unknown[0]}=..."


def _added(node: DictConfig, prefix: str) -> list[str]:
    schema = OmegaConf.get_type(node)
    if schema is None or not dataclasses.is_dataclass(schema):
        return []
    known = {field.name for field in dataclasses.fields(schema)}
    found = [f"{prefix}{key!s}" for key in node if key not in known]
    for key in known:
        filled_in = not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key)
        child = node.get(key) if filled_in else None
        if isinstance(child, DictConfig):
            found += _added(child, f"{prefix}{key}.")
    return found


def _meant(word: str, allowed: Sequence[str], parent: str) -> str:
    """Return a question for an unknown key: a word of other programs, or a slip. A group that has the option that is
    meant, as for ``method.finetuning.optimizer``, means its own.
    """
    common = COMMON_WORDS.get(word)
    if common and common.rpartition(".")[2] not in allowed:
        return f" (did you mean {common}?)"
    prefix = f"{parent}." if parent else ""
    return f" (did you mean {prefix}{common.rpartition('.')[2]}?)" if common else _nearest(word, allowed, prefix)


def _nearest(value: str, allowed: Sequence[str], prefix: str) -> str:
    close = difflib.get_close_matches(value, allowed, n=1, cutoff=0.6)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""
