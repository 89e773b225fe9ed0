"""Options of the methods, as typed dataclasses; what each means stands beside it in ``conf/method``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from cl_lightning.config.schema.bounds import MANY, Each, Range, bounded, choice, number, share, whole
from cl_lightning.config.schema.fixed_names import chosen
from cl_lightning.config.schema.kinds import file

MOST_EPOCHS = 10**6
"""Largest number of epochs of a phase, scaled or not."""
MOST = 1e6
"""Largest factor, weight or temperature."""
AUGMENTATIONS = ("none", "basic", "brightness", "randaugment")


def scale(default: float | None = None) -> Any:
    """Return a field for a factor of epochs or of a learning rate."""
    return number(default, above=0.0, at_most=MOST)


def _temperature(default: float) -> Any:
    """Return a field for a temperature, which divides scores."""
    return number(default, above=0.0, at_most=MOST)


def _weight(default: float) -> Any:
    """Return a field for the weight of a loss; 0 omits it."""
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
    """Options of all methods."""

    name: str = chosen("method")
    encoder: str = chosen("model")
    recipe: str | None = chosen("recipe", None)
    augmentation: str = choice("basic", AUGMENTATIONS)
    rehearsal: bool = True
    main: PhaseConfig = field(default_factory=PhaseConfig)


@dataclass
class TaskTransformerConfig(MethodConfig):
    """Options of the transformers of DyTox's family."""

    distillation: bool = True
    temperature: float = _temperature(1.0)
    divergence_weight: float = _weight(0.1)
    independent_heads: bool = True
    mixup: MixupConfig | None = None
    sam: SamConfig | None = None
    finetuning: PhaseConfig | None = None


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
    classifier: PhaseConfig = field(default_factory=PhaseConfig)


@dataclass
class ViTMethodConfig(MethodConfig):
    """Options of the methods that start from one trained vision transformer."""

    mixup: MixupConfig | None = None
    backbone_task: bool | None = None
    backbone_file: str | None = file(None)
    backbone: PhaseConfig = field(default_factory=PhaseConfig)


@dataclass
class MEATConfig(ViTMethodConfig):
    """MEAT, and its variants without some of its masks."""

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
