"""Weights of the published DyTox into a file of ours, and ours into one of theirs.

    python scripts/convert.py import PUBLISHED.pth OURS.pt
    python scripts/convert.py export RUN_DIR|CHECKPOINT.pt|OURS.pt PUBLISHED.pth

An imported file holds weights and the description of their network, nothing to go on training with. Neither direction
runs code from the file that it reads, and neither writes over a file. Exit status: 2 for wrong input, with one line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl_lightning.checkpoint import files, state
from cl_lightning.core.errors import InvalidFileError, UserError, as_user_error
from cl_lightning.models.network import Network
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.published.checkpoint import PublishedCheckpoint, load_plain, read_checkpoint
from cl_lightning.published.weights import export_dytox, import_network

IMPORTED = "weights-1"
"""Value of ``version`` in an imported file: not a number, so that it is never read as a run's checkpoint."""
WRONG_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, report what was found, and return the exit status."""
    parser = argparse.ArgumentParser(description="Weights of the published DyTox into ours, and back.")
    directions = parser.add_subparsers(dest="direction", required=True)
    for name, what, source, target in (
        ("import", "published weights into a file of ours", "a published checkpoint or state dict", "our file"),
        ("export", "our weights by their published names", "a run's folder or a .pt file of ours", "published file"),
    ):
        direction = directions.add_parser(name, help=what, description=what)
        direction.add_argument("source", type=Path, help=f"{source}, to read")
        direction.add_argument("target", type=Path, help=f"{target}, to write; it must not exist")
    options = parser.parse_args(arguments)
    try:
        with as_user_error():
            if options.target.exists():
                raise InvalidFileError(options.target, "exists and is not written over: type another name")
            print("\n".join({"import": _import, "export": _export}[options.direction](options.source, options.target)))
    except (UserError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return WRONG_INPUT
    return 0


def _import(source: Path, target: Path) -> list[str]:
    found = read_checkpoint(source)
    network = import_network(found.weights, found.arguments)
    payload: dict[str, Any] = {
        "version": IMPORTED,
        "network": {"structure": network.structure(), "weights": network.state_dict()},
        "source": {"implementation": "arthurdouillard/dytox", "file": source.name, **found.progress},
    }
    files.save_whole(target, payload)
    return [
        f"{source}: {_tasks(network)}{_progress(found)}",
        *_sizes(network),
        _told(network, found),
        f"wrote {target}: weights and the network's description; it is not a run that can be gone on with",
    ]


def _export(source: Path, target: Path) -> list[str]:
    path = _last_checkpoint(source) if source.is_dir() else source
    network = _our_network(path)
    if not isinstance(network, TaskNetwork):
        raise InvalidFileError(path, f"holds a {network.structure()['kind']}: only method=dytox* has published weights")
    files.save_whole(target, {"model": export_dytox(network)})
    return [
        f"{path}: {_tasks(network)}",
        *_sizes(network),
        "not in the weights: " + ", ".join(f"{option}={value:g}" for option, value in _unseen(network)),
        f"wrote {target}: weights by their published names, under the key model",
    ]


def _last_checkpoint(run_dir: Path) -> Path:
    found = files.list_checkpoints(run_dir / "checkpoints")
    if not found:
        raise FileNotFoundError(f"{run_dir} holds no checkpoints/task_*.pt: type the folder of a run, or a file")
    return found[-1]


def _our_network(path: Path) -> Network:
    """Load the network of a checkpoint of a run, or of an imported file."""
    payload = load_plain(path)
    if "network" not in payload:
        hint = f": type convert.py import {path} ..." if "model" in payload else ""
        raise InvalidFileError(path, f"is not one of our checkpoints{hint}")
    if payload.get("version") != IMPORTED:
        payload = _whole(path)  # which says why where the version is not ours
    try:
        return state.restore_network(payload["network"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise InvalidFileError(path, f"is damaged: its network cannot be rebuilt ({error})") from error


def _whole(path: Path) -> dict[str, Any]:
    try:
        return files.load_checkpoint(path)
    except files.AlteredError as error:
        raise InvalidFileError(path, f"is damaged: {error}") from error


# ---- what is told ----------------------------------------------------------------------------------------------------


def _tasks(network: TaskNetwork) -> str:
    sizes = network.classifier.sizes()
    return f"DyTox, {len(sizes)} task{'s' * (len(sizes) > 1)} of {_listed(sizes)} classes"


def _listed(sizes: list[int]) -> str:
    if len(set(sizes)) == 1:
        return str(sizes[0])
    return ", ".join(map(str, sizes[:-1])) + f" and {sizes[-1]}"


def _progress(found: PublishedCheckpoint) -> str:
    told = ", ".join(f"{name} {value}" for name, value in found.progress.items())
    return f" ({told})" if told else ""


def _sizes(network: TaskNetwork) -> list[str]:
    sizes = network.encoder.structure()
    side, channels = sizes["image_size"], sizes["channels"]
    divergence = sum(p.numel() for p in network.parts()["divergence"])
    return [
        f"images of {side} x {side} pixels, {channels} channel{'s' * (channels > 1)}, "
        f"patches of {sizes['patch_size']}, width {sizes['dim']}, {sizes['num_heads']} heads, {sizes['depth']} blocks, "
        f"MLP ratio {sizes['mlp_ratio']:g}",
        f"{sum(p.numel() for p in network.parameters()):,} parameters, "
        + (f"{divergence:,} of them in the divergence head" if divergence else "no divergence head"),
    ]


def _told(network: TaskNetwork, found: PublishedCheckpoint) -> str:
    known = found.arguments or {}
    parts = [
        f"{option}={value:g} ({'from the arguments' if option in known else 'the published default'})"
        for option, value in _unseen(network)
    ]
    return "not in the weights: " + ", ".join(parts)


def _unseen(network: TaskNetwork) -> list[tuple[str, float]]:
    """Return the options of a run that weights do not hold, by their published names."""
    sizes = network.encoder.structure()
    return [("drop_path", sizes["drop_path"]), ("locality_strength", sizes["locality"])]


if __name__ == "__main__":
    sys.exit(main())
