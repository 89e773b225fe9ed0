"""The results of runs below folders: found and read; what cannot be read is named and left out."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cl_lightning.config.identity import numeric_settings
from cl_lightning.config.saved_file import read_configuration
from cl_lightning.core.errors import UserError
from cl_lightning.core.file_type import read_file
from cl_lightning.core.missing_keys import complete_configuration, complete_results

RESULTS = "results.json"
_WITHOUT_RUNS = ("checkpoints", "wandb", "tensorboard", "__pycache__")


@dataclass(frozen=True)
class FoundRun:
    """The files of a run, read."""

    name: str
    """Path of the run's folder, or of the file that was named, as typed."""
    results: Mapping[str, Any]
    config: Mapping[str, Any] | None
    """Flat, see ``config.identity.numeric_settings``; None where the results lie without the run's ``config.yaml``."""
    test_images: int | None
    """Number of test images; None where the results lie without the run's ``accuracy_matrix.csv``."""


def collect(paths: Sequence[Path], leave_out: Sequence[Path] = ()) -> tuple[list[FoundRun], list[str]]:
    """Read every run in or below ``paths``: folders of any depth, or single files with results.

    Args:
        paths: runs, multiruns, folders of these, or JSON files like those of ``docs/results``.
        leave_out: runs, or folders of runs, to skip.

    Returns:
        The runs, each file once, in the order of their names; notes on what was left out.

    Raises:
        UserError: a path that does not exist or holds no results, or nothing that could be read.
    """
    files, again, begun = _files(paths)
    hidden = [path.resolve() for path in leave_out]
    for folder, asked in zip(hidden, leave_out, strict=True):
        if not any(_is_in(file, folder) for file in files):
            raise UserError(f"--leave-out {asked} holds none of the runs: type the folder of one")
    notes = [f"{file} was found twice: it counts once" for file in again]
    notes += [f"{folder} is left out: it has no {RESULTS} yet" for folder in begun if not _hidden(folder, hidden)]
    found = []
    for resolved, file in files.items():
        if _hidden(resolved, hidden):
            continue
        try:
            found.append(_read(file))
        except ValueError as error:
            notes.append(f"{file} is left out: {error}")
    if not found:
        raise UserError("; ".join(["no results are left to compare", *notes]))
    return found, notes


def _hidden(path: Path, folders: Sequence[Path]) -> bool:
    return any(_is_in(path.resolve(), folder) for folder in folders)


def _is_in(file: Path, folder: Path) -> bool:
    return file == folder or folder in file.parents


def _files(paths: Sequence[Path]) -> tuple[dict[Path, Path], list[Path], list[Path]]:
    """Return resolved path -> path as typed, the paths found again, and the folders of runs without results yet."""
    files: dict[Path, Path] = {}
    again, begun = [], []
    for path in paths:
        below = list(_below(path))
        begun += [path for path in below if path.is_dir()]
        if not below:
            raise UserError(f"{path} holds no {RESULTS}: type the folder of a run or of several")
        for file in (path for path in below if not path.is_dir()):
            if file.resolve() in files:
                again.append(file)
            files.setdefault(file.resolve(), file)
    return files, again, begun


def _below(path: Path) -> Iterator[Path]:
    """Yield the files with results, and the folders of runs that have none yet."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise UserError(f"{path} does not exist: type the folder of a run or of several")
    for folder, inner, files in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _WITHOUT_RUNS)
        if RESULTS in files:
            yield Path(folder) / RESULTS
        elif "config.yaml" in files:
            yield Path(folder)


def _read(file: Path) -> FoundRun:
    """Read one file with results. Raises ValueError with a short reason if it is of another format."""
    content = _json(file)
    problem = _problem(content)
    if problem:
        raise ValueError(f"it has another format ({problem})")
    content = complete_results(content)
    if file.name != RESULTS:
        stored = content.get("config")
        return FoundRun(
            str(file),
            content,
            None if stored is None else numeric_settings(complete_configuration(_nested(stored))),
            None,
        )
    images = _test_images(file.with_name("accuracy_matrix.csv"), len(content["tasks"]))
    return FoundRun(str(file.parent), content, _config(file.with_name("config.yaml")), images)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Invert ``config.identity.numeric_settings``, as far as possible."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        node = nested
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return nested


def _json(file: Path) -> Any:
    try:
        return json.loads(read_file(file))
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON, perhaps cut off") from error


def _config(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        return numeric_settings(read_configuration(file))
    except TypeError as error:
        raise ValueError(f"{file.name} beside it is no configuration") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file.name} beside it cannot be read") from error


def _test_images(file: Path, tasks: int) -> int | None:
    """Return the number of images, summed over the tasks evaluated last; None where it is not known."""
    if not file.is_file():
        return None
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if int(row["after_task"]) == tasks - 1]
        first = [row for row in rows if (row["protocol"], row["readout"]) == (rows[0]["protocol"], rows[0]["readout"])]
        return sum(int(row["total"]) for row in first) or None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.name} beside it cannot be read") from error


def _problem(content: Any) -> str | None:
    """Return why this is no ``results.json``; None if it is one."""
    try:
        protocol, tasks = content["protocol"], content["tasks"]
        if not (isinstance(protocol["method"], str) and isinstance(protocol["seed"], int)):
            return "no method or seed"
        if not (tasks and 0 < len(tasks) <= len(protocol["tasks"])):
            return f"{len(tasks)} tasks of {len(protocol['tasks'])}"
        if not isinstance(content["parameters"], int):
            return "no number of parameters"
        if not all(isinstance(protocol.get(part, {}), dict) for part in ("method_options", "recipe_switches")):
            return "options that are no mapping"
        _ = content["provenance"].get("commit"), protocol["data"], protocol["order"]
        if not isinstance(protocol.get("evaluates_on", ""), str) or not isinstance(
            content.get("data_identity", {}), dict
        ):
            return "an evaluation on something without a name"
        if not all(isinstance(name, str) for task in tasks for name in task["names"]):
            return "classes without names"
        for evaluation, readouts in content["accuracy_matrix"].items():
            for readout, R in readouts.items():
                seen = [task["accuracy"][evaluation][readout] for task in tasks]
                if [len(row) for row in R] != list(range(1, len(tasks) + 1)):
                    return "an accuracy matrix of another size"
                if not all(_is_share(value) for row in [seen, *R] for value in row):
                    return "an accuracy that is no number from 0 to 1"
        _ = content["accuracy_matrix"][protocol["evaluation"]][protocol["readout"]]
    except KeyError as error:
        return f"no {error.args[0]}"
    except (TypeError, AttributeError):
        return "not the keys of a run's results"
    return None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1  # NaN is not
