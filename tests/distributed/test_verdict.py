"""The end of a run is what its ranks make of it: the cause is told from its consequences."""

from __future__ import annotations

import signal

import pytest

from cl_lightning.core.exit_codes import PEER_GONE
from cl_lightning.distributed.verdict import Patience, RankState, StopRequest, judge


def ended(*codes: int | None, at: tuple[float, ...] = (0.0, 0.0, 0.0)) -> list[RankState]:
    """Ranks that ended with ``codes`` (None: one that runs), at these seconds."""
    return [RankState(index, None, at[index], code) for index, code in enumerate(codes)]


@pytest.mark.parametrize(
    ("ranks", "stopping", "now", "code"),
    [
        (ended(None, 1), False, 4.9, None),  # rank 0 may have something to say
        (ended(None, 1), False, 5.1, 1),
        (ended(None, -9), False, 0.0, 137),  # nothing that it could say is better
        (ended(None, -6), False, 4.9, None),  # a library gave up, perhaps because of another rank
        (ended(PEER_GONE, None, -9), False, 0.0, 137),
        (ended(1, -9, at=(0.0, 0.1)), False, 0.1, 137),
        (ended(4, 3, at=(0.1, 0.0)), False, 0.1, 3),  # the earlier one
        (ended(4, 3), False, 0.1, 4),  # at the same time: the one that has told
        (ended(PEER_GONE, 75, at=(0.0, 1.0)), False, 1.0, 75),
        (ended(0, PEER_GONE), False, 0.0, 0),  # rank 0 was done with it
        (ended(0, 1), False, 0.0, 1),
        (ended(0, None), False, 39.0, None),
        (ended(0, None), False, 41.0, 0),
        (ended(None, 75), True, 39.0, None),  # it was asked too (a scheduler asks all); rank 0 is at it
        (ended(None, 1), True, 6.0, 1),
        (ended(75, 1, at=(0.1, 0.0)), True, 0.1, 75),  # it failed because rank 0 left
        (ended(PEER_GONE, -15), True, 0.0, 143),
    ],
)
def test_the_end_is_what_the_ranks_make_of_it(
    ranks: list[RankState], stopping: bool, now: float, code: int | None
) -> None:
    verdict = judge(ranks, StopRequest(signal.SIGTERM if stopping else None), Patience(), now)
    assert (verdict and verdict.code) == code
