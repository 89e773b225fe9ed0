"""Options of the methods, as typed dataclasses; what each means stands beside it in ``conf/method``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cl_lightning.config.schema.bounds import MANY, Each, Range, bounded, choice, number, share, whole
from cl_lightning.config.schema.fixed_names import chosen
from cl_lightning.config.schema.open_options import Filled
from cl_lightning.config.schema.path_options import file
from cl_lightning.config.schema.phase_role import role
from cl_lightning.core.origins import ORIGINS

MOST_EPOCHS = 10**6
"""Largest number of epochs of a phase, scaled or not."""
MOST = 1e6
"""Largest factor, weight or temperature."""
ENCODERS = ("transformer", "conv_transformer", "cnn", "paths", "vit")
"""Kinds of encoders that data suggest models for."""
MOST_SIDE = 1 << 14
"""Largest side of an image, in pixels."""
AUGMENTATIONS = ("none", "basic", "brightness", "rotation", "randaugment", "variants")


def scale() -> Any:
    """Return a field for a factor of epochs or of a learning rate."""
    return number(above=0.0, at_most=MOST)


def _temperature() -> Any:
    """Return a field for a temperature, which divides scores."""
    return number(above=0.0, at_most=MOST)


def _weight() -> Any:
    """Return a field for the weight of a loss; 0 omits it."""
    return number(at_most=MOST)


@dataclass(kw_only=True)
class PhaseConfig:
    """A paper's training schedule for one phase; a scale of its own, where it has one, is in place of the run's."""

    epochs: int = whole(at_least=1, at_most=MOST_EPOCHS)
    epochs_scale: float | None = scale()
    optimiser: str = choice(("adamw", "sgd"))
    lr: float = number(above=0.0)
    lr_scale: float | None = scale()
    weight_decay: float = number(at_most=MOST)
    decay_vectors: bool
    momentum: float = share()
    reference_batch: int | None = whole(at_least=1)
    schedule: str = choice(("constant", "cosine", "steps"))
    warmup_epochs: float = number(at_most=float(MOST_EPOCHS))
    warmup_lr: float = number()
    min_lr: float = number()
    milestones: list[float] = field(
        metadata=bounded(Each(Range(0, 1, above=True, below=True), "[0.5,0.8]", "are no shares of the phase")),
    )
    gamma: float = number(above=0.0, at_most=MOST)


@dataclass(kw_only=True)
class MixupConfig:
    """MixUp of image pairs."""

    alpha: float = number(at_most=MOST)
    smoothing: float = share()
    in_finetuning: bool


@dataclass(kw_only=True)
class SamConfig:
    """Sharpness-aware minimisation."""

    rho: float = number(at_most=MOST)
    adaptive: bool
    from_task: int = whole()


@dataclass(kw_only=True)
class MethodConfig:
    """Options of all methods."""

    name: str = chosen("method")
    origin: str = chosen("method", tuple(ORIGINS))
    encoder: str = chosen("model", ENCODERS)
    recipe: str | None = chosen("recipe")
    augmentation: str = choice(AUGMENTATIONS)
    rehearsal: bool
    main: Filled[PhaseConfig]


@dataclass(kw_only=True)
class ReconstructionConfig:
    """Reconstruction of masked patches."""

    weight: float = _weight()
    mask: float = share()
    ffn_ratio: float = number(above=0.0, at_most=1000.0)
    reduction: str = choice(("mean", "sum"))


@dataclass(kw_only=True)
class TaskTransformerConfig(MethodConfig):
    """Options of the transformers of DyTox's family."""

    distillation: bool
    temperature: float = _temperature()
    divergence_weight: float = _weight()
    mixup: MixupConfig | None
    sam: SamConfig | None
    reconstruction: ReconstructionConfig | None
    finetuning: PhaseConfig | None = field(metadata=role(balanced=True))


@dataclass(kw_only=True)
class DyToxConfig(TaskTransformerConfig):
    """DyTox, DyTox+ and DyTox++."""

    token_expansion: bool
    independent_heads: bool


@dataclass(kw_only=True)
class NeighboursConfig:
    """Distillation of neighbourhoods."""

    form: str = choice(("none", "similarity", "distance", "order"))
    k: int = whole(at_least=1)
    temperature: float = _temperature()
    margin: float = number(at_most=MOST)
    weight: float = _weight()


@dataclass(kw_only=True)
class DAFormerConfig(TaskTransformerConfig):
    """DAFormer-M and DAFormer-S."""

    bank_expansion: bool
    independent_heads: bool
    out_proj: bool
    neighbours: NeighboursConfig


@dataclass(kw_only=True)
class EarlyFinetuningConfig:
    """Fine-tuning of the first tasks."""

    tasks: int | None = whole(at_least=1)
    epochs: int = whole(at_least=1, at_most=MOST_EPOCHS)


@dataclass(kw_only=True)
class DKTConfig(TaskTransformerConfig):
    """DKT."""

    cutout: int = whole(at_most=MOST_SIDE)
    token_expansion: bool
    head: str = choice(("duplex", "linear"))
    decoder_mlp: str = choice(("conv", "linear"))
    decoder_bias: bool
    similarity_weight: float = _weight()
    finetuning_early: EarlyFinetuningConfig | None


@dataclass(kw_only=True)
class FinetuneConfig(MethodConfig):
    """Plain training on new images and memory."""


@dataclass(kw_only=True)
class JointConfig(MethodConfig):
    """Training on all data so far."""


@dataclass(kw_only=True)
class ICaRLConfig(MethodConfig):
    """iCaRL."""


@dataclass(kw_only=True)
class LwFConfig(MethodConfig):
    """Learning without forgetting."""

    temperature: float = _temperature()
    weight: float = _weight()
    classify: str = choice(("auto", "new", "all"))
    softmax: str = choice(("joint", "per_task"))
    old_rows: str = choice(("trained", "frozen"))
    first: PhaseConfig | None = field(metadata=role(first_task_if="first"))


@dataclass(kw_only=True)
class UCIRConfig(MethodConfig):
    """UCIR."""

    less_forget_weight: float = _weight()
    ranking_weight: float = _weight()
    margin: float = number(at_most=2.0)
    negatives: int = whole(at_least=1)
    imprint: bool
    finetune: bool
    balanced_finetuning: PhaseConfig = field(metadata=role(balanced=True, only_if="finetune"))


@dataclass(kw_only=True)
class PODNetConfig(MethodConfig):
    """PODNet."""

    proxies: int = whole(at_least=1, at_most=1000)
    nca: str = choice(("paper", "public", "no_hinge"))
    margin: float = number(at_most=4.0)
    pod_flat: float = _weight()
    pod_spatial: float = _weight()
    gradient_clamp: float | None = number(above=0.0, at_most=MOST)
    finetuning_batch_norm: str = choice(("training", "evaluation"))
    finetuning: PhaseConfig | None = field(metadata=role(balanced=True))


@dataclass(kw_only=True)
class BiCConfig(MethodConfig):
    """BiC."""

    temperature: float = _temperature()
    pairs: str = choice(("newest", "all"))
    held_out: float = number(above=0.0, at_most=0.5)
    offset_weight: float = _weight()
    decay_by_task: bool
    correction_batch_norm: str = choice(("evaluation", "training"))
    bias_correction: PhaseConfig = field(metadata=role(balanced=True))


@dataclass(kw_only=True)
class RPSNetConfig(MethodConfig):
    """RPS-Net."""

    modules: int = whole(at_least=1, at_most=1000)
    path_every: int = whole(at_least=1)
    candidates: int = whole(at_least=1, at_most=1000)
    temperature: float = _temperature()
    growth: float = _weight()
    held_out: float = number(above=0.0, at_most=0.5)
    reference_parity: bool


@dataclass(kw_only=True)
class E2EConfig(MethodConfig):
    """End-to-End."""

    temperature: float = _temperature()
    copies: int = whole(at_least=1, at_most=MANY)
    variants: str = choice(("fixed", "fresh"))
    gradient_noise: float = number(at_most=MOST)
    noise_power: float = number(at_most=100.0)
    decay: str = choice(("norm_squared", "plain"))
    first: PhaseConfig | None = field(metadata=role(first_task_if="first"))
    balanced: PhaseConfig = field(metadata=role(balanced=True))


@dataclass(kw_only=True)
class WAConfig(MethodConfig):
    """Weight alignment."""

    temperature: float = _temperature()
    clip: bool


@dataclass(kw_only=True)
class PruningConfig:
    """Pruning of extractors."""

    rule: str = choice(("none", "masks", "scales"))
    sparsity: float = _weight()
    s_max: float = number(above=1.0, at_most=MOST)
    kernel: str = choice(("area", "size"))
    share: float = number(above=0.0, at_most=1.0)
    start: str = choice(("copy", "fresh"))


@dataclass(kw_only=True)
class DERConfig(MethodConfig):
    """DER, with or without pruning."""

    auxiliary_weight: float = _weight()
    temperature: float = _temperature()
    pruning: PruningConfig | None
    kd_weight: float = _weight()
    kd_temperature: float = _temperature()
    finetune_pruned: bool
    pruned_finetuning: PhaseConfig = field(metadata=role(only_if="finetune_pruned"))
    classifier: PhaseConfig = field(metadata=role(balanced=True))


@dataclass(kw_only=True)
class HATConfig(MethodConfig):
    """HAT."""

    s_max: float = number(at_least=1.0, at_most=1e4)
    compensation: str = choice(("published", "exact"))
    usage_weight: float = _weight()
    gradient_norm: float | None = number(above=0.0, at_most=MOST)
    embedding_limit: float = number(above=0.0, at_most=50.0)
    readouts: list[str]


@dataclass(kw_only=True)
class ViTMethodConfig(MethodConfig):
    """Options of the methods that start from one trained vision transformer."""

    mixup: MixupConfig | None
    backbone_task: Filled[bool]
    backbone_file: str | None = file()
    backbone: PhaseConfig = field(metadata=role(first_task_if="backbone_task"))


@dataclass(kw_only=True)
class FrozenConfig(MethodConfig):
    """Options of the methods on features that are learnt once: no task but the first one can have a phase."""

    main: Any
    backbone_task: Filled[bool]
    backbone_file: str | None = file()
    backbone: PhaseConfig = field(metadata=role(first_task_if="backbone_task"))
    adapt: bool
    adapter_width: int = whole(at_least=1, at_most=MOST_SIDE)
    adapter_scale: float = number(above=0.0, at_most=MOST)
    adapter_dropout: float = share()
    adaptation: PhaseConfig = field(metadata=role(first_task_if="adapt"))


@dataclass(kw_only=True)
class SimpleCILConfig(FrozenConfig):
    """SimpleCIL."""


@dataclass(kw_only=True)
class RanPACConfig(FrozenConfig):
    """RanPAC."""

    projection: int = whole(at_most=100_000)
    ridge: str = choice(("task", "all"))


@dataclass(kw_only=True)
class MEATConfig(ViTMethodConfig):
    """MEAT, and its variants without some of its masks."""

    token_masks: bool
    token_mask_blocks: Any
    ffn_masks: bool
    gamma: float = number(above=0.0, at_most=MOST)
    temperature: float = _temperature()
    keep: float = share(all_too=True)
    drop_weight: float = _weight()
    token_rate: float = number(above=0.0, at_most=float(MANY))
    ffn_rate: float = number(above=0.0, at_most=float(MANY))
    readouts: list[str]


@dataclass(kw_only=True)
class IndividualConfig(ViTMethodConfig):
    """A transformer for each task."""
