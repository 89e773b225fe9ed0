"""Every option of the program as typed dataclasses; what each means stands beside it in ``conf/``.

``None`` in a field means "what the method and the data declare" and is replaced by ``fill.fill_in`` before anybody
reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from cl_lightning.config.extension import ExtendsConfig
from cl_lightning.config.kinds import file, folder
from cl_lightning.config.outputs import LoggerConfig, ReportConfig


@dataclass
class PhaseConfig:
    """A paper's training schedule for one phase; a scale of its own, where it has one, is in place of the run's."""

    epochs: int = MISSING
    epochs_scale: float | None = None
    optimiser: str = MISSING
    lr: float = MISSING
    lr_scale: float | None = None
    weight_decay: float = 0.0
    decay_vectors: bool = True
    momentum: float = 0.9
    reference_batch: int | None = None
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    min_lr: float = 0.0
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1


@dataclass
class MixupConfig:
    """MixUp of image pairs."""

    alpha: float = 0.8
    smoothing: float = 0.1
    in_finetuning: bool = True


@dataclass
class SamConfig:
    """Sharpness-aware minimisation."""

    rho: float = 3.0
    adaptive: bool = True
    from_task: int = 1


@dataclass
class MethodConfig:
    """What all methods have."""

    name: str = MISSING
    encoder: str = MISSING
    recipe: str | None = None
    augmentation: str = "basic"
    rehearsal: bool = True
    main: PhaseConfig = field(default_factory=PhaseConfig)


@dataclass
class TaskTransformerConfig(MethodConfig):
    """What the transformers of DyTox's family have in common."""

    distillation: bool = True
    temperature: float = 1.0
    divergence_weight: float = 0.1
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

    form: str = "none"
    k: int = 8
    temperature: float = 0.1
    margin: float = 0.1
    weight: float = 1.0


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

    temperature: float = 2.0
    clip: bool = True


@dataclass
class DERConfig(MethodConfig):
    """DER without pruning."""

    auxiliary_weight: float = 1.0
    temperature: float = 5.0
    classifier: PhaseConfig = field(default_factory=PhaseConfig)


@dataclass
class ViTMethodConfig(MethodConfig):
    """What the methods that start from one trained vision transformer have in common."""

    mixup: MixupConfig | None = None
    backbone_task: bool | None = None
    backbone_file: str | None = file(None)
    backbone: PhaseConfig = field(default_factory=PhaseConfig)


@dataclass
class MEATConfig(ViTMethodConfig):
    """MEAT, and what is left of it without some of its masks."""

    token_masks: bool = True
    token_mask_blocks: Any = "all"
    ffn_masks: bool = True
    gamma: float = 4.0
    temperature: float = 1.0
    keep: float = 0.9
    drop_weight: float = 2.0
    token_rate: float = 200.0
    ffn_rate: float = 200.0
    readouts: list[str] = field(default_factory=list)


@dataclass
class IndividualConfig(ViTMethodConfig):
    """A transformer for each task."""


@dataclass
class SuggestsConfig:
    """What a data set proposes where the user says nothing."""

    recipe: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    patch_size: int = 4
    memory: int = 2000
    memory_per_class: int = 20
    batch_size: int = 128
    epochs_scale: float = 1.0
    balanced_epochs_scale: float = 1.0
    lr_scale: dict[str, float] = field(default_factory=dict)
    threads: int | None = None


@dataclass
class SetConfig:
    """One of the data sets that follow one another."""

    name: str = MISSING
    root: str | None = folder(None)
    order: Any = "identity"
    classes: int | None = None
    select: list[str] | None = None
    increment: Any = None
    evaluate_on: str = "auto"
    test_share: float = 0.2
    test_split: str = "per_class"
    files: str = "any"
    on_broken: str = "error"
    orientation: str | None = None
    flip: bool | None = None
    augmentation: str | None = None
    crop_padding: int | None = None


@dataclass
class DataConfig:
    """A data set and how it is cut into tasks."""

    name: str = MISSING
    root: str = folder()
    order: Any = "identity"
    classes: int | None = None
    initial: int | None = None
    increment: Any = MISSING
    sets: list[SetConfig] = field(default_factory=list)
    validation: float = 0.0
    evaluate_on: str = "auto"
    test_share: float = 0.2
    test_split: str = "per_class"
    files: str = "any"
    on_broken: str = "error"
    orientation: str = "ignore"
    max_pixels: int = 100_000_000
    image_size: int = 32
    crop_padding: int = 0
    flip: bool = False
    augmentation: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    suggests: SuggestsConfig = field(default_factory=SuggestsConfig)


@dataclass
class ModelConfig:
    """What all models have; ``auto`` has nothing else."""

    name: str = "auto"


@dataclass
class ConViTConfig(ModelConfig):
    """ConViT encoder."""

    kind: str = "convit"
    patch_size: int | None = None
    dim: int = 384
    num_heads: int = 12
    depth: int = 5
    mlp_ratio: float = 4.0
    locality: float = 1.0
    drop_path: float = 0.1


@dataclass
class TimmConfig(ModelConfig):
    """One of timm's plain vision transformers."""

    kind: str = "timm_vit"
    patch_size: int | None = None
    pretrained: bool = False
    drop_path: float = 0.1


@dataclass
class ViTConfig(ModelConfig):
    """A plain vision transformer with a class token."""

    kind: str = "plain_vit"
    patch_size: int | None = None
    dim: int = 192
    num_heads: int = 3
    depth: int = 12
    mlp_ratio: float = 4.0
    drop_path: float = 0.1


@dataclass
class CifarResNetConfig(ModelConfig):
    """The CIFAR ResNet of depth 6n + 2."""

    kind: str = "cifar_resnet"
    depth: int = 32


@dataclass
class ResNet18Config(ModelConfig):
    """ResNet-18 with a stem for small images."""

    kind: str = "resnet18"
    width: int = 64
    stem: str | None = None


@dataclass
class MemoryConfig:
    """The rehearsal memory."""

    budget: str = "total"
    size: int | None = None
    scope: str = "global"


@dataclass
class RecipeConfig:
    """The published quirks as switches; a recipe is a named set of them."""

    name: str = "auto"
    date: str | None = None
    repeated_augmentation: bool | None = None
    order_ignores_seed: bool | None = None
    schedule_lag: bool | None = None
    lr_follows_batch: bool | None = None
    finetuning_order: str | None = None
    finetuning_drop_last: bool | None = None
    finetune_joint: bool | None = None
    drop_path_in_frozen: bool | None = None
    mixup_softmax: bool | None = None
    distillation_class_mean: bool | None = None
    herd_augmented: bool | None = None
    herd_distinct: bool | None = None
    herd_after_finetuning: bool | None = None
    replicas: int | None = None
    precision: str | None = None


@dataclass
class BatchConfig:
    """Images per step."""

    size: int | None = None
    replicas: int | None = None
    evaluation: int = 256


@dataclass
class TrainerConfig:
    """Where and how the training runs: nothing here changes the science but ``precision``."""

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str | None = None
    workers: int = 0
    threads: int | None = None
    deterministic: bool = False
    compile: str = "auto"
    cuda_graphs: bool = True
    kernels: bool = True
    keep_memory: bool = True
    log_every: int = 20
    progress: str = "auto"
    stop_after_task: int | None = None
    checkpoint_steps: int | None = None
    checkpoint_minutes: float | None = 10.0


@dataclass
class Config:
    """The whole configuration of a run."""

    seed: int = 0
    epochs_scale: float | None = None
    balanced_epochs_scale: float | None = None
    lr_scale: float | None = None
    run_dir: str = folder()
    if_exists: str = "refuse"
    verbose: int = 1
    evaluate_phases: bool = False
    method: MethodConfig = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    memory: MemoryConfig = MISSING
    recipe: RecipeConfig = MISSING
    batch: BatchConfig = field(default_factory=BatchConfig)
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    report: ReportConfig = field(default_factory=ReportConfig)
    extends: ExtendsConfig | None = None
