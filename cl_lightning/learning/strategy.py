"""How Lightning is told of processes that exist already.

Lightning's own launcher starts the other ranks by running the command line again, which in a multirun is the whole
sweep. Here the processes have been started before (``launch.py``, torchrun, srun) and have met
(``learning/processes.py``); a strategy only wraps what is trained, so that gradients are averaged.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from cl_lightning.distributed.process_group import ProcessGroup

T = TypeVar("T")


class _JoinedEnvironment(LightningEnvironment):
    """The places of processes that have met, whoever started them."""

    def __init__(self, processes: ProcessGroup) -> None:
        super().__init__()
        self._processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning must start nothing."""
        return True

    def world_size(self) -> int:
        """All processes."""
        return self._processes.world_size

    def global_rank(self) -> int:
        """This one among them."""
        return self._processes.rank

    def local_rank(self) -> int:
        """This one among those of its machine."""
        return self._processes.local_rank

    def node_rank(self) -> int:
        """This machine among those of the run."""
        return self._processes.rank // self._processes.local_world_size

    def teardown(self) -> None:
        """Nothing to take back: the environment is not ours."""


class _JoinedStrategy(DDPStrategy):
    """Averages gradients over processes that have met; what Lightning has them agree on crosses as ours does."""

    def __init__(self, processes: ProcessGroup) -> None:
        super().__init__(cluster_environment=_JoinedEnvironment(processes), **_OWN_BUFFERS)
        self._processes = processes

    def broadcast(self, obj: T, src: int = 0) -> T:
        """The first process's value; Lightning's own way is a pickle."""
        assert src == 0, f"a value of process {src} was asked for"
        return self._processes.broadcast(obj)


def distribution(processes: ProcessGroup) -> dict[str, Any]:
    """The Trainer's arguments for these processes.

    Buffers are not broadcast: they are averaged where they differ (batch norm), which the first process's would hide.
    """
    if processes.world_size == 1:
        # Named even so: on a SLURM machine Lightning would find another one, with ideas of its own about checkpoints.
        return {"devices": 1, "plugins": [_JoinedEnvironment(processes)]}
    return {
        "devices": processes.local_world_size,
        "num_nodes": processes.world_size // processes.local_world_size,
        "strategy": _JoinedStrategy(processes),
    }


_SINCE_2_15 = "forward_sync_buffers"
_PARAMETERS = inspect.signature(DistributedDataParallel.__init__).parameters
_OWN_BUFFERS: dict[str, Any] = {_SINCE_2_15 if _SINCE_2_15 in _PARAMETERS else "broadcast_buffers": False}
