"""A training step on a GPU as one launch (a CUDA graph).

A step of a 32-pixel transformer is a thousand kernels of a few microseconds each: to start them one by one takes the
host several times as long as the GPU needs to run them. All steps of a phase are alike but for what they are fed, so
one is recorded and then replayed: what it is fed is copied to where the recorded step reads it.

What the recorded step reads of the host (numbers, branches taken) is as it was when it was recorded. So only a method
that says so (``Method.cuda_graph_safe``) is replayed, and the learning rate lies on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[..., Tensor]
Inputs = Sequence[Tensor | None]
"""What a step is fed, field by field; a field that the steps of a phase do not have is None in all of them."""
_log = logging.getLogger(__name__)

_EAGER_STEPS = 3
"""Before one is recorded: libraries set themselves up, code is compiled, the optimiser makes its moments."""


class Recorder(Protocol):
    """Runs and records work beside the current stream of the device."""

    def run(self, work: Work, inputs: Inputs) -> Tensor:
        """Do it."""
        ...

    def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], object], Tensor]:
        """What does it again, reading ``inputs`` where they lie, and where the outcome will be; does not do it."""
        ...


class CudaRecorder:
    """By CUDA graphs."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def run(self, work: Work, inputs: Inputs) -> Tensor:
        """On the stream that records: gradients remember theirs."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outcome = work(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outcome

    def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], object], Tensor]:
        """A graph; its memory is its own until it is dropped."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            outcome = work(*inputs)
        return graph.replay, outcome


class GraphedStep:
    """``work``, a function of tensors, recorded once it has run a few times; what is fed in other shapes, as the last
    batch of an epoch may be, runs unrecorded.

    What is fed is copied to the same place from the first step on, not only once a step is recorded: code that was
    compiled for it then is what is recorded, whatever tensors come from outside. (To compile while recording fails.)
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
        """The outcome; that of a replay is overwritten by the next one."""
        if self._replay is None and not self._given_up and _size(inputs) > _size(self._inputs):
            self._make_room(inputs)
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

    def _make_room(self, inputs: Inputs) -> None:
        """The first batch, or one that is larger: who goes on in the middle of a phase may meet the small one first."""
        self._inputs = [
            None if each is None else torch.empty_like(each, memory_format=torch.contiguous_format) for each in inputs
        ]
        self._runs = 0

    def _recorded(self) -> Tensor:
        reason = self._record()
        if reason is not None:  # not where the error is caught: it holds what the half-recorded step has taken
            self._given_up = True
            _log.warning("steps are not replayed, %s (trainer.cuda_graphs=false saves the attempt)", reason)
            return self._recorder.run(self._work, self._inputs)
        assert self._replay is not None
        assert self._outcome is not None
        self._replay()
        return self._outcome

    def _record(self) -> str | None:
        """Why it did not work, in a line; ``None`` if it did."""
        try:
            self._replay, self._outcome = self._recorder.record(self._work, self._inputs)
        except RuntimeError as error:
            cause = error.__context__ or error  # the end of a recording fails too, and knows less
            return str(cause).split("\n")[0]
        return None

    @property
    def recorded(self) -> bool:
        """Whether steps are replayed by now."""
        return self._replay is not None

    def close(self) -> None:
        """Give the recorded step's memory back."""
        self._replay, self._outcome, self._given_up = None, None, True
        self._inputs.clear()


def _size(inputs: Inputs) -> int:
    return sum(each.numel() for each in _present(inputs))


def _present(inputs: Inputs) -> list[Tensor]:
    return [each for each in inputs if each is not None]


def _shapes(inputs: Inputs) -> list[torch.Size | None]:
    return [None if each is None else each.shape for each in inputs]
