"""Which process this is, as torchrun, srun or we ourselves say."""

from __future__ import annotations

import pytest

from cl_lightning.core.errors import UserError
from cl_lightning.distributed.rank import RankInfo, rank_from_environment

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, None),
        ({"RANK": "3"}, None),
        (TORCHRUN, RankInfo(3, 4, 1, 4)),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "2"}, RankInfo(3, 4, 1, 2)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}, RankInfo(3, 4, 1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, RankInfo(0, 1, 0, 1)),
        (SLURM, RankInfo(3, 4, 1, 4)),
        ({**SLURM, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None),
        ({**SLURM, "SLURM_PROCID": "0", "ENVIRONMENT": "BATCH"}, None),  # the job's script: nobody starts the others
        ({**SLURM, "ENVIRONMENT": "BATCH", "SLURM_STEP_ID": "0"}, RankInfo(3, 4, 1, 4)),  # srun within it
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),  # a step of one task in a job of four
        ({**SLURM, **TORCHRUN, "RANK": "0"}, RankInfo(0, 4, 1, 4)),  # torchrun, or we, within a job
    ],
)
def test_the_place_is_what_torchrun_or_srun_say(environment: dict[str, str], rank: RankInfo | None) -> None:
    assert rank_from_environment(environment) == rank


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "4"}, "RANK=4 in the environment: it must be 0 to 3; to run alone, unset RANK"),
        ({"RANK": "first"}, "RANK=first in the environment: it must be 0 to 3"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 in the environment: it must be 1 or more; to run alone, unset RANK"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK= in the environment: it must be 0 to 3"),
    ],
)
def test_a_place_that_does_not_fit_is_reported(change: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as error:
        rank_from_environment({**TORCHRUN, **change})
    assert str(error.value).startswith(message)
