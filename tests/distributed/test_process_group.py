"""Sharing of the work of a run; what needs several processes is in tests/integration/distributed."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.distributed.process_group import SINGLE_PROCESS, ProcessGroup


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_piece_of_work_is_one_processs(world: int, count: int) -> None:
    shares = [list(ProcessGroup(rank, world).share(count)) for rank in range(world)]
    assert sorted(piece for share in shares for piece in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_replicas_are_consecutive_and_equally_many() -> None:
    assert [ProcessGroup(rank, 2).replicas(4) for rank in range(2)] == [range(2), range(2, 4)]
    assert SINGLE_PROCESS.replicas(3) == range(3)
    with pytest.raises(AssertionError, match="3 replicas on 2 processes"):
        ProcessGroup(0, 2).replicas(3)


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.ones(2)
    SINGLE_PROCESS.average([tensor])
    assert SINGLE_PROCESS.gather(7) == [7]
    assert SINGLE_PROCESS.gather_shares([1, 2, 3]) == [1, 2, 3]
    assert SINGLE_PROCESS.broadcast("x") == "x"
    with SINGLE_PROCESS.main_process_first():
        assert SINGLE_PROCESS.is_main
    assert tensor.tolist() == [1, 1]
