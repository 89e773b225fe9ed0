"""The folder of the parts of networks that are written once, beside the checkpoints that refer to them.

A network says what nothing changes any more (``Network.settled``); a teacher is such as a whole. The name of a part is
the digest of its contents, so what is equal is one file: an extractor in network and teacher, in this checkpoint and in
the next. A part that was said to be settled and changes even so becomes another file: a checkpoint holds what is.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from cl_lightning.checkpoint.files import AlteredError, alteration, save_whole
from cl_lightning.core import network_parts
from cl_lightning.core.atomic_write import refuse_link, remove_parts
from cl_lightning.core.network_parts import FOLDER, REFERENCES, digest_of, file_of
from cl_lightning.core.types import Plain
from cl_lightning.models.network import Network

SMALLEST_PART = 1 << 20
"""Bytes from which on a part is a file of its own; a smaller one stays in the checkpoint."""
log = logging.getLogger(__name__)

_Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Known:
    """A part whose digest has been computed, and how to see that it is the same still."""

    digest: str
    parameters: tuple[tuple[str, ref[Tensor], int], ...]
    """Names, the parameters themselves, and the numbers of their changes so far, which torch counts."""
    rest: str
    """Digest of all that are no parameters."""

    @classmethod
    def of(cls, weights: _Weights) -> _Known:
        """Compute the digest."""
        return cls(digest_of(weights), _changes(weights), _rest(weights))

    def is_still(self, weights: _Weights) -> bool:
        """Return whether nothing has changed since.

        Moving a network to another device keeps its parameters and their counts, and replaces its buffers. Batch norm
        changes its statistics without counting. Hence the contents of buffers are compared, which are few numbers.
        """
        now = _changes(weights)
        return len(now) == len(self.parameters) and self._same_parameters(now) and self.rest == _rest(weights)

    def _same_parameters(self, now: tuple[tuple[str, ref[Tensor], int], ...]) -> bool:
        pairs = zip(self.parameters, now, strict=True)
        return all(a[0] == b[0] and a[1]() is b[1]() and a[2] == b[2] for a, b in pairs)


def _changes(weights: _Weights) -> tuple[tuple[str, ref[Tensor], int], ...]:
    parameters = ((name, value) for name, value in weights.items() if isinstance(value, nn.Parameter))
    return tuple((name, ref(value), value._version) for name, value in parameters)


def _rest(weights: _Weights) -> str:
    types = [f"{name} {value.dtype}" for name, value in weights.items() if isinstance(value, nn.Parameter)]
    buffers = {name: value for name, value in weights.items() if not isinstance(value, nn.Parameter)}
    return hashlib.sha256(" ".join([*types, digest_of(buffers)]).encode()).hexdigest()


class Parts:
    """The folder of the parts of a run's checkpoints, for the one process that writes there."""

    def __init__(self, checkpoints: Path) -> None:
        """Take the folder of the checkpoints."""
        self._checkpoints = checkpoints
        self._folder = checkpoints / FOLDER
        self._known: dict[tuple[str, str], _Known] = {}
        self._whole: set[str] = set()
        self._referred: dict[tuple[str, int, int], set[str]] = {}

    def write(self, role: str, network: Network, *, frozen: bool = False) -> dict[str, Plain]:
        """Write the settled parts of a network, unless they are there, and return its weights without them and the
        references to them: ``weights``, and ``parts`` where there are any.

        Args:
            role: of the network in the run; the parts of each are remembered.
            network: what is written.
            frozen: True for a network of which nothing changes any more: the rest is a part too.

        Raises:
            OSError: no space, or no right to write.
        """
        groups, rest = _groups(network)
        if frozen:
            groups, rest = {**groups, "": rest}, {}
        found = {}
        for beginning, weights in groups.items():
            if sum(value.numel() * value.element_size() for value in weights.values()) < SMALLEST_PART:
                rest |= {f"{beginning}{name}": value for name, value in weights.items()}
            else:
                found[beginning] = self._digest(role, beginning, weights)
        inside = {name: value.detach().cpu() for name, value in rest.items()}
        return {"weights": inside, **({REFERENCES: found} if found else {})}

    def _digest(self, role: str, beginning: str, weights: _Weights) -> str:
        known = self._known.get((role, beginning))
        if known is None or not known.is_still(weights):
            known = self._known[role, beginning] = _Known.of(weights)
        self._keep(known.digest, weights)
        return known.digest

    def _keep(self, digest: str, weights: _Weights) -> None:
        """Make sure that the file of a part is there; one of an earlier process is checked once."""
        file = file_of(self._folder, digest)
        if digest in self._whole and file.is_file():
            return
        if not (file.is_file() and _is_whole(file)):
            content = {name: value.detach().cpu() for name, value in weights.items()}
            save_whole(file, network_parts.content_of(digest, content))
        self._whole.add(digest)

    def remove_unreferred(self) -> None:
        """Remove the parts that no checkpoint refers to any more, whatever its name, and those half written."""
        if not self._folder.is_dir():
            return
        refuse_link(self._folder)
        try:
            needed = set().union(*map(self._referred_by, self._checkpoints.glob("*.pt")))
        except OSError as error:  # a checkpoint that cannot be read just now may need any of them
            log.warning("parts of checkpoints that are not needed any more stay: %s", error)
            return
        for file in self._folder.iterdir():
            if network_parts.is_part(file) and file.stem not in needed:
                file.unlink(missing_ok=True)
                self._whole.discard(file.stem)
        remove_parts(self._folder)

    def _referred_by(self, file: Path) -> set[str]:
        """Return the digests that a checkpoint refers to; none for a file that cannot be used anyway."""
        status = file.stat()
        key = (file.name, status.st_mtime_ns, status.st_size)
        if key not in self._referred:
            self._referred[key] = _referred_by(file)
        return self._referred[key]


def _groups(network: Network) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the weights of the settled parts, by the beginning of their names and without it, and the others."""
    rest: dict[str, Tensor] = dict(network.state_dict(keep_vars=True))
    groups: dict[str, dict[str, Tensor]] = {}
    for part in network.settled():
        own = [name for name in rest if name.startswith(f"{part}.")]
        groups[f"{part}."] = {name.removeprefix(f"{part}."): rest.pop(name) for name in own}
    return groups, rest


def _is_whole(file: Path) -> bool:
    try:
        return alteration(file) is None
    except AlteredError:
        return False


def _referred_by(file: Path) -> set[str]:
    try:  # mapped: the tensors are not read
        payload: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return network_parts.references(payload)
    except OSError:
        raise
    except Exception:  # any error of a reader that meets foreign bytes
        return set()
