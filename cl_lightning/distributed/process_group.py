"""The processes that make one run together, and the collectives between them.

Each takes a share of the virtual replicas in training, of the classes in herding and of the test images in evaluation.
Small messages cross: gradients (by torch's ``DistributedDataParallel``), ranked rows, counts. Nothing is padded,
so nothing is counted twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch import Tensor

from cl_lightning.core.errors import RunAbortedError
from cl_lightning.distributed import messages
from cl_lightning.distributed.launcher import die_with_parent
from cl_lightning.distributed.rendezvous import RENDEZVOUS

T = TypeVar("T")

_PATIENCE = timedelta(hours=6)
"""Time that one process may wait for another, which may be scanning a large folder or writing to a slow disk. A process
that died is noticed by the supervisor, not by this.
"""


_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Environment variable of torchrun's processes. If torchrun is killed, nobody is left to see how its ranks end."""


@dataclass(frozen=True)
class ProcessGroup:
    """Rank of this process and the collectives of its run. With a single process every call is free."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Rank among the processes of this machine: the index of its GPU."""
    local_world_size: int = 1
    """Number of processes on this machine."""

    @property
    def is_main(self) -> bool:
        """True in the process that writes files, logs and the terminal."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return this process's share of ``count`` equal pieces of work."""
        return range(self.rank, count, self.world_size)

    def replicas(self, count: int) -> range:
        """Return the virtual replicas of this process: consecutive ones, equally many on each process."""
        assert count % self.world_size == 0, f"{count} replicas on {self.world_size} processes"
        each = count // self.world_size
        return range(self.rank * each, (self.rank + 1) * each)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in order of rank, on each of them: small ones of plain types and tensors
        (``messages.py``), which arrive on the CPU.
        """
        return [value] if self.world_size == 1 else messages.all_gather(value)

    def gather_shares(self, values: Sequence[T]) -> list[T]:
        """Return the results that the processes computed for their :meth:`share`, in the order of the whole."""
        shares = self.gather(list(values))
        total = sum(len(share) for share in shares)
        return [shares[index % self.world_size][index // self.world_size] for index in range(total)]

    def broadcast(self, value: T) -> T:
        """Return the first process's value, of plain types and tensors on the CPU."""
        return value if self.world_size == 1 else messages.broadcast(value)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.world_size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world_size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block in the first process before the others: it downloads and scans, they find the files there."""
        if self.world_size > 1 and not self.is_main:
            dist.barrier()
        yield
        if self.world_size > 1 and self.is_main:
            dist.barrier()


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def process_group(
    rank: int, world_size: int, local_rank: int, local_world_size: int, accelerator: str
) -> Iterator[ProcessGroup]:
    """Join the process group for the block: processes of ``launcher.supervise`` meet at a file, others at the address
    in the environment (``MASTER_ADDR``, ``MASTER_PORT``; srun sets neither, but names the first machine).

    Args:
        rank: rank of this process, from 0.
        world_size: number of processes.
        local_rank: rank of this process on its machine.
        local_world_size: number of processes on this machine.
        accelerator: ``cpu`` (gloo) or ``gpu`` (NCCL, one GPU a process).
    """
    gpu = accelerator == "gpu"
    if _TORCHRUN in os.environ:
        die_with_parent()
    if gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        rank=rank,
        world_size=world_size,
        timeout=_PATIENCE,
        device_id=torch.device("cuda", local_rank) if gpu else None,
        store=_store(world_size),
    )
    yield ProcessGroup(rank, world_size, local_rank, local_world_size)
    # Not after an error: destroying NCCL's communicator waits for the others, who wait in the middle of something.
    dist.destroy_process_group()


def _store(world_size: int) -> Any:
    """Return the file store of processes that we started; None, for torch's own way, for those that others started."""
    if RENDEZVOUS in os.environ:
        store = dist.FileStore(os.environ[RENDEZVOUS], world_size)  # type: ignore[attr-defined]
        store.set_timeout(_PATIENCE)
        return store
    if "MASTER_ADDR" not in os.environ:
        slurm = SLURMEnvironment()
        os.environ.update(MASTER_ADDR=slurm.main_address, MASTER_PORT=str(slurm.main_port))
    return None


def peer_is_gone(error: BaseException) -> bool:
    """Return True if a process failed only because it waited for one that had failed."""
    lost = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "Connection refused",
        "remote process exited",  # NCCL
    )
    return isinstance(error, dist.DistNetworkError) or any(text in str(error) for text in lost)


@contextmanager
def lost_peers_reported(processes: ProcessGroup) -> Iterator[None]:
    """Raise ``RunAbortedError`` for a lost process, unless our own supervisor watches, which names the cause."""
    try:
        yield
    except RuntimeError as error:
        if processes.world_size == 1 or RENDEZVOUS in os.environ or not peer_is_gone(error):
            raise
        raise RunAbortedError(
            f"rank {processes.rank} lost another process of the run, whose own message says why it ended"
        ) from error
