"""Messages for Hydra's composition errors: one line that names the value, what is allowed and the override to type."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import re
import sys
import traceback
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from cl_lightning.config.command_line.arguments import wants_many
from cl_lightning.config.command_line.keys import SEVERAL
from cl_lightning.config.command_line.literals import holds_list, unresolved
from cl_lightning.config.schema import SetConfig
from cl_lightning.config.yaml_files import config_dir, options
from cl_lightning.core.paths import cannot_be_written
from cl_lightning.core.printable import printable

CompositionError = HydraException | OmegaConfBaseException


def explain(error: BaseException, arguments: Sequence[str]) -> str:
    """Return one line for a composition error; ``arguments`` are the command line's."""
    return printable(_explained(error, arguments))


def _explained(error: BaseException, arguments: Sequence[str]) -> str:
    text = "\n".join(str(e) for e in _chain(error))
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    explanations = (
        _resolved_too_early(text),
        _unresolved(error),
        _in_data_sets(text),
        _there_already(text),
        _inside_null(text, arguments),
        _missing_option(text),
        _unknown_key(text, arguments),
        _several_values(text),
        _wrong_kind(text, arguments),
        _wrong_value(text),
        _missing_value(text),
    )
    for explanation in explanations:
        if explanation:
            return explanation
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _unreadable(given: str) -> str:
    """Explain ``seed=ü``, ``data.sets=[{name: image_folder, root: DIR/ü}]``: no Hydra grammar. Paths and texts are
    quoted for the user (:mod:`~cl_lightning.config.command_line.literals`), so this is neither.
    """
    key, _, value = given.partition("=")
    if key == "data.sets":
        like = """'data.sets=[{name: image_folder, root: "DIR"}]'"""
    elif value[:1] in ("[", "{"):
        like = f"""'{key}=["a", "b"]'""" if value[0] == "[" else f"""'{key}={{a: "b"}}'"""
    else:
        return f"{given} cannot be read: type key=value, with a number, a word or a list '[...]' of a to z and 0 to 9"
    return (
        f"{given} cannot be read: close each bracket, put texts in double quotes and the whole in single ones: {like}"
    )


def unwritable(error: OSError, arguments: Sequence[str]) -> str | None:
    """Return one line where Hydra cannot make the folder of a run or of a sweep, or write its record; None for an
    error from anywhere else, a job's own too.
    """
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    rooms = [name.partition(".")[0] for name in frames]
    last = [room for room in rooms if room not in sys.stdlib_module_names][-1:]
    if getattr(error, "__notes__", ()) or last[0] not in ("hydra", "hydra_plugins", "omegaconf"):
        return None
    key = "hydra.sweep.dir" if wants_many(arguments) else "hydra.run.dir"
    where = (
        "with room that can be written to" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "that can be written to"
    )
    return cannot_be_written(error, f"the folder for {key}", f"type {key}=DIR, a folder {where}")


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


_PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}
"""Hydra's groups -> options of optional packages."""


def _missing_option(text: str) -> str | None:
    """Explain ``method=dytx``: no such file in the group."""
    match = re.search(r"Could not find '([\w/]+)/([^'/]+)'", text)
    if match is None:
        return None
    group, value = match.groups()
    if value in _PLUGINS.get(group, ()):
        return f'{group}={value} needs packages that are not installed: type pip install "cl-lightning[sweep]"'
    allowed = ["basic", *_PLUGINS[group]] if group in _PLUGINS else options(group) or ["(nothing)"]
    hint = _nearest(value, allowed, f"{group}=")
    return f"{group}={value} does not exist{hint}: type {group}= one of {', '.join(allowed)}"


def merges_into_null(error: BaseException) -> bool:
    """Return whether an ``AssertionError`` or ``AttributeError`` is about a value put into a group that is null."""
    return any(sign in str(error) for sign in ("type for root", "object_type=NoneType"))


def _inside_null(text: str, arguments: Sequence[str]) -> str | None:
    """Explain ``method.finetuning.lr=1``, or ``method.finetuning={lr: 1}``, where the group is null."""
    whole = re.search(r"full_key: ([\w.]+)\n.*\n.*object_type=NoneType", text)
    if whole is not None:
        given = [a for a in arguments if a.startswith(f"{whole[1]}=")] or [f"{whole[1]}={{...}}"]
        return f"{given[-1]} is not possible: {whole[1]} is null here, choose an option that has it"
    if "Unexpected type for root: NoneType" not in text:
        return None
    deep = [a for a in arguments if a.partition("=")[0].count(".") >= 2] or ["the override"]
    parent = deep[-1].partition("=")[0].rpartition(".")[0]
    return f"{deep[-1]} is not possible: {parent} is null here, choose an option that has it"


def _there_already(text: str) -> str | None:
    """Explain ``+seed=1``: the key exists already."""
    match = re.search(r"Could not append to config. An item is already at '([^']*)'", text)
    return None if match is None else f"+{match[1]}= would add what is there: type {match[1]}=VALUE, without +"


def _unknown_key(text: str, arguments: Sequence[str]) -> str | None:
    """Explain ``method.temprature=2``: no such key in the chosen option."""
    match = re.search(r"Could not override '([^']+)'", text)
    if match is None or not re.search(r"not in|Key '", text):
        return None
    key = match.group(1)
    parent, _, name = key.rpartition(".")
    allowed = _keys_of(parent, arguments)
    where = f"{parent} has" if parent else "there is"
    hint = _nearest(name, allowed, f"{parent}." if parent else "")
    automatic = allowed == ["name"]  # what model=auto has
    mend = " (model=auto has no options: choose a model by name, such as model=convit_tiny)"
    return (
        f"{key} is not an option{hint}: {where} {', '.join(allowed)}{mend if parent == 'model' and automatic else ''}"
    )


def _in_data_sets(text: str) -> str | None:
    """Explain ``data.sets=[{nmae: digits}]``, ``data.sets=[digits]``: no valid entry."""
    given = re.search(r"(?:Could not override '|Error merging override )(data\.sets\b.*)", text)
    if given is None:
        return None
    known = [field.name for field in dataclasses.fields(SetConfig)]
    unknown = re.search(r"Key '(\w+)' not in 'SetConfig'", text)
    if unknown:
        return (
            f"data.sets: {unknown[1]} is not an option of an entry{_nearest(unknown[1], known, '')}: it has "
            f"{', '.join(known)}"
        )
    value = re.search(r"Value (.*?) .*?(?:converted to|valid) (\w+).*\n\s*full_key: (\w+)", text)
    if value and value[2] in _EXPECTED:
        return f"data.sets: {value[3]}: {value[1]} is not possible in an entry: type {value[3]}: {_EXPECTED[value[2]]}"
    return f"{given[1]} is no list of entries: type 'data.sets=[{{name: digits}}, {{name: cifar100, classes: 20}}]'"


_EXPECTED = {"Integer": "a whole number", "Float": "a number", "bool": "true or false", "Boolean": "true or false"}
_REASON = r"(Value .*? (?:could not be converted to|is not a valid|of type).*|Invalid .*|.*is not a subclass.*)"


def _unresolved(error: BaseException) -> str | None:
    """Explain ``run_dir=${x}``: nothing to fill in."""
    for each in _chain(error):
        if isinstance(each, InterpolationResolutionError | GrammarParseError):
            return unresolved(each)
    return None


def _resolved_too_early(text: str) -> str | None:
    """Explain ``--cfg job --resolve``: there is no run, and so no folder of one."""
    if "hydra:runtime.output_dir" not in text:
        return None
    return "--resolve asks for a run_dir that only a run has: type run_dir=DIR as well, or leave out --resolve"


def _several_values(text: str) -> str | None:
    """Explain ``seed=0,1`` without ``-m``."""
    match = re.search(r"Ambiguous value for argument '(([^=]+)=(.*))'", text)
    if match is None:
        return None
    given, key, values = match.groups()
    one = f", or '{key}=[{values}]' for one list" if holds_list(key) or key in SEVERAL else ""
    return f"{given} are several values: type -m as well for a run of each{one}"


def _wrong_kind(text: str, arguments: Sequence[str]) -> str | None:
    """Explain ``method.finetuning=none``, ``seed=null``, ``run_dir=[a]``: a value for a group, none for an option, a
    list for a text.
    """
    match = re.search(r"Error merging override ((\S+?)=.*)", text)
    if match is None:
        return None
    given, key = match.groups()
    if "is not a subclass of" in text or "Cannot merge DictConfig with" in text:
        inside = ", ".join(_keys_of(key, arguments))
        return (
            f"{given} is not possible: type {key}.KEY=VALUE{f' with one of {inside}' if inside else ''}, or {key}=null "
            "for none, where that is allowed"
        )
    if "is not Optional" in text:
        return f"{given} is not possible: it needs a value, type {key}=VALUE or leave it out"
    if "to string" in text:
        return f"{given} is not possible: type {key}= one word, or a text in quotes"
    if "is not a ListConfig" in text:
        return f"{given} is not possible: type '{key}=[...]', a list"
    return None


def _wrong_value(text: str) -> str | None:
    """Explain ``seed=abc``: not of the key's type."""
    match, reason = re.search(r"Error merging override (\S+)", text), re.search(_REASON, text)
    if match is None or reason is None:
        return None
    given, why = str(match.group(1)), str(reason.group(1)).strip()
    kind: re.Match[str] | None = re.search(r"(?:converted to|valid) (\w+)", why)
    expected = _EXPECTED.get(kind.group(1)) if kind else None
    if expected is None:
        return f"{given} is not possible: {why}"
    return f"{given} is not possible: type {given.partition('=')[0]}= {expected}"


def _missing_value(text: str) -> str | None:
    """Explain ``data=image_folder`` without ``data.root``."""
    match = re.search(r"Missing mandatory value: ([\w.]+)", text) or re.search(
        r"full_key: ([\w.]+)\n.*MissingMandatory", text
    )
    return None if match is None else f"{match.group(1)} has no value: type {match.group(1)}=VALUE"


def missing_keys(config: DictConfig) -> str | None:
    """Return one line on mandatory values that are missing, else ``None``."""
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
    if not dataclasses.is_dataclass(schema):
        return []
    known = {field.name for field in dataclasses.fields(schema)}
    found = [f"{prefix}{key!s}" for key in node if key not in known]
    for key in known:
        child = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            found += _added(child, f"{prefix}{key}.")
    return found


def _keys_of(parent: str, arguments: Sequence[str]) -> list[str]:
    """Return the keys under ``parent`` with the same choices of groups."""
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    chosen = [a for a in arguments if a.partition("=")[0] in groups and "," not in a]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        try:
            config = compose("config", overrides=chosen)
        except (HydraException, OmegaConfBaseException):
            config = compose("config")
    node = OmegaConf.select(config, parent) if parent else config
    return sorted(str(key) for key in node) if isinstance(node, DictConfig) else []


def _nearest(value: str, allowed: Sequence[str], prefix: str) -> str:
    close = difflib.get_close_matches(value, allowed, n=1, cutoff=0.6)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""
