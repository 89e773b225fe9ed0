"""A training step on a GPU as one launch (a CUDA graph).

A step of a 32-pixel transformer is a thousand kernels of a few microseconds each: to start them one by one takes the
host several times as long as the GPU needs to run them. All steps of a phase are alike but for their inputs, so one is
recorded and then replayed: new inputs are copied to the addresses that the recorded step reads.

Values of the host (numbers, branches taken) are frozen in the recorded step. So only a method that allows it
(``Method.cuda_graph_safe``) is replayed, and the learning rate lies on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[..., Tensor]
Inputs = Sequence[Tensor | None]
"""Inputs of a step, field by field; a field that the steps of a phase do not have is None in all of them."""
_log = logging.getLogger(__name__)

_EAGER_STEPS = 3
"""Steps before one is recorded: libraries initialise, code is compiled, the optimiser makes its moments."""


class Recorder(Protocol):
    """Execution and recording of work beside the current stream of the device."""

    def run(self, work: Work, inputs: Inputs) -> Tensor:
        """Run the work."""
        ...

    def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], object], Tensor]:
        """Record the work without running it; return its replay, which reads the very tensors ``inputs``, and its
        outcome.
        """
        ...


class CudaRecorder:
    """Recorder that uses CUDA graphs."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def run(self, work: Work, inputs: Inputs) -> Tensor:
        """Run the work on the stream that records: gradients remember their stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outcome = work(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outcome

    def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], object], Tensor]:
        """Record the work as a graph with memory of its own until it is dropped."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            outcome = work(*inputs)
        return graph.replay, outcome


class GraphedStep:
    """Training step ``work``, a function of tensors, recorded once it has run a few times; inputs of other shapes, as
    in the last batch of an epoch, run unrecorded.

    Inputs are copied to the same tensors from the first step on, not only once a step is recorded: so the code that was
    compiled for them is recorded, whatever tensors come from outside. (To compile while recording fails.)
    """

    def __init__(self, work: Work, recorder: Recorder) -> None:
        self._work = work
        self._recorder = recorder
        self._runs = 0
        self._given_up = False
        self._inputs: list[Tensor | None] = []
        self._replay: Callable[[], object] | None = None
        self._outcome: Tensor | None = None

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Return the outcome; that of a replay is overwritten by the next one."""
        if self._replay is None and not self._given_up and _size(inputs) > _size(self._inputs):
            self._allocate(inputs)
        if self._given_up or _shapes(inputs) != _shapes(self._inputs):
            return self._recorder.run(self._work, inputs)
        torch._foreach_copy_(_present(self._inputs), _present(inputs))
        if self._replay is not None:
            self._replay()
            assert self._outcome is not None
            return self._outcome
        self._runs += 1
        if self._runs <= _EAGER_STEPS:
            return self._recorder.run(self._work, self._inputs)
        return self._recorded()

    def _allocate(self, inputs: Inputs) -> None:
        """Allocate inputs for the first or a larger batch: a resumed phase may meet the small last batch first."""
        self._inputs = [
            None if each is None else torch.empty_like(each, memory_format=torch.contiguous_format) for each in inputs
        ]
        self._runs = 0

    def _recorded(self) -> Tensor:
        reason = self._record()
        if reason is not None:  # not where the error is caught: it holds the memory of the half-recorded step
            self._given_up = True
            _log.warning("steps are not replayed, %s (trainer.cuda_graphs=false saves the attempt)", reason)
            return self._recorder.run(self._work, self._inputs)
        assert self._replay is not None
        assert self._outcome is not None
        self._replay()
        return self._outcome

    def _record(self) -> str | None:
        """Record a step; return the reason, in a line, if it failed."""
        try:
            self._replay, self._outcome = self._recorder.record(self._work, self._inputs)
        except RuntimeError as error:
            cause = error.__context__ or error  # the end of a recording fails too, and says less
            return str(cause).split("\n")[0]
        return None

    @property
    def recorded(self) -> bool:
        """True once steps are replayed."""
        return self._replay is not None

    def close(self) -> None:
        """Free the memory of the recorded step."""
        self._replay, self._outcome, self._given_up = None, None, True
        self._inputs.clear()


def _size(inputs: Inputs) -> int:
    return sum(each.numel() for each in _present(inputs))


def _present(inputs: Inputs) -> list[Tensor]:
    return [each for each in inputs if each is not None]


def _shapes(inputs: Inputs) -> list[torch.Size | None]:
    return [None if each is None else each.shape for each in inputs]
