"""What is recorded, when, and what runs as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cl_lightning.learning.cuda_graph import GraphedStep, Inputs, Work
from tests.learning.recorder import ByHand


def test_the_first_steps_run_and_then_one_is_recorded() -> None:
    recorder = ByHand()
    total = torch.zeros(1)
    replay = GraphedStep(lambda a, b: total.add_(a.sum() * b), recorder)
    expected = 0.0
    for step in range(8):
        a, b = torch.full((2,), float(step)), torch.tensor([2.0])
        expected += 4.0 * step
        assert replay(a, b).item() == expected
        a.zero_()  # what was fed may be used for something else
    assert (recorder.runs, recorder.records, recorder.replays) == (3, 1, 5)


def test_a_field_that_is_not_there_stays_where_it_is() -> None:
    recorder = ByHand()
    replay = GraphedStep(lambda a, b, c: a.sum()[None] + (0 if b is None else b) - c, recorder)
    for step in range(6):
        assert replay(torch.full((2,), float(step)), None, torch.ones(1)).item() == 2 * step - 1
    assert (recorder.records, recorder.replays) == (1, 3)
    assert replay(torch.ones(2), torch.ones(1), torch.ones(1)).item() == 2, "other fields are another step"


def test_other_shapes_run_and_do_not_disturb_what_is_recorded() -> None:
    recorder = ByHand()
    replay = GraphedStep(lambda a: a.sum()[None], recorder)
    for size in (4, 4, 4, 4, 2, 4, 3, 4):
        assert replay(torch.ones(size)).item() == size
    assert (recorder.records, recorder.replays) == (1, 3)
    replay.close()
    assert replay(torch.ones(4)).item() == 4
    assert (recorder.records, recorder.replays) == (1, 3), "closed is closed"


def test_a_small_batch_that_comes_first_is_not_what_is_recorded() -> None:
    """As where a run goes on just before the last batch of an epoch."""
    recorder = ByHand()
    replay = GraphedStep(lambda a: a.sum()[None], recorder)
    for size in (2, 4, 4, 4, 4, 4, 2, 4):
        assert replay(torch.ones(size)).item() == size
    assert (recorder.records, recorder.replays) == (1, 3)
    assert replay.recorded


def test_what_cannot_be_recorded_runs_on_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Refuses(ByHand):
        def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], object], Tensor]:
            self.records += 1
            try:
                raise RuntimeError("operation not permitted when stream is capturing\nand a long story")
            finally:
                raise RuntimeError("operation failed due to a previous error")  # as leaving torch's block does

    recorder = Refuses()
    replay = GraphedStep(lambda a: a.sum()[None], recorder)
    assert [replay(torch.ones(2)).item() for _ in range(8)] == [2.0] * 8
    assert recorder.records == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "operation not permitted" in record.getMessage()
    assert "trainer.cuda_graphs=false" in record.getMessage()
    assert "long story" not in record.getMessage()
