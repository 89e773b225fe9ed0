"""The fixed part of a network, compiled once for a whole run.

Growing parts change their shapes with every task, and a graph for each of them would cost more than it gains (torch
gives up after eight). Fixed parts (``Network.trunks``) have one shape for batches of one size, whichever task, student
or teacher they belong to. So only those are compiled, only for full batches of training, and the code is reused: a run
of ten tasks compiles three graphs: trained, frozen in fine-tuning, and the teacher's.

Modules are not wrapped and parameters keep their names: while a phase is trained, a trunk's method is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cl_lightning.models.network import Network

_GRAPHS = 64
"""Limit on the graphs of one trunk in one process: a run has three."""
_Forward = Callable[..., Any]
_log = logging.getLogger(__name__)
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns that a CPU has no CUDA


class TrunkCompiler:
    """Compiler of the trunks of networks, with a cache of the compiled code."""

    def __init__(
        self, wanted: bool, backend: str | Callable[..., Any] = "inductor", *, asked_for: bool = False
    ) -> None:
        """Store the options: ``wanted`` is the off switch; ``backend`` is ``torch.compile``'s; ``asked_for``: warn if
        nothing can be compiled.
        """
        self._wanted = wanted
        self._asked_for = asked_for
        self._backend = backend
        self._failed = False
        self._compiled: dict[_Forward, _Forward] = {}

    @contextmanager
    def compiled(self, networks: Sequence[Network], batch: int) -> Iterator[None]:
        """Run the trunks of ``networks`` compiled, within the block, on ``batch`` images at a time; other batches run
        uncompiled.
        """
        trunks = [(network, name) for network in networks for name in network.trunks()] if self._wanted else []
        if self._asked_for and self._wanted and not trunks:
            self._asked_for = False
            _log.warning("trainer.compile=trunk is ignored: nothing in this method's network is compiled")
        for network, name in trunks:
            setattr(network, name, self._routed(network, name, batch))
        try:
            yield
        finally:
            for network, name in trunks:  # a copy of the network (a teacher) must not call this one's code
                delattr(network, name)

    def _routed(self, network: Network, name: str, batch: int) -> _Forward:
        plain: _Forward = getattr(type(network), name)
        if plain not in self._compiled:
            _set_up()
            self._compiled[plain] = torch.compile(plain, dynamic=False, backend=self._backend, options=self._options())

        def forward(images: Tensor, *others: Any) -> Any:
            if len(images) != batch or not self._wanted:
                return plain(network, images, *others)
            try:
                return self._compiled[plain](network, images, *others)
            except Exception as error:  # an error of the modules themselves is raised by them again
                self._give_up(error)
                return plain(network, images, *others)

        return forward

    def _options(self) -> dict[str, Any] | None:
        """Return the compiler's options. On a GPU small independent kernels, such as the casts of all weights, are
        fused into one (4 % of a step).
        """
        return {"combo_kernels": True} if self._backend == "inductor" and torch.cuda.is_available() else None

    def _give_up(self, error: Exception) -> None:
        self._wanted, self._failed = False, True
        cause = getattr(error, "inner_exception", error)
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        _log.warning("the network runs uncompiled, %s (trainer.compile=none saves the attempt)", reason)

    @property
    def given_up(self) -> bool:
        """True if compiling was wanted and has failed."""
        return self._failed


def _set_up() -> None:
    """Raise torch's limit of shapes, since jobs of a multirun share a trunk's code, and compile the backward pass
    together with the forward one, or its failure would come up in the middle of a step.
    """
    from torch._dynamo import config
    from torch._functorch import config as ahead

    config.recompile_limit = max(config.recompile_limit, _GRAPHS)
    ahead.force_non_lazy_backward_lowering = True
