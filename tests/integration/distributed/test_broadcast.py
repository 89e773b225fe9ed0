"""What processes say arrives with all of them as it was said, and a stranger's bytes are refused."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from cl_lightning.distributed import messages
from cl_lightning.distributed.process_group import process_group
from tests.core.test_serialization import same
from tests.integration.distributed.forked import in_processes


def said_by(rank: int) -> Any:
    """Something of another type and length on each."""
    return [None, {("a", 1): (2.5, [rank])}, [torch.arange(10_000.0) + rank, "text"]][rank]


def test_all_hear_what_each_says_and_what_the_first_says() -> None:
    def work(rank: int, world: int) -> tuple[Any, ...]:
        with process_group(rank, world, rank, world, "cpu") as processes:
            values = processes.gather(said_by(rank))
            shares = processes.gather_shares([(rank, n) for n in processes.share(4)])
            return values, shares, processes.broadcast(said_by((rank + 1) % world)), processes.broadcast(None)

    shares = [(0, 0), (1, 1), (2, 2), (0, 3)]
    expected = ([said_by(rank) for rank in range(3)], shares, said_by(1), None)
    for heard in in_processes(3, work):
        assert same(heard, expected)


def test_a_strangers_bytes_are_refused() -> None:
    def work(rank: int, world: int) -> str:
        with process_group(rank, world, rank, world, "cpu") as processes:
            messages.encode = (lambda value: torch.full((9,), 255, dtype=torch.uint8)) if rank else messages.encode
            try:
                processes.gather("hello")
            except ValueError as error:
                return str(error)
        return "nothing was noticed"

    assert in_processes(2, work) == ["9 bytes from another process are no whole message"] * 2


def test_a_length_that_is_none_is_refused() -> None:
    def work(rank: int, world: int) -> str:
        with process_group(rank, world, rank, world, "cpu") as processes:
            if rank == 0:
                dist.broadcast(torch.tensor([-5]), src=0)
                return ""
            try:
                processes.broadcast("hello")
            except ValueError as error:
                return str(error)
        return "nothing was noticed"

    assert in_processes(2, work)[1] == "another process announces a message of -5 bytes"
