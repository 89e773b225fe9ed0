"""How the work of a run is shared; what needs several processes is in tests/distributed."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.learning.processes import ALONE, Processes


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_piece_of_work_is_one_processs(world: int, count: int) -> None:
    shares = [list(Processes(rank, world).share(count)) for rank in range(world)]
    assert sorted(piece for share in shares for piece in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_replicas_are_consecutive_and_equally_many() -> None:
    assert [Processes(rank, 2).replicas(4) for rank in range(2)] == [range(2), range(2, 4)]
    assert ALONE.replicas(3) == range(3)
    with pytest.raises(AssertionError, match="3 replicas on 2 processes"):
        Processes(0, 2).replicas(3)


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.ones(2)
    ALONE.average([tensor])
    assert ALONE.gather(7) == [7]
    assert ALONE.gather_shares([1, 2, 3]) == [1, 2, 3]
    assert ALONE.agree("x") == "x"
    with ALONE.one_before_the_others():
        assert ALONE.writes
    assert tensor.tolist() == [1, 1]
