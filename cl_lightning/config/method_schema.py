"""Options of the methods, as typed dataclasses; what each means stands beside it in ``conf/method``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from cl_lightning.config.bounds import MANY, Each, Range, bounded, choice, number, share, whole
from cl_lightning.config.chosen import chosen
from cl_lightning.config.kinds import file
from cl_lightning.config.phase_use import used

MOST_EPOCHS = 10**6
"""Epochs of a phase, scaled or not."""
MOST = 1e6
"""A factor, a weight or a temperature beyond which nothing is left to weigh."""
AUGMENTATIONS = ("none", "basic", "brightness", "randaugment")


def scale(default: float | None = None) -> Any:
    """Return a field for a factor of epochs or of a learning rate."""
    return number(default, above=0.0, at_most=MOST)


def _temperature(default: float) -> Any:
    """Return a field for what scores are divided by."""
    return number(default, above=0.0, at_most=MOST)


def _weight(default: float) -> Any:
    """Return a field for the factor of a loss; 0 leaves it out."""
    return number(default, at_most=MOST)


@dataclass
class PhaseConfig:
    """A paper's training schedule for one phase; a scale of its own, where it has one, is in place of the run's."""

    epochs: int = whole(at_least=1, at_most=MOST_EPOCHS)
    epochs_scale: float | None = scale()
    optimiser: str = choice(MISSING, ("adamw", "sgd"))
    lr: float = number(above=0.0)
    lr_scale: float | None = scale()
    weight_decay: float = number(0.0, at_most=MOST)
    decay_vectors: bool = True
    momentum: float = share(0.9)
    reference_batch: int | None = whole(None, at_least=1)
    schedule: str = choice("constant", ("constant", "cosine", "steps"))
    warmup_epochs: float = number(0.0, at_most=float(MOST_EPOCHS))
    warmup_lr: float = number(0.0)
    min_lr: float = number(0.0)
    milestones: list[float] = field(
        default_factory=list,
        metadata=bounded(Each(Range(0, 1, above=True, below=True), "[0.5,0.8]", "are no shares of the phase")),
    )
    gamma: float = number(0.1, above=0.0, at_most=MOST)


@dataclass
class MixupConfig:
    """MixUp of image pairs."""

    alpha: float = number(0.8, at_most=MOST)
    smoothing: float = share(0.1)
    in_finetuning: bool = True


@dataclass
class SamConfig:
    """Sharpness-aware minimisation."""

    rho: float = number(3.0, at_most=MOST)
    adaptive: bool = True
    from_task: int = whole(1)


@dataclass
class MethodConfig:
    """What all methods have."""

    name: str = chosen("method")
    encoder: str = chosen("model")
    recipe: str | None = chosen("recipe", None)
    augmentation: str = choice("basic", AUGMENTATIONS)
    rehearsal: bool = True
    main: PhaseConfig = field(default_factory=PhaseConfig)


@dataclass
class TaskTransformerConfig(MethodConfig):
    """What the transformers of DyTox's family have in common."""

    distillation: bool = True
    temperature: float = _temperature(1.0)
    divergence_weight: float = _weight(0.1)
    independent_heads: bool = True
    mixup: MixupConfig | None = None
    sam: SamConfig | None = None
    finetuning: PhaseConfig | None = field(default=None, metadata=used(balanced=True))


@dataclass
class DyToxConfig(TaskTransformerConfig):
    """DyTox, DyTox+ and DyTox++."""

    token_expansion: bool = True


@dataclass
class NeighboursConfig:
    """Distillation of neighbourhoods."""

    form: str = choice("none", ("none", "similarity", "distance", "order"))
    k: int = whole(8, at_least=1)
    temperature: float = _temperature(0.1)
    margin: float = number(0.1, at_most=MOST)
    weight: float = _weight(1.0)


@dataclass
class DAFormerConfig(TaskTransformerConfig):
    """DAFormer-M and DAFormer-S."""

    bank_expansion: bool = True
    out_proj: bool = False
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)


@dataclass
class FinetuneConfig(MethodConfig):
    """Plain training on new images and memory."""


@dataclass
class JointConfig(MethodConfig):
    """Training on all data so far."""


@dataclass
class ICaRLConfig(MethodConfig):
    """iCaRL."""


@dataclass
class WAConfig(MethodConfig):
    """Weight alignment."""

    temperature: float = _temperature(2.0)
    clip: bool = True


@dataclass
class DERConfig(MethodConfig):
    """DER without pruning."""

    auxiliary_weight: float = _weight(1.0)
    temperature: float = _temperature(5.0)
    classifier: PhaseConfig = field(default_factory=PhaseConfig, metadata=used(balanced=True))


@dataclass
class ViTMethodConfig(MethodConfig):
    """What the methods that start from one trained vision transformer have in common."""

    mixup: MixupConfig | None = None
    backbone_task: bool | None = None
    backbone_file: str | None = file(None)
    backbone: PhaseConfig = field(default_factory=PhaseConfig, metadata=used(first_task_if="backbone_task"))


@dataclass
class MEATConfig(ViTMethodConfig):
    """MEAT, and what is left of it without some of its masks."""

    token_masks: bool = True
    token_mask_blocks: Any = "all"
    ffn_masks: bool = True
    gamma: float = number(4.0, above=0.0, at_most=MOST)
    temperature: float = _temperature(1.0)
    keep: float = share(0.9, all_too=True)
    drop_weight: float = _weight(2.0)
    token_rate: float = number(200.0, above=0.0, at_most=float(MANY))
    ffn_rate: float = number(200.0, above=0.0, at_most=float(MANY))
    readouts: list[str] = field(default_factory=list)


@dataclass
class IndividualConfig(ViTMethodConfig):
    """A transformer for each task."""
