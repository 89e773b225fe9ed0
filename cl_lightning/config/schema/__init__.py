"""Every option of the program as typed dataclasses; what each means stands beside it in ``conf/``.

A field that is ``Filled`` may be left open where options are composed, which means "what the method and the data
declare": ``fill_auto.fill_in`` replaces it before anything reads it (:mod:`~cl_lightning.config.schema.open_options`).
"""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.config.schema.added_task import ExtendsConfig
from cl_lightning.config.schema.bounds import choice, number, whole
from cl_lightning.config.schema.data import (
    MOST_IMAGES,
    MOST_THREADS,
    DataConfig,
    PreprocessConfig,
    SetConfig,
    SuggestsConfig,
)
from cl_lightning.config.schema.early_stopping import EarlyStoppingConfig
from cl_lightning.config.schema.fixed_names import chosen
from cl_lightning.config.schema.method import (
    BiCConfig,
    DAFormerConfig,
    DERConfig,
    DKTConfig,
    DyToxConfig,
    E2EConfig,
    EarlyFinetuningConfig,
    FinetuneConfig,
    FrozenConfig,
    HATConfig,
    ICaRLConfig,
    IndividualConfig,
    JointConfig,
    LwFConfig,
    MEATConfig,
    MethodConfig,
    MixupConfig,
    NeighboursConfig,
    PhaseConfig,
    PODNetConfig,
    PruningConfig,
    RanPACConfig,
    RPSNetConfig,
    SamConfig,
    SimpleCILConfig,
    TaskTransformerConfig,
    UCIRConfig,
    ViTMethodConfig,
    WAConfig,
    scale,
)
from cl_lightning.config.schema.model import (
    AlexNetConfig,
    CifarResNetConfig,
    ConViTConfig,
    ConvViTConfig,
    ModelConfig,
    PathNetConfig,
    ResNet18Config,
    TimmBackboneConfig,
    TimmConfig,
    ViTConfig,
)
from cl_lightning.config.schema.open_options import Filled
from cl_lightning.config.schema.outputs import LoggerConfig, ReportConfig
from cl_lightning.config.schema.path_options import folder

__all__ = [
    "AlexNetConfig",
    "BatchConfig",
    "BiCConfig",
    "CifarResNetConfig",
    "ConViTConfig",
    "Config",
    "ConvViTConfig",
    "DAFormerConfig",
    "DERConfig",
    "DKTConfig",
    "DataConfig",
    "DyToxConfig",
    "E2EConfig",
    "EarlyFinetuningConfig",
    "EarlyStoppingConfig",
    "ExtendsConfig",
    "FinetuneConfig",
    "FrozenConfig",
    "HATConfig",
    "ICaRLConfig",
    "IndividualConfig",
    "JointConfig",
    "LoggerConfig",
    "LwFConfig",
    "MEATConfig",
    "MemoryConfig",
    "MethodConfig",
    "MixupConfig",
    "ModelConfig",
    "NeighboursConfig",
    "PODNetConfig",
    "PathNetConfig",
    "PhaseConfig",
    "PreprocessConfig",
    "PruningConfig",
    "RPSNetConfig",
    "RanPACConfig",
    "RecipeConfig",
    "ReportConfig",
    "ResNet18Config",
    "SamConfig",
    "SetConfig",
    "SimpleCILConfig",
    "SuggestsConfig",
    "TaskTransformerConfig",
    "TimmBackboneConfig",
    "TimmConfig",
    "TrainerConfig",
    "UCIRConfig",
    "ViTConfig",
    "ViTMethodConfig",
    "WAConfig",
]  # fmt: skip

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_MOST_PROCESSES = 1024


@dataclass(kw_only=True)
class MemoryConfig:
    """The rehearsal memory."""

    budget: str = chosen("memory", ("total", "per_class", "none"))
    size: Filled[int] = whole()
    scope: str = choice(("global", "per_replica"))


@dataclass(kw_only=True)
class RecipeConfig:
    """The published quirks as switches; a recipe is a named set of them."""

    name: str = chosen("recipe")
    date: Filled[str] = chosen("recipe")
    repeated_augmentation: Filled[bool]
    order_ignores_seed: Filled[bool]
    schedule_lag: Filled[bool]
    lr_follows_batch: Filled[bool]
    finetuning_order: Filled[str] = choice(("sequential", "shuffled", "repeated"))
    finetuning_drop_last: Filled[bool]
    finetune_joint: Filled[bool]
    drop_path_in_frozen: Filled[bool]
    mixup_softmax: Filled[bool]
    distillation_class_mean: Filled[bool]
    herd_augmented: Filled[bool]
    herd_distinct: Filled[bool]
    herd_after_finetuning: Filled[bool]
    statistics_in_frozen: Filled[bool]
    general_token_in_finetuning: Filled[bool]
    classification_twice: Filled[bool]
    similarity_mean: Filled[str] = choice(("pairs", "rows"))
    merge: Filled[str] = choice(("published", "exact", "separate"))
    replicas: Filled[int] = whole(at_least=1, at_most=_MOST_PROCESSES)
    precision: Filled[str] = choice(PRECISIONS)


@dataclass(kw_only=True)
class BatchConfig:
    """Images per step."""

    size: Filled[int] = whole(at_least=1, at_most=MOST_IMAGES)
    replicas: Filled[int] = whole(at_least=1, at_most=_MOST_PROCESSES)
    evaluation: int = whole(at_least=1, at_most=MOST_IMAGES)


@dataclass(kw_only=True)
class TrainerConfig:
    """Options of the trainer: hardware, checkpoints, progress. Only ``precision`` changes numbers."""

    accelerator: str = choice(("auto", "cpu", "gpu"))
    devices: int = whole(at_least=1, at_most=_MOST_PROCESSES)
    strategy: str
    precision: Filled[str] = choice(PRECISIONS)
    workers: int = whole(at_most=_MOST_PROCESSES)
    threads: int | None = whole(at_least=1, at_most=MOST_THREADS)
    deterministic: bool
    compile: str = choice(("auto", "none", "trunk"))
    cuda_graphs: bool
    kernels: bool
    keep_memory: bool
    keep_features: bool
    features_dir: str | None = folder()
    log_every: int = whole(at_least=1)
    progress: str = choice(("auto", "live", "lines", "none"))
    stop_after_task: int | None = whole()
    checkpoint_steps: int | None = whole(at_least=1)
    checkpoint_minutes: float | None = number(above=0.0, at_most=1e9)


@dataclass(kw_only=True)
class Config:
    """The whole configuration of a run."""

    seed: int = whole(at_least=-(1 << 63), at_most=(1 << 63) - 1)
    epochs_scale: Filled[float] = scale()
    balanced_epochs_scale: Filled[float] = scale()
    lr_scale: Filled[float] = scale()
    run_dir: str = folder()
    if_exists: str = choice(("refuse", "resume"))
    verbose: int = choice((0, 1, 2))
    evaluate_phases: bool
    method: MethodConfig
    data: DataConfig
    model: ModelConfig
    memory: MemoryConfig
    recipe: RecipeConfig
    batch: BatchConfig
    early_stopping: EarlyStoppingConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    report: ReportConfig
    extends: ExtendsConfig | None
