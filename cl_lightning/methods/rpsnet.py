"""RPS-Net: random path selection.

Rajasegaran, Hayat, Khan, Khan & Shao (NeurIPS 2019), rebuilt by a description of the authors' code. What was learnt is
kept in place: every few tasks a random path through a network of parallel modules adds what no earlier path has
(``models/path_network.py``). In a task:

1. **hold out** images of each new class, never trained on, within the memory's budget: they choose between paths;
2. **grow**: copy a frozen teacher; add rows to the classifier; every ``path_every`` tasks, draw paths, one module of
   each layer uniformly, one path a candidate;
3. for each candidate, from the same start: **train** what its path brought, the links and the classifier on the new
   images and the exemplars: L = CE + phi KL(softmax(u / T) || softmax(z / T)), where u has the teacher's scores for old
   classes and the one-hot label for new ones; phi rises with the tasks (equation 5). Then **score** it: accuracy on
   what is held out. The best one goes on. Other tasks go on with the path that there is, and have one candidate;
4. keep a **random** choice of exemplars.

The authors choose candidates *and* epochs by accuracy on test images. That is left out: its numbers are not to be
reached honestly. ``reference_parity`` brings their other quirks back: a teacher that is run with the new path's
untrained modules, distillation over classes to come whose summands are clamped one by one, frozen modules whose
batch-norm statistics move, and no residual in layer 7.

Legend: B batch, C classes seen, K rows of the classifier.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Herd,
    HoldOut,
    Outputs,
    Phase,
    Plain,
    PlanItem,
    Task,
)
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.distillation import divergence_from
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.allocated_head import AllocatedLinear
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.path_network import LAYERS, PathBackbone
from cl_lightning.models.replica_norm import ReplicaBatchNorm2d, hold_statistics

MAIN_PARTS = ("backbone", "classifier")
"""Parts that a phase trains: what the newest path brought, the links, the classifier."""
BEGIN, SCORE, CHOOSE = "begin_", "score_", "choose"
_NUMBERS = ("paths_key", "best_candidate", "best_right")
_START, _BEST = "start.", "best."
"""Names of numbers in the state, and what names of weights in it begin with."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RPSNetOptions:
    """Options of RPS-Net; ``conf/method/rpsnet.yaml`` has the authors' values."""

    modules: int
    """Modules of a layer that a path is drawn from, M >= 1."""
    path_every: int
    """Tasks from one path to the next, J >= 1."""
    candidates: int
    """Paths that are tried, >= 1."""
    temperature: float
    growth: float
    """Growth of phi with each task from the fourth on, published 2.5 for CIFAR-100 and 10 for ImageNet."""
    held_share: float
    """Share of each class's images in the memory that are held out of training."""
    reference_parity: bool
    """True: with the quirks of the authors' code, but for the choice by test images."""

    def distillation_weight(self, task: int) -> float:
        """Return phi for a task, from 0: 1, 1, 1, then once, twice ... the growth."""
        return 1.0 if task < 3 else self.growth * (task - 2)


@dataclass(frozen=True)
class _Candidate:
    """A candidate that has been trained."""

    number: int
    right: int
    """Right answers on what is held out."""
    weights: dict[str, Tensor]
    """Weights that its training has moved, by name."""


class RPSNet(Method):
    """The method of random paths."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, main: Phase, options: RPSNetOptions) -> None:
        """``network`` is on a :class:`PathBackbone`; with parity its head is allocated for all classes."""
        super().__init__(network)
        self._main = main
        self._options = options
        self._paths_key: Key | None = None
        self._start: dict[str, Tensor] = {}
        """Weights that candidates move, as they were before the first one; empty outside of their phases."""
        self._best: _Candidate | None = None

    @property
    def _backbone(self) -> PathBackbone:
        return _paths_of(self.network)

    # ---- plan --------------------------------------------------------------------------------------------------------

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: hold out, grow, learn each candidate or the one path, choose, keep exemplars, evaluate."""
        learn: list[PlanItem] = [Fit(self._main)]
        if self._draws(task) and self._options.candidates > 1:
            numbers = range(self._options.candidates)
            each: list[list[PlanItem]] = [
                [Act(f"{BEGIN}{k}"), Fit(self._phase(k)), Act(f"{SCORE}{k}")] for k in numbers
            ]
            learn = [*chain.from_iterable(each), Act(CHOOSE)]
        return [HoldOut(self._options.held_share), Grow(), *learn, Herd(at_random=True), Evaluate()]

    def _draws(self, task: Task) -> bool:
        return task.index > 0 and task.index % self._options.path_every == 0

    def _phase(self, candidate: int) -> Phase:
        return replace(self._main, name=f"path_{candidate}")

    # ---- candidates --------------------------------------------------------------------------------------------------

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, add rows, and the first candidate's path where one is drawn."""
        self.teacher = frozen_copy(self.network) if task.index > 0 else None
        self.network.grow(task.num_new, key)
        self._start, self._best = {}, None
        self._paths_key = key.fold("paths") if self._draws(task) else None
        if self._draws(task):
            self._add_path(0)

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Begin a candidate, score it, or choose the best one."""
        if name == CHOOSE:
            self._choose()
        elif name.startswith(BEGIN):
            self._begin(int(name.removeprefix(BEGIN)))
        elif name.startswith(SCORE):
            self._score(int(name.removeprefix(SCORE)), look)
        else:
            super().act(name, task, look)

    def drawn_path(self, candidate: int) -> tuple[int, ...]:
        """Return the modules of a candidate's path, a layer each."""
        assert self._paths_key is not None
        key, layers = self._paths_key.fold(candidate), torch.arange(LAYERS)
        return tuple(rng.integers(key, layers, self._options.modules).tolist())

    def _begin(self, candidate: int) -> None:
        """Start a candidate from where all of them start."""
        if candidate == 0:
            self._start = self._moved(shared_alone=True)
            return
        self._take_back()
        self._add_path(candidate)

    def _take_back(self) -> None:
        """Undo a candidate."""
        for backbone in self._followers():
            backbone.remove_path()
        self._load(self._start)

    def _add_path(self, candidate: int) -> None:
        """Add a candidate's path; its modules are the same whenever they are drawn."""
        assert self._paths_key is not None
        for backbone in self._followers():
            with rng.torch_seeded(self._paths_key.fold(candidate, "modules")):
                backbone.add_path(self.drawn_path(candidate))
        if self.teacher is not None:
            self.teacher.eval().requires_grad_(False)

    def _followers(self) -> list[PathBackbone]:
        """Return the backbones that a new path is added to: with parity the teacher's too, which never trains it."""
        followed = [self.network, self.teacher if self._options.reference_parity else None]
        return [_paths_of(network) for network in followed if network is not None]

    def _score(self, candidate: int, look: DataAccess) -> None:
        """Count right answers on what is held out; keep the candidate if no earlier one has as many."""
        rows = [(label, look.held_out[label]) for label in sorted(look.held_out)]
        logits = look.embed(torch.cat([each for _, each in rows]), lambda x: self.network.logits(self.network(x)))
        labels = torch.cat([torch.full((len(each),), label) for label, each in rows])
        right = int((logits.argmax(dim=1) == labels).sum())
        path = self._backbone.paths[-1]
        log.info("path %d, %s: %d of %d held-out images right", candidate + 1, list(path), right, len(labels))
        if self._best is None or right > self._best.right:
            self._best = _Candidate(candidate, right, self._moved())

    def _choose(self) -> None:
        """Go on with the best candidate."""
        assert self._best is not None
        self._take_back()
        self._add_path(self._best.number)
        self._load(self._best.weights)
        log.info("path %d goes on", self._best.number + 1)
        self._start, self._best, self._paths_key = {}, None, None

    def _moved(self, *, shared_alone: bool = False) -> dict[str, Tensor]:
        """Return copies of what the newest path's training moves, by name; ``shared_alone``: without the path's own
        modules.
        """
        trained = {f"backbone.{name}": module for name, module in self._backbone.trained_modules().items()}
        modules: dict[str, nn.Module] = {**trained, "classifier": self.network.classifier}
        if self._options.reference_parity:  # statistics of frozen modules move too
            every = self.network.named_modules()
            modules |= {name: module for name, module in every if isinstance(module, ReplicaBatchNorm2d)}
        moved = {
            f"{name}.{key}": value.detach().cpu().clone()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }
        own = tuple(f"{name}." for name in trained if not name.endswith(".link"))
        return {name: value for name, value in moved.items() if not (shared_alone and name.startswith(own))}

    def _load(self, weights: dict[str, Tensor]) -> None:
        """Put copies of :meth:`_moved` back. Raises ``InvalidFileError`` for those of another network."""
        state = self.network.state_dict()
        if any(name not in state or state[name].shape != value.shape for name, value in weights.items()):
            raise InvalidFileError("the state", "holds a path of another network", "resume a run of method=rpsnet")
        with torch.no_grad():
            for name, value in weights.items():
                state[name].copy_(value)

    # ---- training ----------------------------------------------------------------------------------------------------

    def train_mode(self, phase: Phase) -> None:
        """Hold the statistics of modules that the phase does not train."""
        self.network.train()
        if not self._options.reference_parity:
            parts = self.network.parts()
            hold_statistics(self.network, [p for name in phase.trains for p in parts[name]])

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification among the classes seen, and from the second task on distillation."""
        terms = {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}
        if self.teacher is None:
            return terms
        with torch.no_grad():
            old = self.teacher.logits(self.teacher(batch.images))
        targets = torch.cat([old, batch.targets[:, task.num_old :].to(old.dtype)], dim=1)
        scores = outputs.logits
        head = self.network.classifier
        if self._options.reference_parity:
            assert isinstance(head, AllocatedLinear)
            scores = head.all_scores(outputs.features.embeddings[:, 0])
            targets = F.pad(targets, (0, scores.shape[1] - targets.shape[1]))
        distilled = divergence_from(
            scores, targets, self._options.temperature, rectified=self._options.reference_parity
        )
        return {**terms, "distillation": self._options.distillation_weight(task.index) * distilled}

    # ---- state -------------------------------------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Plain]:
        """Return the key that paths are drawn from, the candidates' start and the best one so far, without nesting."""
        best = self._best
        numbers = (
            None if self._paths_key is None else self._paths_key.value,
            None if best is None else best.number,
            None if best is None else best.right,
        )
        kept = {_START: self._start, _BEST: {} if best is None else best.weights}
        weights = {f"{prefix}{name}": value for prefix, of_one in kept.items() for name, value in of_one.items()}
        return {**dict(zip(_NUMBERS, numbers, strict=True)), **weights}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore them. Raises ``InvalidFileError`` for anything else than a value of :meth:`extra_state`."""
        weights = {name: value for name, value in state.items() if name.startswith((_START, _BEST))}
        key, number, right = (state.get(name) for name in _NUMBERS)
        whole = all(value is None or isinstance(value, int) for value in (key, number, right))
        if set(state) != {*_NUMBERS, *weights} or not whole or (number is None) != (right is None):
            given = ", ".join(state) or "nothing"
            raise InvalidFileError("the state", f"holds {given[:80]}, and no paths", "resume a run of method=rpsnet")
        self._paths_key = None if key is None else Key(key)
        self._start = _without(_START, weights)
        self._best = None if number is None or right is None else _Candidate(number, right, _without(_BEST, weights))


def _without(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _paths_of(network: nn.Module) -> PathBackbone:
    backbone = network.backbone
    assert isinstance(backbone, PathBackbone)
    return backbone
