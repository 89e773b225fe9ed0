"""The place of a process among those that make a run together, told by whoever started them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from cl_lightning.core.errors import UserError


@dataclass(frozen=True)
class RankInfo:
    """The place of a process among those that make a run together."""

    rank: int
    """From 0; the one with 0 writes files and owns the terminal."""
    world_size: int
    """How many there are."""
    local_rank: int
    """The place among those of its machine, from 0: which of the GPUs is its own."""
    local_world_size: int
    """How many are on its machine."""


def rank_from_environment(environment: Mapping[str, str]) -> RankInfo | None:
    """The place of this process in a run whose processes somebody else started; None for one that stands alone.

    That is torchrun, or whoever sets the same variables (RANK, WORLD_SIZE, LOCAL_RANK), or SLURM's srun with several
    tasks. A job script of SLURM that asks for several tasks and calls the program without srun stands alone.

    Raises:
        UserError: the variables do not fit together.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _place(environment, "RANK", "WORLD_SIZE", "LOCAL_RANK", environment.get("LOCAL_WORLD_SIZE", ""))
    # SLURM gives a job's script the number of tasks and place 0, though only srun would start the others.
    is_script = environment.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in environment
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if "SLURM_PROCID" not in environment or is_script or environment.get(tasks, "1") == "1":
        return None
    # "2(x3)" or "2,1": how many tasks the machines of the step have
    of_machines = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE", ""))
    return _place(environment, "SLURM_PROCID", tasks, "SLURM_LOCALID", re.split(r"[(,]", of_machines)[0])


def _place(environment: Mapping[str, str], index: str, world: str, local: str, here: str) -> RankInfo:
    def number(name: str, least: int, most: int) -> int:
        value = environment.get(name, "")
        if not value.isdecimal() or not least <= int(value) <= most:
            allowed = f"{least} to {most}" if most < sys.maxsize else f"{least} or more"
            raise UserError(f"{name}={value} in the environment: it must be {allowed}; to run alone, unset {index}")
        return int(value)

    count = number(world, 1, sys.maxsize)
    on_this_machine = int(here) if here.isdecimal() else count
    return RankInfo(
        number(index, 0, count - 1), count, number(local, 0, count - 1) if count > 1 else 0, on_this_machine
    )
