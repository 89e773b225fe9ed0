"""The files of an export, its description ``model.json`` and its weights ``model.safetensors``: written, and read
back into a model without any other file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError, UserError, as_user_error
from cl_lightning.core.file_type import foreign_kind, read_file
from cl_lightning.core.missing_keys import complete_export
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Plain, Readout
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.preprocessing import Preprocessing
from cl_lightning.deploy.scorer import Scorer
from cl_lightning.models.build import build_network

FORMAT = 1
"""Version of ``model.json``."""
DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
_NETWORK = "network."
_MEANS = "means."


def is_export(folder: Path) -> bool:
    """Return whether ``folder`` is what ``python -m cl_lightning.export`` writes."""
    return (folder / DESCRIPTION).is_file()


def describe(model: TrainedModel, readout: str) -> dict[str, Plain]:
    """Return ``model.json`` without its list of files; ``readout`` is the one in graph formats."""
    side, channels = model.preprocessing.network_size, model.preprocessing.channels
    return {
        "format": FORMAT,
        "from": "/".join(Path(model.source).parts[-3:]),  # no path above the run, which is this machine's
        "stage": model.stage,
        "classes": list(model.class_names),
        "tasks": list(model.task_sizes),
        "preprocessing": model.preprocessing.to_plain(),
        "graph": {
            "readout": readout,
            "input": {"name": "images", "shape": ["batch", channels, side, side], "values": "float32, normalised"},
            "output": {"name": "scores", "shape": ["batch", len(model.class_names)], "values": "float32"},
        },
        "readouts": {name: _plain_readout(each) for name, each in model.readouts.items() if each.by_network},
        "network": model.network.structure(),
        "protocol": dict(model.protocol),
        "commit": model.commit,
    }


def _plain_readout(readout: Readout) -> dict[str, Plain]:
    return {
        "probability": readout.probability,
        "temperature": readout.temperature,
        "nearest_mean": readout.means is not None,
    }


def save_weights(model: TrainedModel, file: Path) -> None:
    """Write weights and buffers of the network, and class means where a read-out has them."""
    tensors = {_NETWORK + name: tensor for name, tensor in model.network.state_dict().items()}
    tensors |= {_MEANS + name: each.means for name, each in model.readouts.items() if each.means is not None}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    file.write_bytes(save(plain))  # safetensors' own writer makes files unreadable for others


def sha256(file: Path) -> str:
    """Return the SHA-256 of the contents of ``file``, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_exported(folder: str | Path, device: str = "cpu") -> TrainedModel:
    """Load the model that ``python -m cl_lightning.export`` wrote to ``folder``, rebuilt from ``model.json`` and
    ``model.safetensors`` alone; neither holds code.

    >>> model = load_exported("DIR")                                    # doctest: +SKIP
    >>> images = torch.stack([model.preprocessing.read(Path("a.png"))])  # doctest: +SKIP
    >>> scores = model.scores(images, model.readout(None))               # doctest: +SKIP
    >>> model.readouts[model.readout(None)].probabilities(scores)        # doctest: +SKIP

    Raises:
        UserError: one of the files is missing, of another format or not what was written.
    """
    folder = Path(folder)
    plain = _description(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"{folder} has no {WEIGHTS}: export it again, with safetensors among --formats")
    if plain["files"].get(WEIGHTS, {}).get("sha256") != sha256(weights):
        if known := foreign_kind(weights):
            raise UserError(f"{weights} is {known}: export the run again, or type the folder of another export")
        raise UserError(f"{weights} is not the file that {DESCRIPTION} was written with: export it again")
    return rebuilt(plain, weights, device)


def rebuilt(plain: Mapping[str, Plain], weights: Path, device: str = "cpu") -> TrainedModel:
    """Rebuild the model of a description and a file of weights."""
    with as_user_error():
        tensors = load_file(weights)
        try:
            network = build_network(plain["network"], Key(0))
        except (ValueError, KeyError, TypeError) as error:  # the description may have been altered
            told = f"describes no network of this program ({error})"
            raise InvalidFileError(weights.with_name(DESCRIPTION), told, "export the run again") from error
    learnt = {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items() if name.startswith(_NETWORK)}
    network.load_state_dict(learnt, strict=True)
    network.to(device).eval()
    readouts = {name: _readout(each, tensors.get(_MEANS + name)) for name, each in plain["readouts"].items()}
    return TrainedModel(
        source=str(weights.parent),
        stage=plain["stage"],
        network=network,
        predict=_predict({name: Scorer(network, each).to(device) for name, each in readouts.items()}),
        readouts=readouts,
        class_names=tuple(plain["classes"]),
        task_sizes=tuple(plain["tasks"]),
        preprocessing=Preprocessing.from_plain(plain["preprocessing"]),
        protocol=plain["protocol"],
        commit=plain["commit"],
    )


def _description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if not file.is_file():
        raise UserError(f"{folder} is no export, it has no {DESCRIPTION}: type python -m cl_lightning.export RUN_DIR")
    try:
        plain = json.loads(read_file(file))
        version = plain["format"]
    except (ValueError, TypeError, KeyError) as error:
        known = foreign_kind(file)
        reason = f"it is {known}: " if known else ""
        raise UserError(f"{file} is not what was written: {reason}export the run again") from error
    if version != FORMAT:
        raise UserError(f"{file} has format {version}, this program reads format {FORMAT}: export the run again")
    return complete_export(plain)


def _readout(plain: Mapping[str, Plain], means: Tensor | None) -> Readout:
    if plain["nearest_mean"] and means is None:
        raise UserError(f"{WEIGHTS} lacks the class means that {DESCRIPTION} speaks of: export the run again")
    return Readout(plain["probability"], plain["temperature"], means)


def _predict(scorers: Mapping[str, Scorer]) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda images: {name: scorer(images) for name, scorer in scorers.items()}
