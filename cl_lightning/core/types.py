"""Shared data types, plain and frozen, that every package may import.

Nothing here knows Lightning, Hydra or a method. A phase, a plan item or a view is a value that can be
printed, compared and stored in a checkpoint; other packages carry out what it means.

Legend: B batch, T tasks seen, D width, C classes seen, F feature size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from torch import Tensor

from cl_lightning.core.gradient_noise import GradientNoise

T = TypeVar("T")

CLASS_INCREMENTAL = "class_incremental"
"""Protocol: the task of a test image is unknown, all classes seen compete."""
TASK_INCREMENTAL = "task_incremental"
"""Protocol: the task of a test image is given, its own classes compete."""
TASK_INFERENCE = "task_inference"
"""Protocol: the task of a test image is predicted, as that of the class with the highest score. A correct class implies
the correct task, so this is an upper bound of class-incremental accuracy.
"""
PROTOCOLS = (CLASS_INCREMENTAL, TASK_INCREMENTAL, TASK_INFERENCE)

Plain = Any
"""A value made of None, bool, int, float, str, list, tuple and dict: what ``weights_only`` loading accepts."""


@dataclass(frozen=True)
class Task:
    """One step of a scenario: the classes that it brings and the rows of their images.

    ``classes`` are *global labels*: consecutive integers in order of arrival, so that a task's
    first class is also the number of classes seen before it.
    """

    index: int
    classes: tuple[int, ...]
    names: tuple[str, ...]
    train: Tensor
    """(n,) int64, rows of the scenario's training source that belong to this task."""
    test: Tensor
    """(m,) int64, rows of the scenario's evaluation source that belong to this task."""

    @property
    def num_old(self) -> int:
        """Number of classes seen before this task."""
        return self.classes[0]

    @property
    def num_new(self) -> int:
        """Number of classes that this task brings."""
        return len(self.classes)

    @property
    def num_seen(self) -> int:
        """Number of classes seen once this task has been learnt."""
        return self.classes[-1] + 1


@dataclass(frozen=True)
class Features:
    """Output of a network's body for a batch of images, before the classifier."""

    embeddings: Tensor
    """(B, T, D): one embedding a task (or an extractor); T = 1 where nothing but the head grows."""
    maps: tuple[Tensor, ...] = ()
    """Intermediate activations, from the input side on, for losses that use them."""


@dataclass(frozen=True)
class Outputs:
    """Output of a training forward pass: class scores, and what else the losses need."""

    logits: Tensor
    """(B, C) raw scores over all classes seen, in order of arrival."""
    features: Features
    auxiliary: Tensor | None = None
    """(B, C_new + 1) scores of the auxiliary head (0 = any old class), where there is one."""
    reconstruction: Tensor | None = None
    """(B,) error of each image's masked patches, where these are reconstructed."""


@dataclass(frozen=True)
class Readout:
    """Rule by which classes are read from a network's features, as data: the scores and their probabilities."""

    probability: str = "softmax"
    """``softmax``: over all scores together, so that the probabilities of an image sum to one. ``sigmoid``: over each
    score by itself, for scores trained as one yes-or-no question a class; they need not sum to one. ``none``: the
    scores rank the classes, and nothing makes probabilities of them.
    """
    temperature: float = 1.0
    """Divisor of the scores before that, > 0: the temperature of training."""
    means: Tensor | None = None
    """(C, F) class means of normalised features: scores are minus the squared distances to them. ``None``: the
    network's own scores.
    """
    by_network: bool = True
    """True if network and means determine the scores; False if the method adds a step (it infers a task), so that no
    exported graph has this read-out.
    """

    @property
    def ranks_only(self) -> bool:
        """True if there are no probabilities."""
        return self.probability == "none"

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return probabilities (B, C) in [0, 1] of scores (B, C): a softmax is over the given classes alone. Raises
        ``ValueError`` where there are none (:attr:`ranks_only`).
        """
        if self.ranks_only:
            raise ValueError("these scores rank the classes: there are no probabilities, take the highest score")
        scaled = scores.float() / self.temperature
        return scaled.sigmoid() if self.probability == "sigmoid" else scaled.softmax(dim=-1)


@dataclass(frozen=True)
class Batch:
    """Input of a training step, on the device, augmented, normalised and mixed."""

    images: Tensor
    """(B, channels, height, width) float."""
    labels: Tensor
    """(B,) int64 global labels (before mixing)."""
    targets: Tensor
    """(B, C) float, rows sum to one: one-hot, or smoothed and mixed."""
    weights: Tensor | None = None
    """(B,) float, weights of the images in what learns their classes, mean 1 over the phase's images; ``None``: all 1.
    Those of mixed images are mixed.
    """
    _made: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def cached(self, key: object, compute: Callable[[], T]) -> T:
        """Return what ``compute`` returns for this batch, computed once a ``key``, however many passes a step takes."""
        if key not in self._made:
            self._made[key] = compute()
        value: T = self._made[key]
        return value


class View(StrEnum):
    """Samples that a phase uses; ``data.phase_views`` selects each by a pure function. Images that are held out are in
    none but ``HELD_OUT``.
    """

    NEW = "new"
    """The task's training images."""
    MERGED = "merged"
    """The task's training images and the rehearsal memory, appended once."""
    HELD_OUT = "held_out"
    """The images that are held out of training (``HoldOut``), the same number of each class where there are enough."""
    MEMORY = "memory"
    """The rehearsal memory alone (balanced: the same number of exemplars for each class, where there are enough)."""
    BALANCED = "balanced"
    """The memory of old classes and, for each new class, as many images as an old class has."""
    CUMULATIVE = "cumulative"
    """All training images of all tasks so far: joint training, no rehearsal protocol."""


class Order(StrEnum):
    """Order in which an epoch goes through its samples."""

    SHUFFLED = "shuffled"
    """Every image once, in random order."""
    REPEATED = "repeated"
    """Repeated augmentation: three adjacent copies of a third of the images (DyTox's published sampler)."""
    SEQUENTIAL = "sequential"
    """Stored order, the same every epoch."""


@dataclass(frozen=True)
class Sampling:
    """Rule by which an epoch is sampled from a view."""

    order: Order = Order.SHUFFLED
    ignore_seed: bool = False
    """The permutation depends on the epoch number alone (as published), not on the run's seed and task."""
    drop_last: bool = True
    """Leave out an incomplete last batch (never the only one)."""
    copies: int = 1
    """Times an epoch goes over each image, at least 1."""
    fixed: bool = False
    """An image's copies are augmented as in the phase's first epoch in all others too."""


@dataclass(frozen=True)
class Mixing:
    """MixUp: convex combinations of image pairs and of their targets."""

    alpha: float
    """Both parameters of the Beta distribution that the ratio is drawn from, > 0."""
    smoothing: float = 0.1
    """Label smoothing inside the mixed targets, in [0, 1)."""


@dataclass(frozen=True)
class Sharpness:
    """Sharpness-aware minimisation: the gradient is taken at the worst point nearby."""

    rho: float
    """Radius of the neighbourhood, > 0."""
    adaptive: bool = True
    """Scale the neighbourhood with each weight's own size (ASAM)."""


@dataclass(frozen=True)
class Optimiser:
    """Hyper-parameters of the optimiser."""

    name: str
    """``adamw`` or ``sgd``."""
    lr: float
    weight_decay: float = 0.0
    decay_vectors: bool = True
    """Apply weight decay to tensors with fewer than two dimensions too (biases, norms)."""
    momentum: float = 0.9
    decay_by_norm: bool = False
    """Weight decay is times the squared norm of each tensor (End-to-End's public code)."""
    reference_batch: int | None = None
    """Batch size of ``lr``: the rate is multiplied by (images per optimiser step) / this. None: it is not scaled."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate of an epoch, constant within it."""

    name: str
    """``constant``, ``cosine`` or ``steps``."""
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    min_lr: float = 0.0
    milestones: tuple[float, ...] = ()
    """For ``steps``: shares of the phase in (0, 1) after which the rate is multiplied by ``gamma``."""
    gamma: float = 0.1
    lag: bool = False
    """Epoch e uses the rate of epoch e - 1 (as published: the schedule is stepped after each epoch)."""


@dataclass(frozen=True)
class Phase:
    """One ``Trainer.fit``: a paper's training schedule as data."""

    name: str
    view: View
    epochs: int
    optimiser: Optimiser
    schedule: Schedule
    trains: tuple[str, ...]
    """Names of the network's parts (``Network.parts``) that are optimised; the others are frozen."""
    sampling: Sampling = field(default_factory=Sampling)
    mixing: Mixing | None = None
    sharpness: Sharpness | None = None
    drop_path_in_frozen: bool = False
    """Keep stochastic depth in parts that are not trained (as published)."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Part -> its learning rate relative to the optimiser's (1 if absent); the schedule's own rates, for warm-up and at
    the end, are the same for all parts.
    """
    gradient_clamp: float | None = None
    """Largest size of each element of the gradient, which is the mean over all processes; None: any."""
    gradient_norm: float | None = None
    """Largest norm of the whole gradient, likewise; None: any."""
    gradient_noise: GradientNoise | None = None
    augmented: bool = True
    """False: the images as evaluation sees them, whatever the run's augmentation."""
    decays: Mapping[str, float] = field(default_factory=dict)
    """Part -> its weight decay relative to the optimiser's (1 if absent)."""

    def decayed(self, factor: float) -> Phase:
        """Return the phase with ``factor`` times its weight decay: a plan may give each task another one."""
        return replace(self, optimiser=replace(self.optimiser, weight_decay=factor * self.optimiser.weight_decay))


@dataclass(frozen=True)
class PhaseCheckpoint:
    """The point at which a phase was interrupted, beside its network: all that is needed to resume from there."""

    steps: int
    """Optimiser steps taken, at least one."""
    optimiser: Plain
    """Moments and counters of the optimiser."""
    precision: Plain
    """State that mixed precision carries from step to step (the loss scale in half precision)."""
    stopping: Plain = None
    """Checks of early stopping so far and the best network; None without it."""


@dataclass(frozen=True)
class Grow:
    """Let the method extend its network by the task's classes (and keep a teacher, freeze, initialise from data)."""


@dataclass(frozen=True)
class Fit:
    """Train for one phase."""

    phase: Phase


@dataclass(frozen=True)
class HoldOut:
    """Hold images of the task's classes out of training, before anything is trained on them (BiC, Wu et al. 2019).

    They stay in the memory beside the exemplars and count against its budget; none of them is ever trained on, averaged
    or herded. As exemplars do, they become fewer with each task.
    """

    share: float
    """Share of each class's images in the memory, in (0, 1)."""


@dataclass(frozen=True)
class Herd:
    """Choose exemplars of the new classes and shrink the old ones' lists."""

    augmented: bool = False
    """Embed randomly augmented images (as published for DyTox), not clean ones."""
    distinct: bool = False
    """iCaRL's own rule: an image that was chosen cannot win again (``memory.herding.herd_distinct``)."""
    normalised: bool = True
    """Features are divided by their length."""
    again: bool = False
    """The task's classes have been herded before, for a phase that trained on them: choose anew, in place of that."""
    old_too: bool = False
    """Rank the old classes anew too, each among the exemplars that it still has."""
    as_old: bool = False
    """Keep as many of a new class as an old one has, beyond the budget: for a phase that trains on both alike. Another
    herding ``again`` ends it.
    """
    at_random: bool = False
    """A random choice in place of herding, drawn by the run's key: no image is looked at."""


@dataclass(frozen=True)
class Act:
    """A step of the method between phases: weight alignment, class means, pruning ..."""

    name: str


@dataclass(frozen=True)
class Evaluate:
    """Count correct answers on every task seen so far, for every read-out of the method."""


PlanItem = Grow | Fit | HoldOut | Herd | Act | Evaluate


@dataclass(frozen=True)
class Progress:
    """Position within a phase, for hooks around a step."""

    step: int
    """Optimiser steps done in this phase."""
    total_steps: int
    epoch: int
    """Epoch of the last of these steps, from 0."""
    epochs: int
    seen: float = 0.0
    """Share of an epoch's images that have passed when the next step begins, in [0, 1): 0 for an epoch's first step."""


Embed = Callable[[Tensor], Tensor]
"""Normalised images (B, channels, height, width) -> (B, F)."""


class DataAccess(Protocol):
    """A method's access to data outside of training: the memory and the task's own images."""

    exemplars: dict[int, Tensor]
    """Global label -> training rows in the memory, of all replicas together, ascending; none that is held out."""
    held_out: dict[int, Tensor]
    """Global label -> training rows that are held out, as many of a new class as of an old one; empty without them."""
    flips: bool
    """True if a mirrored image is still an image of its class (not so for digits)."""

    def rows_of(self, label: int) -> Tensor:
        """Return the training rows of a class of the current task, without those that are held out."""
        ...

    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        """Embed clean (un-augmented) training images; (n, F) float32 on the CPU, in the order of ``rows``."""
        ...
