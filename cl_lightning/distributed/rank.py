"""Rank of this process and size of its group, from the environment that the launcher set."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from cl_lightning.core.errors import UserError


@dataclass(frozen=True)
class RankInfo:
    """Rank of this process among those that make a run together."""

    rank: int
    """Rank from 0; rank 0 writes files and owns the terminal."""
    world_size: int
    """Number of processes."""
    local_rank: int
    """Rank among the processes of this machine, from 0: the index of its GPU."""
    local_world_size: int
    """Number of processes on this machine."""


def rank_from_environment(environment: Mapping[str, str]) -> RankInfo | None:
    """Return this process's rank in a run whose processes somebody else started; None for a single process.

    Read are the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK), or those of SLURM's srun with several tasks. A
    job script of SLURM that asks for several tasks and calls the program without srun is a single process.

    Raises:
        UserError: the variables contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _rank_info(environment, "RANK", "WORLD_SIZE", "LOCAL_RANK", environment.get("LOCAL_WORLD_SIZE", ""))
    # SLURM gives a job's script the number of tasks and rank 0, though only srun would start the others.
    is_script = environment.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in environment
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if "SLURM_PROCID" not in environment or is_script or environment.get(tasks, "1") == "1":
        return None
    # "2(x3)" or "2,1": the numbers of tasks of the step's machines
    of_machines = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE", ""))
    return _rank_info(environment, "SLURM_PROCID", tasks, "SLURM_LOCALID", re.split(r"[(,]", of_machines)[0])


def _rank_info(environment: Mapping[str, str], rank: str, world_size: str, local_rank: str, on_node: str) -> RankInfo:
    def number(name: str, least: int, most: int) -> int:
        value = environment.get(name, "")
        if not value.isdecimal() or not least <= int(value) <= most:
            allowed = f"{least} to {most}" if most < sys.maxsize else f"{least} or more"
            raise UserError(f"{name}={value} in the environment: it must be {allowed}; to run alone, unset {rank}")
        return int(value)

    count = number(world_size, 1, sys.maxsize)
    local_world_size = int(on_node) if on_node.isdecimal() else count
    local = number(local_rank, 0, count - 1) if count > 1 else 0
    return RankInfo(number(rank, 0, count - 1), count, local, local_world_size)
