"""Mistakes that can be seen in the filled-in configuration alone, each told in one line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from cl_lightning.config.schema import (
    CifarResNetConfig,
    Config,
    ConViTConfig,
    DAFormerConfig,
    JointConfig,
    MEATConfig,
    PhaseConfig,
    TaskTransformerConfig,
    TimmConfig,
    ViTConfig,
    ViTMethodConfig,
)

_READING: dict[str, tuple[object, ...]] = {
    "on_broken": ("error", "skip"),
    "orientation": ("apply", "ignore"),
    "files": ("any", "by_suffix"),
    "evaluate_on": ("auto", "test", "val", "val_or_test"),
    "test_split": ("per_class", "per_image"),
}
"""How images in files are read."""
_AUGMENTATIONS = ("none", "basic", "brightness", "randaugment")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

_REFUSED_STRATEGIES = {
    "fsdp": "it wraps modules in place and does not unwrap them, so what a later task grows would neither be sharded "
    "nor kept equal",
    "ddp_": "it trains in child processes that are thrown away: what a task grew there, its memory and its counts "
    "would be lost",
    "deepspeed": "it partitions what a task's growth changes, and has never been tried here",
}
"""Beginnings of names of strategies that cannot carry growth, and why."""


def check(config: Config, *, automatic_model: bool = False) -> None:
    """Raise ``ValueError`` naming the value, what is allowed and the override to type.

    ``automatic_model``: the model was not chosen by name, and only a named one has options.
    """
    _one_of("data.augmentation", config.data.augmentation, _AUGMENTATIONS)
    for name, allowed in _READING.items():
        _one_of(f"data.{name}", getattr(config.data, name), allowed)
    _one_of("memory.budget", config.memory.budget, ("total", "per_class", "none"))
    _one_of("memory.scope", config.memory.scope, ("global", "per_replica"))
    _one_of("recipe.finetuning_order", config.recipe.finetuning_order, ("sequential", "shuffled", "repeated"))
    _one_of("trainer.precision", config.trainer.precision, PRECISIONS)
    _one_of("trainer.compile", config.trainer.compile, ("auto", "none", "trunk"))
    _one_of("trainer.progress", config.trainer.progress, ("auto", "live", "lines", "none"))
    _one_of("trainer.accelerator", config.trainer.accelerator, ("auto", "cpu", "gpu"))
    _one_of("verbose", config.verbose, (0, 1, 2))
    if not config.run_dir:
        raise ValueError("run_dir= names no folder: type run_dir=DIR, or leave it out")
    _one_of("if_exists", config.if_exists, ("refuse", "resume"))
    _one_of("logger.mode", config.logger.mode, ("online", "offline", "disabled"))
    _at_least("epochs_scale", config.epochs_scale, 0.0, exclusive=True)
    _at_least("balanced_epochs_scale", config.balanced_epochs_scale, 0.0, exclusive=True)
    _at_least("lr_scale", config.lr_scale, 0.0, exclusive=True)
    _at_least("batch.size", config.batch.size, 1)
    _at_least("batch.replicas", config.batch.replicas, 1)
    _at_least("batch.evaluation", config.batch.evaluation, 1)
    _at_least("trainer.workers", config.trainer.workers, 0)
    _at_least("trainer.log_every", config.trainer.log_every, 1)
    _at_least("report.exemplars", config.report.exemplars, 0)
    _share("data.validation", config.data.validation)
    _share("data.test_share", config.data.test_share)
    if config.data.validation and config.data.evaluate_on in ("val", "test"):
        raise ValueError(
            f"data.evaluate_on={config.data.evaluate_on} has no meaning beside data.validation="
            f"{config.data.validation}, which sets training images aside: type data.validation=0, or leave it out"
        )
    _check_sets(config)
    _at_least("data.crop_padding", config.data.crop_padding, 0)
    _at_least("data.image_size", config.data.image_size, 1)
    _at_least("data.max_pixels", config.data.max_pixels, 1)
    if config.trainer.threads is not None:
        _at_least("trainer.threads", config.trainer.threads, 1)
    if config.trainer.stop_after_task is not None:
        _at_least("trainer.stop_after_task", config.trainer.stop_after_task, 0)
    for name in ("temperature", "auxiliary_weight"):
        if hasattr(config.method, name):
            _at_least(f"method.{name}", getattr(config.method, name), 0.0, exclusive=name == "temperature")
    _check_strategy(config)
    _check_memory(config)
    _check_model(config, automatic_model)
    for name in ("backbone", "main", "finetuning", "classifier"):
        phase = getattr(config.method, name, None)
        if phase is not None:
            _check_phase(f"method.{name}", phase)
    if isinstance(config.method, JointConfig) and config.method.rehearsal:
        raise ValueError("method.rehearsal=true has no meaning for joint training: type method.rehearsal=false")
    if isinstance(config.method, TaskTransformerConfig):
        _check_task_transformer(config, config.method)
    if isinstance(config.method, DAFormerConfig):
        _check_neighbours(config.method)
    if isinstance(config.method, ViTMethodConfig):
        _check_vit_method(config, config.method)
    if isinstance(config.method, MEATConfig):
        _check_meat(config.method)


def check_begin(config: Config) -> None:
    """What a run needs when it begins with nothing learnt, and not when it goes on. Raises ``ValueError`` as
    :func:`check` does.
    """
    file = config.method.backbone_file if isinstance(config.method, ViTMethodConfig) else None
    if file is not None and config.extends is None and not Path(file).is_file():
        raise ValueError(f"method.backbone_file={file} is no file: type method.backbone_file=FILE.safetensors or .pth")


def _check_sets(config: Config) -> None:
    data, example = config.data, "'data.sets=[{name: digits}, {name: cifar100, classes: 20}]'"
    if data.name != "sequence":
        if data.sets:
            raise ValueError(f"data.sets has no meaning for data={data.name}: type data=sequence, or data.sets=[]")
        return
    if not data.sets:
        raise ValueError(f"data.sets=[] names no data set: type {example}")
    for name in ("order", "classes", "initial", "increment"):
        if getattr(data, name) is not None:
            instead = "increment" if name == "initial" else name
            raise ValueError(
                f"data.{name}={getattr(data, name)} has no meaning for data=sequence, where each set has its own: type "
                f"{instead} in its entry of data.sets and data.{name}=null"
            )
    if config.extends is not None:
        raise ValueError(
            "learn= does not go with a run of data=sequence, whose images come from several places: start a new run "
            "with one entry more in data.sets, {name: image_folder, root: FOLDER}"
        )
    for place, entry in enumerate(data.sets, start=1):
        where = f"data.sets, entry {place} ({entry.name}): "
        for name, allowed in _READING.items():
            if (value := getattr(entry, name)) not in allowed:
                words = " or ".join(map(str, allowed))
                raise ValueError(f"{where}{name}: {value} is not a choice: type {name}: {words}")
        if data.validation and entry.evaluate_on in ("val", "test"):
            raise ValueError(
                f"{where}evaluate_on: {entry.evaluate_on} has no meaning beside data.validation={data.validation}, "
                "which sets training images aside: type data.validation=0, or leave it out"
            )
        if not 0 < entry.test_share < 1:
            raise ValueError(f"{where}test_share: {entry.test_share} is not between 0 and 1: type test_share: 0.2")
        if entry.augmentation not in (None, *_AUGMENTATIONS):
            raise ValueError(
                f"{where}augmentation: {entry.augmentation} is not a choice: "
                f"type augmentation: {' or '.join(_AUGMENTATIONS)}"
            )
        if entry.crop_padding is not None and entry.crop_padding < 0:
            raise ValueError(f"{where}crop_padding: {entry.crop_padding} is below 0: type crop_padding: 0")
        if entry.select is not None and (entry.classes is not None or entry.order != "identity"):
            raise ValueError(f"{where}select names classes and their order: leave out classes and order, or select")


def _check_strategy(config: Config) -> None:
    trainer, replicas = config.trainer, config.batch.replicas or 1
    for prefix, reason in _REFUSED_STRATEGIES.items():
        if trainer.strategy.startswith(prefix):
            raise ValueError(f"trainer.strategy={trainer.strategy} is refused: {reason}; type trainer.strategy=ddp")
    _one_of("trainer.strategy", trainer.strategy, ("auto", "ddp"))
    _at_least("trainer.devices", trainer.devices, 1)
    if replicas % trainer.devices:
        fitting = " or ".join(f"trainer.devices={d}" for d in _divisors(replicas))
        raise ValueError(
            f"trainer.devices={trainer.devices} does not divide batch.replicas={replicas}, which is part of the recipe:"
            f" type {fitting}, or batch.replicas={trainer.devices} for another recipe"
        )
    if trainer.checkpoint_steps is not None:
        _at_least("trainer.checkpoint_steps", trainer.checkpoint_steps, 1)
    if trainer.checkpoint_minutes is not None:
        _at_least("trainer.checkpoint_minutes", trainer.checkpoint_minutes, 0.0, exclusive=True)


def _check_memory(config: Config) -> None:
    memory, replicas = config.memory, config.batch.replicas or 1
    if memory.budget != "none":
        _at_least("memory.size", memory.size, 1)
    if memory.scope == "per_replica" and replicas == 1:
        raise ValueError(
            "memory.scope=per_replica needs batch.replicas of at least 2: type batch.replicas=2 or memory.scope=global"
        )
    if memory.scope == "per_replica" and (memory.size or 0) % replicas:
        fitting = max((memory.size or 0) // replicas, 1) * replicas
        raise ValueError(
            f"memory.size={memory.size} is not divisible by batch.replicas={replicas}: type memory.size={fitting}"
        )


def _check_model(config: Config, automatic: bool) -> None:
    model, size = config.model, config.data.image_size
    if isinstance(model, ConViTConfig | TimmConfig | ViTConfig):
        if not (isinstance(model, TimmConfig) and model.patch_size is None):  # its name says it
            _at_least("model.patch_size", model.patch_size, 1)
        _share("model.drop_path", model.drop_path)
    if isinstance(model, ConViTConfig | TimmConfig | ViTConfig) and model.patch_size and size % model.patch_size:
        by_name = f"model={model.name} " if automatic else ""
        allowed = " or ".join(f"{by_name}model.patch_size={d}" for d in _divisors(size) if 1 < d < size)
        raise ValueError(
            f"data.image_size={size} is not divisible by model.patch_size={model.patch_size}: "
            f"type {allowed or 'another data.image_size'}"
        )
    if isinstance(model, ConViTConfig | ViTConfig):
        for name in ("dim", "num_heads", "depth"):
            _at_least(f"model.{name}", getattr(model, name), 1)
        if model.dim % model.num_heads:
            allowed = ", ".join(f"model.num_heads={d}" for d in _divisors(model.dim) if d <= 16)
            raise ValueError(f"model.num_heads={model.num_heads} does not divide model.dim={model.dim}: type {allowed}")
        _at_least("model.mlp_ratio", model.mlp_ratio, 0.0, exclusive=True)
    if isinstance(model, CifarResNetConfig) and (model.depth < 8 or (model.depth - 2) % 6):
        raise ValueError(f"model.depth={model.depth} is not 6n + 2: type model.depth=8, 14, 20, 26, 32, 44, 56 or 110")
    if isinstance(config.method, TaskTransformerConfig) and not isinstance(model, ConViTConfig | TimmConfig):
        raise ValueError(
            f"model={model.name} has no patch tokens for method={config.method.name}: "
            "type model=convit_cifar, model=convit_tiny or model=timm"
        )
    if isinstance(config.method, ViTMethodConfig) and not isinstance(model, ViTConfig | TimmConfig):
        raise ValueError(
            f"model={model.name} has no class token that passes all blocks, for method={config.method.name}: "
            "type model=vit_tiny, model=vit_cifar or model=timm"
        )
    if isinstance(model, ViTConfig) and not isinstance(config.method, ViTMethodConfig):
        raise ValueError(
            f"model={model.name} is read by its own class token, as MEAT does: type method=meat "
            f"or method=individual, or model=convit_tiny or model=timm for method={config.method.name}"
        )


def _check_phase(name: str, phase: PhaseConfig) -> None:
    _one_of(f"{name}.optimiser", phase.optimiser, ("adamw", "sgd"))
    _one_of(f"{name}.schedule", phase.schedule, ("constant", "cosine", "steps"))
    _at_least(f"{name}.epochs", phase.epochs, 1)
    _at_least(f"{name}.lr", phase.lr, 0.0, exclusive=True)
    for field in ("weight_decay", "warmup_epochs", "warmup_lr", "min_lr"):
        _at_least(f"{name}.{field}", getattr(phase, field), 0.0)
    _share(f"{name}.momentum", phase.momentum)
    _at_least(f"{name}.gamma", phase.gamma, 0.0, exclusive=True)
    for milestone in phase.milestones:
        if not 0 < milestone < 1:
            raise ValueError(
                f"{name}.milestones={phase.milestones} are shares of the phase in (0, 1): "
                f"type {name}.milestones=[0.5,0.8]"
            )
    if phase.reference_batch is not None:
        _at_least(f"{name}.reference_batch", phase.reference_batch, 1)


def _check_task_transformer(config: Config, method: TaskTransformerConfig) -> None:
    _at_least("method.divergence_weight", method.divergence_weight, 0.0)
    if method.mixup is not None:
        _at_least("method.mixup.alpha", method.mixup.alpha, 0.0)
        _share("method.mixup.smoothing", method.mixup.smoothing)
    if method.sam is not None:
        _at_least("method.sam.rho", method.sam.rho, 0.0)
        if config.trainer.precision == "16-mixed":
            raise ValueError(
                "trainer.precision=16-mixed does not go with sharpness-aware steps (method.sam): "
                "type trainer.precision=bf16-mixed"
            )


def _check_vit_method(config: Config, method: ViTMethodConfig) -> None:
    if method.rehearsal:
        raise ValueError(
            f"method.rehearsal=true has no meaning for method={method.name}, which never forgets: "
            "type method.rehearsal=false"
        )
    if method.mixup is not None:
        _at_least("method.mixup.alpha", method.mixup.alpha, 0.0)
        _share("method.mixup.smoothing", method.mixup.smoothing)
    if (
        method.backbone_task is False
        and method.backbone_file is None
        and not getattr(config.model, "pretrained", False)
    ):
        raise ValueError(
            "method.backbone_task=false needs a transformer that has been trained: type model.pretrained=true "
            "(with model=timm), method.backbone_file=FILE or method.backbone_task=true"
        )
    if method.backbone_file is not None and getattr(config.model, "pretrained", False):
        raise ValueError(
            f"method.backbone_file={method.backbone_file} and model.pretrained=true both give weights: leave out one"
        )


def _check_meat(method: MEATConfig) -> None:
    for name in ("gamma", "token_rate", "ffn_rate"):
        _at_least(f"method.{name}", getattr(method, name), 0.0, exclusive=True)
    _at_least("method.drop_weight", method.drop_weight, 0.0)
    if not 0 <= method.keep <= 1:
        raise ValueError(f"method.keep={method.keep} is no share of the tokens: type method.keep=0.9")
    _check_choices("method.readouts", method.readouts, ("linear", "entropy", "class_mean"))
    blocks = method.token_mask_blocks
    if blocks != "all" and not method.token_masks:
        raise ValueError(
            f"method.token_mask_blocks={blocks} has no meaning for method={method.name} without masks of tokens: leave "
            "it out, or type method.token_masks=true"
        )
    numbers = (
        isinstance(blocks, list) and all(type(b) is int and b >= 0 for b in blocks) and blocks == sorted(set(blocks))
    )
    if blocks != "all" and (not numbers or not blocks):
        raise ValueError(
            f"method.token_mask_blocks={blocks} is neither all nor a rising list of blocks from 0: "
            "type method.token_mask_blocks=all or 'method.token_mask_blocks=[3,6,9]' (none: method.token_masks=false)"
        )


def _check_choices(name: str, values: list[str], allowed: tuple[str, ...]) -> None:
    if not values or len(set(values)) < len(values) or not set(values) <= set(allowed):
        raise ValueError(
            f"{name}={list(values)} is not a choice: type '{name}=[{','.join(allowed)}]', or some of these, "
            "the main one first"
        )


def _check_neighbours(method: DAFormerConfig) -> None:
    given = method.neighbours
    _one_of("method.neighbours.form", given.form, ("none", "similarity", "distance", "order"))
    _at_least("method.neighbours.k", given.k, 1)
    _at_least("method.neighbours.temperature", given.temperature, 0.0, exclusive=True)
    _at_least("method.neighbours.margin", given.margin, 0.0)
    _at_least("method.neighbours.weight", given.weight, 0.0)
    if given.form != "none" and not method.distillation:
        raise ValueError(
            f"method.neighbours.form={given.form} needs a teacher: type method.distillation=true, "
            "or method.neighbours.form=none"
        )


def _divisors(number: int) -> Iterable[int]:
    return (d for d in range(1, number + 1) if number % d == 0)


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value} is not a choice: type {' or '.join(f'{name}={a}' for a in allowed)}")


def _at_least(name: str, value: float | None, low: float, *, exclusive: bool = False) -> None:
    if value is None or not math.isfinite(value) or value < low or (exclusive and value == low):
        raise ValueError(
            f"{name}={value} is out of range: type {name}=N with N {'above' if exclusive else 'at least'} {low:g}"
        )


def _share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value} is not a share: type {name}=X with X at least 0 and below 1")
