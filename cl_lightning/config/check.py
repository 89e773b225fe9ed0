"""Checks of the filled-in configuration that concern several options, each error one line. The values that one option
may have are declared with it (``bounds.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cl_lightning.config.check_bounds import check_values
from cl_lightning.config.early_stopping import check_early_stopping, evaluates_share, stops_early
from cl_lightning.config.preprocess import check_preprocess, size_option
from cl_lightning.config.schedule_scales import phases_of, scale_name, trained_phases
from cl_lightning.config.schema import (
    AlexNetConfig,
    CifarResNetConfig,
    Config,
    ConViTConfig,
    ConvViTConfig,
    DAFormerConfig,
    DataConfig,
    DERConfig,
    FrozenConfig,
    HATConfig,
    JointConfig,
    MEATConfig,
    PhaseConfig,
    ResNet18Config,
    TaskTransformerConfig,
    TimmBackboneConfig,
    TimmConfig,
    ViTConfig,
    ViTMethodConfig,
)
from cl_lightning.config.schema.bounds import Choice, Named
from cl_lightning.config.schema.method import MOST_EPOCHS
from cl_lightning.config.starting_weights import starts_trained
from cl_lightning.config.unused.conditions import all_arrays
from cl_lightning.core.errors import UserError

_REFUSED_STRATEGIES = {
    "fsdp": "it wraps modules in place and does not unwrap them, so what a later task grows would neither be sharded "
    "nor kept equal",
    "ddp_": "it trains in child processes that are thrown away: what a task grew there, its memory and its counts "
    "would be lost",
    "deepspeed": "it partitions what a task's growth changes, and has never been tried here",
}
"""Prefix of the names of strategies that cannot carry growth -> reason."""


_PATCHED = (ConViTConfig, ConvViTConfig, TimmConfig, TimmBackboneConfig, ViTConfig)
"""Models with an option for the side of a patch."""


def check(config: Config, *, automatic_model: bool = False) -> None:
    """Raise ``UserError`` naming the value, what is allowed and the override to type.

    ``automatic_model``: the model was not chosen by name, and only a named one has options.
    """
    check_values(config)
    if not config.run_dir:
        raise UserError("run_dir= names no folder: type run_dir=DIR, or leave it out")
    if config.data.validation and not stops_early(config) and config.data.evaluate_on in ("val", "test"):
        raise UserError(
            f"data.evaluate_on={config.data.evaluate_on} has no meaning beside data.validation="
            f"{config.data.validation}, which sets training images aside: type data.validation=0, or leave it out"
        )
    _check_sets(config)
    _check_cutout(config.data)
    check_early_stopping(config)
    _check_balance(config)
    _check_strategy(config)
    _check_memory(config)
    _check_model(config, automatic_model)
    for name, phase in phases_of(config.method).items():
        _check_epochs(name, phase, config)
    if isinstance(config.method, JointConfig) and config.method.rehearsal:
        raise UserError("method.rehearsal=true has no meaning for joint training: type method.rehearsal=false")
    if isinstance(config.method, TaskTransformerConfig):
        _check_task_transformer(config, config.method)
    if isinstance(config.method, DERConfig):
        _check_pruning(config, config.method)
    if isinstance(config.method, DAFormerConfig):
        _check_neighbours(config.method)
    if isinstance(config.method, ViTMethodConfig | FrozenConfig):
        _check_backbone(config, config.method)
    if isinstance(config.method, MEATConfig):
        _check_meat(config.method)
    if isinstance(config.method, HATConfig):
        _check_hat(config, config.method)


def check_begin(config: Config) -> None:
    """Check what a run needs that starts with nothing learnt, and not one that resumes. Raises ``UserError`` as
    :func:`check` does.
    """
    if config.extends is not None:
        return
    for key, options in (("method.backbone_file", config.method), ("model.weights_file", config.model)):
        file = getattr(options, key.partition(".")[2], None)
        if file is not None and not Path(file).is_file():
            raise UserError(f"{key}={file} is no file: type {key}=FILE.safetensors or .pth")


def _check_sets(config: Config) -> None:
    data, example = config.data, "'data.sets=[{name: digits}, {name: cifar100, classes: 20}]'"
    if data.name != "sequence":
        if data.sets:
            raise UserError(f"data.sets has no meaning for data={data.name}: type data=sequence, or data.sets=[]")
        return
    if not data.sets:
        raise UserError(f"data.sets=[] names no data set: type {example}")
    for name in ("order", "classes", "initial", "increment"):
        if getattr(data, name) is not None:
            instead = "increment" if name == "initial" else name
            raise UserError(
                f"data.{name}={getattr(data, name)} has no meaning for data=sequence, where each set has its own: type "
                f"{instead} in its entry of data.sets and data.{name}=null"
            )
    if config.extends is not None:
        raise UserError(
            "learn= does not go with a run of data=sequence, whose images come from several places: start a new run "
            "with one entry more in data.sets, {name: image_folder, root: FOLDER}"
        )
    for place, entry in enumerate(data.sets, start=1):
        where = f"data.sets, entry {place} ({entry.name}): "
        if evaluates_share(config) and entry.evaluate_on in ("val", "test"):
            raise UserError(
                f"{where}evaluate_on: {entry.evaluate_on} has no meaning beside data.validation={data.validation}, "
                "which sets training images aside: type data.validation=0, or leave it out"
            )
        if entry.select is not None and (entry.classes is not None or entry.order != "identity"):
            raise UserError(f"{where}select names classes and their order: leave out classes and order, or select")


def _check_cutout(data: DataConfig) -> None:
    size = data.image_size if all_arrays(data) else data.preprocess.size
    asked = [("data.cutout=", data.cutout), *(("data.sets, cutout: ", each.cutout) for each in data.sets)]
    for name, cutout in asked:
        if cutout is not None and cutout > size:
            raise UserError(
                f"{name}{cutout} is larger than the images that are augmented, of {size} pixels: type "
                f"{name}{size // 2}, or 0 for none"
            )


def _check_balance(config: Config) -> None:
    stored_order = config.recipe.finetuning_order == "sequential" and "finetuning" in trained_phases(config)
    if config.data.balance == "sampling" and stored_order:
        raise UserError(
            "data.balance=sampling does not go with recipe.finetuning_order=sequential, which takes the memory in its "
            "stored order: type recipe.finetuning_order=shuffled, or data.balance=loss"
        )


def _check_strategy(config: Config) -> None:
    trainer, replicas = config.trainer, config.batch.replicas
    for prefix, reason in _REFUSED_STRATEGIES.items():
        if trainer.strategy.startswith(prefix):
            raise UserError(f"trainer.strategy={trainer.strategy} is refused: {reason}; type trainer.strategy=ddp")
    mistake = Choice(("auto", "ddp")).refusal(Named("trainer.strategy"), trainer.strategy)
    if mistake is not None:
        raise UserError(mistake)
    if replicas % trainer.devices:
        fitting = " or ".join(f"trainer.devices={d}" for d in _divisors(replicas))
        raise UserError(
            f"trainer.devices={trainer.devices} does not divide batch.replicas={replicas}, which is part of the recipe:"
            f" type {fitting}, or batch.replicas={trainer.devices} for another recipe"
        )


def _check_memory(config: Config) -> None:
    memory, replicas = config.memory, config.batch.replicas
    if memory.budget != "none" and not memory.size:
        raise UserError(f"memory.size={memory.size} is no memory: type memory.size=N with N at least 1, or memory=none")
    if memory.scope == "per_replica" and replicas == 1:
        raise UserError(
            "memory.scope=per_replica needs batch.replicas of at least 2: type batch.replicas=2 or memory.scope=global"
        )
    if memory.scope == "per_replica" and memory.size % replicas:
        fitting = max(memory.size // replicas, 1) * replicas
        raise UserError(
            f"memory.size={memory.size} is not divisible by batch.replicas={replicas}: type memory.size={fitting}"
        )


def _check_model(config: Config, automatic: bool) -> None:
    model, size, side = config.model, config.data.preprocess.size, size_option(config.data)
    if isinstance(model, _PATCHED) and model.patch_size and size % model.patch_size:
        by_name = f"model={model.name} " if automatic else ""
        allowed = " or ".join(f"{by_name}model.patch_size={d}" for d in _divisors(size) if 1 < d < size)
        raise UserError(
            f"{side}={size} is not divisible by model.patch_size={model.patch_size}: "
            f"type {allowed or f'another {side}'}"
        )
    file = getattr(model, "weights_file", None) or getattr(config.method, "backbone_file", None)
    check_preprocess(config.data, model, file)
    if isinstance(model, ConViTConfig | ConvViTConfig | ViTConfig) and model.dim % model.num_heads:
        allowed = ", ".join(f"model.num_heads={d}" for d in _divisors(model.dim) if d <= 16)
        raise UserError(f"model.num_heads={model.num_heads} does not divide model.dim={model.dim}: type {allowed}")
    if isinstance(model, TimmBackboneConfig):
        _check_timm_backbone(config, model)
    if isinstance(model, CifarResNetConfig) and (model.depth - 2) % 6:
        raise UserError(f"model.depth={model.depth} is not 6n + 2: type model.depth=8, 14, 20, 26, 32, 44, 56 or 110")
    of_patches = isinstance(model, ConViTConfig | ConvViTConfig | TimmConfig)
    if isinstance(config.method, TaskTransformerConfig) and not of_patches:
        raise UserError(
            f"{model.typed()} has no patch tokens for method={config.method.name}: "
            "type model=convit_cifar, model=conv_vit_cifar, model=convit_tiny or model=timm"
        )
    if isinstance(config.method, ViTMethodConfig) and not isinstance(model, ViTConfig | TimmConfig):
        raise UserError(
            f"{model.typed()} has no class token that passes all blocks, for method={config.method.name}: "
            "type model=vit_tiny, model=vit_cifar or model=timm"
        )
    if getattr(model, "frozen", False):
        _check_frozen(config)


def _check_pruning(config: Config, method: DERConfig) -> None:
    if method.finetune_pruned and method.pruning is None:
        raise UserError(
            "method.finetune_pruned=true needs what is pruned: type method.pruning.rule=masks or "
            "method.finetune_pruned=false"
        )
    if method.pruning is not None and not isinstance(config.model, CifarResNetConfig | ResNet18Config):
        raise UserError(
            f"{config.model.typed()}: method.pruning.rule={method.pruning.rule} removes channels of residual blocks, "
            "and it has none; type model=resnet18, model=resnet32 or method.pruning.rule=none"
        )


def _check_timm_backbone(config: Config, model: TimmBackboneConfig) -> None:
    if model.pretrained and model.weights_file is not None:
        raise UserError(
            f"model.weights_file={model.weights_file} and model.pretrained=true both give weights: leave out one"
        )


def _check_frozen(config: Config) -> None:
    method = config.method
    if isinstance(method, DERConfig):
        raise UserError(
            f"model.frozen=true leaves method={method.name} nothing to learn, whose tasks each bring a network: "
            "type model.frozen=false"
        )
    if isinstance(method, ViTMethodConfig):
        raise UserError(
            f"model.frozen=true has no meaning for method={method.name}, which decides what is trained: "
            "type model.frozen=false"
        )
    if not starts_trained(method, config.model):
        by_name = "model.pretrained=true, " if hasattr(config.model, "pretrained") else ""
        raise UserError(
            f"model.frozen=true needs a network that has been trained: type {by_name}model.weights_file=FILE or "
            "model.frozen=false"
        )


def _check_epochs(name: str, phase: PhaseConfig, config: Config) -> None:
    of_the_run = scale_name(config.method, name)
    scale = phase.epochs_scale if phase.epochs_scale is not None else getattr(config, of_the_run)
    if phase.epochs * scale > MOST_EPOCHS:
        raise UserError(
            f"method.{name}.epochs={phase.epochs} times {scale:g} are more than {MOST_EPOCHS} epochs: "
            f"type a smaller {of_the_run}, or method.{name}.epochs=N"
        )


def _check_task_transformer(config: Config, method: TaskTransformerConfig) -> None:
    if method.sam is not None and config.trainer.precision == "16-mixed":
        raise UserError(
            "trainer.precision=16-mixed does not go with sharpness-aware steps (method.sam): "
            "type trainer.precision=bf16-mixed"
        )
    if method.reconstruction is None:
        return
    if isinstance(config.model, ConvViTConfig):
        raise UserError(
            f"method.reconstruction leaves patches out, which the convolutions of {config.model.typed()} do not "
            "allow: type method.reconstruction.weight=0 or model=convit_cifar"
        )
    if method.reconstruction.mask == 0:
        raise UserError("method.reconstruction.mask=0 masks nothing: type 0.75, or method.reconstruction.weight=0")


def _check_backbone(config: Config, method: ViTMethodConfig | FrozenConfig) -> None:
    if method.rehearsal:
        raise UserError(
            f"method.rehearsal=true has no meaning for method={method.name}, which never forgets: "
            "type method.rehearsal=false"
        )
    has_file = hasattr(config.model, "weights_file") and not isinstance(config.model, ViTConfig)
    file = "model.weights_file" if has_file else "method.backbone_file"
    if method.backbone_task is False and not starts_trained(method, config.model):
        raise UserError(
            "method.backbone_task=false needs a backbone that has been trained: type model.pretrained=true "
            f"(with model={'timm_backbone' if has_file else 'timm'}), {file}=FILE or method.backbone_task=true"
        )
    if isinstance(method, FrozenConfig) and method.adapt:
        _check_adaptation(config, method)
    if (
        method.backbone_file is not None
        and isinstance(config.model, ViTConfig)
        and config.model.weights_file is not None
    ):
        raise UserError(
            f"method.backbone_file={method.backbone_file} and model.weights_file={config.model.weights_file} both give "
            "weights: leave out one"
        )
    if method.backbone_file is not None and has_file:
        raise UserError(
            f"method.backbone_file={method.backbone_file} is for a vision transformer with a class token: type "
            f"{file}={method.backbone_file} for model={config.model.name}"
        )
    if method.backbone_file is not None and getattr(config.model, "pretrained", False):
        raise UserError(
            f"method.backbone_file={method.backbone_file} and model.pretrained=true both give weights: leave out one"
        )


def _check_adaptation(config: Config, method: FrozenConfig) -> None:
    if not isinstance(config.model, ViTConfig | TimmConfig):
        raise UserError(
            f"{config.model.typed()} has no MLPs that method.adapt=true knows to put adapters beside: type "
            "model=vit_tiny, model=vit_cifar or model=timm, or method.adapt=false"
        )
    if method.backbone_task:
        raise UserError(
            "method.adapt=true adapts a backbone that comes with weights, and method.backbone_task=true trains the "
            "whole: type method.backbone_file=FILE or model=timm model.pretrained=true, or method.adapt=false"
        )
    if getattr(config.model, "frozen", False):
        raise UserError("model.frozen=true leaves method.adapt=true nothing to adapt: type model.frozen=false")


def _check_meat(method: MEATConfig) -> None:
    _check_choices("method.readouts", method.readouts, ("linear", "entropy", "class_mean"))
    blocks = method.token_mask_blocks
    if blocks != "all" and not method.token_masks:
        raise UserError(
            f"method.token_mask_blocks={blocks} has no meaning for method={method.name} without masks of tokens: leave "
            "it out, or type method.token_masks=true"
        )
    numbers = (
        isinstance(blocks, list) and all(type(b) is int and b >= 0 for b in blocks) and blocks == sorted(set(blocks))
    )
    if blocks != "all" and (not numbers or not blocks):
        raise UserError(
            f"method.token_mask_blocks={blocks} is neither all nor a rising list of blocks from 0: "
            "type method.token_mask_blocks=all or 'method.token_mask_blocks=[3,6,9]' (none: method.token_masks=false)"
        )


def _check_hat(config: Config, method: HATConfig) -> None:
    if method.rehearsal:
        raise UserError(
            "method.rehearsal=true has no meaning for method=hat, which spares what older tasks use: type "
            "method.rehearsal=false"
        )
    if not isinstance(config.model, AlexNetConfig | CifarResNetConfig | ResNet18Config | ViTConfig | TimmConfig):
        raise UserError(
            f"{config.model.typed()} has no units that method=hat knows to mask: type model=alexnet, model=resnet18, "
            "model=resnet32, model=vit_cifar or model=timm"
        )
    if getattr(config.model, "frozen", False):
        raise UserError("model.frozen=true leaves method=hat nothing to mask that is learnt: type model.frozen=false")
    if method.main.optimiser != "sgd":
        raise UserError(
            f"method.main.optimiser={method.main.optimiser} divides gradients by their own size, which undoes the "
            "factors that spare older tasks in method=hat: type method.main.optimiser=sgd"
        )
    if method.main.weight_decay > 0:
        raise UserError(
            f"method.main.weight_decay={method.main.weight_decay:g} moves the weights that older tasks use in "
            "method=hat: type method.main.weight_decay=0"
        )
    _check_choices("method.readouts", method.readouts, ("linear", "entropy"))


def _check_choices(name: str, values: list[str], allowed: tuple[str, ...]) -> None:
    if not values or len(set(values)) < len(values) or not set(values) <= set(allowed):
        raise UserError(
            f"{name}={list(values)} is not a choice: type '{name}=[{','.join(allowed)}]', or some of these, "
            "the main one first"
        )


def _check_neighbours(method: DAFormerConfig) -> None:
    given = method.neighbours
    if given.form != "none" and not method.distillation:
        raise UserError(
            f"method.neighbours.form={given.form} needs a teacher: type method.distillation=true, "
            "or method.neighbours.form=none"
        )


def _divisors(number: int) -> Iterable[int]:
    return (d for d in range(1, number + 1) if number % d == 0)
