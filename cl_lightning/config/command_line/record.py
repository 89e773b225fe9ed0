"""The record of what was typed, ``.hydra/`` in a run's folder: Hydra's own three files, written by us.

Hydra would write them before any code of ours runs: into a folder that another process may be using, and through links.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cl_lightning.core.atomic_write import make_folder, write_atomic

FOLDER = ".hydra"


def key_of_folder() -> str:
    """Return the key of the folder for a run's files: of one run, or of all runs of a multirun."""
    many = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
    return "hydra.sweep.dir" if many else "run_dir"


def write_typed(run_dir: Path, composed: DictConfig) -> None:
    """Write what was ``composed``, Hydra's own configuration and the overrides. ``run_dir`` exists, and is ours.

    Raises:
        OSError: no room, no right to write, or a link in the way.
    """
    folder, hydra = run_dir / FOLDER, HydraConfig.get()
    make_folder(folder)
    nodes = {"config": composed, "hydra": {"hydra": hydra}, "overrides": hydra.overrides.task}
    for name, node in nodes.items():
        write_atomic(folder / f"{name}.yaml", OmegaConf.to_yaml(node))
