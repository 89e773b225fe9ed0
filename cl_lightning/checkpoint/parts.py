"""Parts of networks that cannot change any more, each written once in a run (ADR 0035; their files:
``core/network_parts.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from cl_lightning.core.checked_file import save_whole
from cl_lightning.core.network_parts import FOLDER, PARTS, digest_of, part_file, references
from cl_lightning.core.types import Plain
from cl_lightning.models.network import Network

SMALLEST = 1 << 20
"""Bytes of a part from which on it is worth a file of its own."""

_Signature = tuple[tuple[tuple[str, int, int], ...], str]


class PartStore:
    """The files of a run's parts, in its folder of checkpoints.

    A part is hashed once in a process: as long as its parameters are the same objects in the same version (torch counts
    what is done to a tensor in place) and its buffers, which are small, have the same values, its digest is known. That
    holds when the network moves to another device too.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints = checkpoints
        self._known: dict[_Signature, tuple[str, dict[str, nn.Parameter]]] = {}
        self._referred: dict[str, set[str]] = {}

    def keep(self, tensors: Mapping[str, Tensor]) -> str | None:
        """Write a part, unless it is there, and return its digest; ``None`` for one too small for a file."""
        if sum(value.numel() * value.element_size() for value in tensors.values()) < SMALLEST:
            return None
        learnt = {name: value for name, value in tensors.items() if isinstance(value, nn.Parameter)}
        signature = (
            tuple((name, id(value), value._version) for name, value in learnt.items()),
            digest_of({name: value for name, value in tensors.items() if name not in learnt}),
        )
        if signature not in self._known:
            # Holding on to the parameters keeps others from getting their identity.
            self._known[signature] = digest_of(tensors), learnt
        digest = self._known[signature][0]
        path = part_file(self._checkpoints, digest)
        if not path.is_file():
            save_whole(path, {name: value.detach().cpu() for name, value in tensors.items()})
        return digest

    def tidy(self, kept: Collection[Path], last: Path, used: set[str]) -> None:
        """Remove the parts that no checkpoint of ``kept`` refers to; ``last`` was just written and refers to ``used``.

        Nothing is removed while a checkpoint cannot be read.
        """
        self._referred[last.name] = used
        names = {path.name for path in kept}
        self._referred = {name: digests for name, digests in self._referred.items() if name in names}
        self._known = {key: value for key, value in self._known.items() if value[0] in used}
        folder = self._checkpoints / FOLDER
        if not folder.is_dir() or folder.is_symlink():
            return
        for path in kept:
            if path.name not in self._referred:
                found = _references_in(path)
                if found is None:
                    return
                self._referred[path.name] = found
        wanted = {f"{digest}.pt" for digests in self._referred.values() for digest in digests}
        for entry in folder.iterdir():
            if entry.name not in wanted and (entry.suffix == ".pt" or entry.name.endswith(".part")):
                entry.unlink(missing_ok=True)


def _references_in(path: Path) -> set[str] | None:
    """Return the digests in a checkpoint without reading its tensors; ``None`` if it cannot be read."""
    with suppress(Exception):  # any error of a reader that meets foreign bytes
        return references(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    return None


def network_state(network: Network, parts: PartStore | None, *, settled: bool = False) -> dict[str, Plain]:
    """Return a network's description and weights, those that nothing changes any more as references to ``parts``.

    ``settled`` says that this holds for all of it (a teacher).
    """
    state: dict[str, Tensor] = network.state_dict(keep_vars=True)
    referred: dict[str, list[str]] = {}
    for module in ([network] if settled else network.settled()) if parts is not None else []:
        own = {id(value) for value in _tensors(module)}
        tensors = {name: value for name, value in state.items() if id(value) in own}
        digest = parts.keep(tensors) if parts is not None else None
        if digest is not None:
            referred[digest] = list(tensors)
            state = {name: value for name, value in state.items() if name not in tensors}
    weights = {name: value.detach().cpu() for name, value in state.items()}
    return {"structure": network.structure(), "weights": weights, **({PARTS: referred} if referred else {})}


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
