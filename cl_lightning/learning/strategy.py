"""Lightning environment and strategy for processes that exist already.

Lightning's own launcher starts the other ranks by running the command line again, which in a multirun is the whole
sweep. Here the processes have been started before (``distributed/launcher.py``, torchrun, srun) and have joined a group
(``distributed/process_group.py``); a strategy only wraps the trained module, so that gradients are averaged.
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
    """Ranks of processes that have joined a group, whoever started them."""

    def __init__(self, processes: ProcessGroup) -> None:
        super().__init__()
        self._processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning must start nothing."""
        return True

    def world_size(self) -> int:
        """Return the number of processes."""
        return self._processes.world_size

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self._processes.rank

    def local_rank(self) -> int:
        """Return the rank of this process on its machine."""
        return self._processes.local_rank

    def node_rank(self) -> int:
        """Return the index of this machine."""
        return self._processes.rank // self._processes.local_world_size

    def teardown(self) -> None:
        """Do nothing: the environment is not ours."""


class _JoinedStrategy(DDPStrategy):
    """DDP over processes that have joined a group; Lightning's broadcasts use our messages."""

    def __init__(self, processes: ProcessGroup) -> None:
        super().__init__(cluster_environment=_JoinedEnvironment(processes), **_OWN_BUFFERS)
        self._processes = processes

    def broadcast(self, obj: T, src: int = 0) -> T:
        """Return the first process's value; Lightning's own way is a pickle."""
        assert src == 0, f"a value of process {src} was asked for"
        return self._processes.broadcast(obj)


def distribution(processes: ProcessGroup) -> dict[str, Any]:
    """Return the Trainer's arguments for these processes.

    Buffers are not broadcast, which would hide differences: they are averaged where they differ (batch norm).
    """
    if processes.world_size == 1:
        # Named even so: on a SLURM machine Lightning would find its own, which writes checkpoints of its own on
        # signals.
        return {"devices": 1, "plugins": [_JoinedEnvironment(processes)]}
    return {
        "devices": processes.local_world_size,
        "num_nodes": processes.world_size // processes.local_world_size,
        "strategy": _JoinedStrategy(processes),
    }


_SINCE_2_15 = "forward_sync_buffers"
_PARAMETERS = inspect.signature(DistributedDataParallel.__init__).parameters
_OWN_BUFFERS: dict[str, Any] = {_SINCE_2_15 if _SINCE_2_15 in _PARAMETERS else "broadcast_buffers": False}
