"""The trained model of a run, from the run's folder alone: its data need not be available."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cl_lightning.checkpoint.files import AlteredError, Position, list_checkpoints
from cl_lightning.checkpoint.state import load_state, restore_learnt
from cl_lightning.config.identity import refuse_edits
from cl_lightning.config.saved import load_learnt
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError, as_user_error
from cl_lightning.core.file_type import read_file
from cl_lightning.core.paths import to_type
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Plain
from cl_lightning.data.scenarios.scenario import Scenario, without_images
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.preprocessing import Preprocessing
from cl_lightning.factory.data import build_pipeline
from cl_lightning.factory.methods import build_method
from cl_lightning.factory.scenario import only_arrays, orientation

_MOST_CHANNELS = 4
"""Largest number of channels of an image."""


def open_run(run_dir: Path, checkpoint: Path | None = None, device: str = "cpu") -> TrainedModel:
    """Load the model of the run in ``run_dir`` after its newest finished task, or of another ``checkpoint`` (a path, or
    the name of a file in its ``checkpoints/``).

    Raises:
        UserError: no run there, no finished task, a checkpoint that is altered, of another format or of another run.
    """
    return model_of(load_learnt(run_dir), run_dir, checkpoint, device)


def model_of(config: Config, run_dir: Path, checkpoint: Path | None = None, device: str = "cpu") -> TrainedModel:
    """Load the model as :func:`open_run` does, of a run whose configuration has been read already."""
    file = _newest(run_dir) if checkpoint is None else _named(run_dir, checkpoint)
    payload = _read(file)
    identity = payload["identity"]
    _check_same_run(file, identity["protocol"], config)
    with as_user_error():
        refuse_edits(identity.get("configuration"), dataclasses.asdict(config), f"the run of {file}")
    structure = payload["network"]["structure"]
    sizes: tuple[int, ...] = tuple(structure["classes"])
    names = tuple(identity["class_names"])
    scenario = without_images(
        config.data.name, names, identity["protocol"]["tasks"], config.data.preprocess.size, _channels(structure)
    )
    with as_user_error():
        method = build_method(config, scenario, Key(config.seed))
        restore_learnt(payload, method)
        method.network.leave_out_training()
        preprocessing = preprocessing_of(config, scenario)
    method.network.to(device)
    return TrainedModel(
        source=str(file),
        stage=position_in_run(len(payload["records"]), len(sizes), identity["protocol"]["tasks"]),
        network=method.network,
        predict=method.predict,
        readouts=method.readouts(),
        class_names=names[: sum(sizes)],
        task_sizes=sizes,
        preprocessing=preprocessing,
        protocol={**identity["protocol"], "evaluation": method.protocol},
        commit=recorded_commit(run_dir),
        trained_on=identity["train_fingerprint"],
    )


def _newest(run_dir: Path) -> Path:
    """Return the checkpoint of the last task that the run has finished."""
    saved = list_checkpoints(run_dir / "checkpoints")
    ends = [path for path in saved if (end := Position.of(path)) is not None and end == Position(end.tasks)]
    if ends:
        return ends[-1]
    if saved:
        raise UserError(
            f"{run_dir} has not finished a task yet: type {to_type('resume', run_dir)} to go on with it, or "
            f"--checkpoint {saved[-1].name} to use it as it is"
        )
    raise UserError(
        f"{run_dir} has no checkpoint: type {to_type('resume', run_dir)} to go on with the run, or another folder"
    )


def _named(run_dir: Path, checkpoint: Path) -> Path:
    inside = run_dir / "checkpoints" / checkpoint
    found = next((path for path in (checkpoint, inside) if path.is_file()), None)
    if found is None:
        saved = [path.name for path in list_checkpoints(run_dir / "checkpoints")]
        hint = f"type --checkpoint {' or '.join(saved)}" if saved else f"{run_dir} has none"
        raise UserError(f"--checkpoint {checkpoint} does not exist: {hint}")
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        with as_user_error():
            return load_state(file)
    except AlteredError as error:
        raise UserError(f"{file} cannot be used ({error}): type --checkpoint with another file of the run") from error


def _check_same_run(file: Path, protocol: dict[str, Plain], config: Config) -> None:
    for name, value in (("method", config.method.name), ("data", config.data.name), ("model", config.model.name)):
        if protocol[name] != value:
            raise UserError(
                f"{file} is of a run with {name}={protocol[name]}, {config.run_dir} is one with {name}={value}: "
                f"type a checkpoint of that run"
            )


def _channels(structure: Plain) -> int:
    """Return the channels of the images of a network with this description."""
    found = _find(structure, "channels")
    if type(found) is not int or not 1 <= found <= _MOST_CHANNELS:
        raise UserError(f"the network in the checkpoint is not described as this program does it (channels={found})")
    return found


def _find(plain: Plain, name: str) -> Plain:
    """Return the first value of that name in nested mappings and lists; None if there is none."""
    if isinstance(plain, dict) and name in plain:
        return plain[name]
    inner = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else ()
    return next((found for value in inner if (found := _find(value, name)) is not None), None)


def preprocessing_of(config: Config, scenario: Scenario) -> Preprocessing:
    """Return how a file is brought to the network of a run, which is what the run's evaluation does."""
    pipeline = build_pipeline(config, scenario, Key(config.seed))
    size, way = pipeline.image_size, pipeline.scaling
    joins_arrays = only_arrays(config.data)  # as ``FolderSource.load_as`` reads a picture
    return Preprocessing(
        size,
        size if joins_arrays else way.short_side(size),
        scenario.channels,
        pipeline.mean,
        pipeline.std,
        orientation(config),
        config.data.files,
        config.data.max_pixels,
        way.whole,
        way.interpolation,
        pipeline.resize if size != scenario.image_size else None,
    )


def position_in_run(finished: int, grown: int, sizes: list[int]) -> str:
    """Describe the checkpoint's position in the run."""
    classes = f"{sum(sizes[:grown])} of {sum(sizes)} classes"
    if grown > finished:
        return f"interrupted within task {grown} of {len(sizes)}, {classes}"
    if finished < len(sizes):
        return f"unfinished: used as it was after task {finished} of {len(sizes)}, {classes}"
    return f"{'its only task' if len(sizes) == 1 else f'all {len(sizes)} tasks'}, {sum(sizes)} classes"


def recorded_commit(run_dir: Path) -> str | None:
    """Return the commit in a run's results; None if there is none to read."""
    try:
        results = json.loads(read_file(run_dir / "results.json"))
        return str(results["provenance"]["commit"]) if results["provenance"]["commit"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
