"""Every option of the program as typed dataclasses; what each means stands beside it in ``conf/``.

``None`` in a field means "what the method and the data declare"; ``fill.fill_in`` replaces it before anything
reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from cl_lightning.config.schema.added_task import ExtendsConfig
from cl_lightning.config.schema.bounds import choice, number, whole
from cl_lightning.config.schema.data import MOST_IMAGES, MOST_THREADS, DataConfig, SetConfig, SuggestsConfig
from cl_lightning.config.schema.fixed_names import chosen
from cl_lightning.config.schema.kinds import folder
from cl_lightning.config.schema.method import (
    DAFormerConfig,
    DERConfig,
    DyToxConfig,
    FinetuneConfig,
    ICaRLConfig,
    IndividualConfig,
    JointConfig,
    MEATConfig,
    MethodConfig,
    MixupConfig,
    NeighboursConfig,
    PhaseConfig,
    SamConfig,
    TaskTransformerConfig,
    ViTMethodConfig,
    WAConfig,
    scale,
)
from cl_lightning.config.schema.model import (
    CifarResNetConfig,
    ConViTConfig,
    ModelConfig,
    ResNet18Config,
    TimmConfig,
    ViTConfig,
)
from cl_lightning.config.schema.outputs import LoggerConfig, ReportConfig

__all__ = [
    "BatchConfig",
    "CifarResNetConfig",
    "ConViTConfig",
    "Config",
    "DAFormerConfig",
    "DERConfig",
    "DataConfig",
    "DyToxConfig",
    "ExtendsConfig",
    "FinetuneConfig",
    "ICaRLConfig",
    "IndividualConfig",
    "JointConfig",
    "LoggerConfig",
    "MEATConfig",
    "MemoryConfig",
    "MethodConfig",
    "MixupConfig",
    "ModelConfig",
    "NeighboursConfig",
    "PhaseConfig",
    "RecipeConfig",
    "ReportConfig",
    "ResNet18Config",
    "SamConfig",
    "SetConfig",
    "SuggestsConfig",
    "TaskTransformerConfig",
    "TimmConfig",
    "TrainerConfig",
    "ViTConfig",
    "ViTMethodConfig",
    "WAConfig",
]  # fmt: skip

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_MOST_PROCESSES = 1024


@dataclass
class MemoryConfig:
    """The rehearsal memory."""

    budget: str = chosen("memory", "total", ("total", "per_class", "none"))
    size: int | None = whole(None)
    scope: str = choice("global", ("global", "per_replica"))


@dataclass
class RecipeConfig:
    """The published quirks as switches; a recipe is a named set of them."""

    name: str = chosen("recipe", "auto")
    date: str | None = chosen("recipe", None)
    repeated_augmentation: bool | None = None
    order_ignores_seed: bool | None = None
    schedule_lag: bool | None = None
    lr_follows_batch: bool | None = None
    finetuning_order: str | None = choice(None, ("sequential", "shuffled", "repeated"))
    finetuning_drop_last: bool | None = None
    finetune_joint: bool | None = None
    drop_path_in_frozen: bool | None = None
    mixup_softmax: bool | None = None
    distillation_class_mean: bool | None = None
    herd_augmented: bool | None = None
    herd_distinct: bool | None = None
    herd_after_finetuning: bool | None = None
    replicas: int | None = whole(None, at_least=1, at_most=_MOST_PROCESSES)
    precision: str | None = choice(None, PRECISIONS)


@dataclass
class BatchConfig:
    """Images per step."""

    size: int | None = whole(None, at_least=1, at_most=MOST_IMAGES)
    replicas: int | None = whole(None, at_least=1, at_most=_MOST_PROCESSES)
    evaluation: int = whole(256, at_least=1, at_most=MOST_IMAGES)


@dataclass
class TrainerConfig:
    """Options of the trainer: hardware, checkpoints, progress. Only ``precision`` changes numbers."""

    accelerator: str = choice("auto", ("auto", "cpu", "gpu"))
    devices: int = whole(1, at_least=1, at_most=_MOST_PROCESSES)
    strategy: str = "auto"
    precision: str | None = choice(None, PRECISIONS)
    workers: int = whole(0, at_most=_MOST_PROCESSES)
    threads: int | None = whole(None, at_least=1, at_most=MOST_THREADS)
    deterministic: bool = False
    compile: str = choice("auto", ("auto", "none", "trunk"))
    cuda_graphs: bool = True
    kernels: bool = True
    keep_memory: bool = True
    log_every: int = whole(20, at_least=1)
    progress: str = choice("auto", ("auto", "live", "lines", "none"))
    stop_after_task: int | None = whole(None)
    checkpoint_steps: int | None = whole(None, at_least=1)
    checkpoint_minutes: float | None = number(10.0, above=0.0, at_most=1e9)


@dataclass
class Config:
    """The whole configuration of a run."""

    seed: int = whole(0, at_least=-(1 << 63), at_most=(1 << 63) - 1)
    epochs_scale: float | None = scale()
    balanced_epochs_scale: float | None = scale()
    lr_scale: float | None = scale()
    run_dir: str = folder()
    if_exists: str = choice("refuse", ("refuse", "resume"))
    verbose: int = choice(1, (0, 1, 2))
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
