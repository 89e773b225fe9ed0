"""From the configuration to objects: the only place where names meet classes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cl_lightning.config.schema import (
    Config,
    DAFormerConfig,
    DataConfig,
    DERConfig,
    DyToxConfig,
    FinetuneConfig,
    ICaRLConfig,
    JointConfig,
    MEATConfig,
    PhaseConfig,
    SetConfig,
    TaskTransformerConfig,
    TimmConfig,
    ViTConfig,
    WAConfig,
)
from cl_lightning.data.augment import Augmentation, BySet, RandAugment
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenario import Scenario
from cl_lightning.losses.neighbours import Neighbours
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.methods import daformer, der, dytox, icarl, meat, wa
from cl_lightning.methods.base import Method
from cl_lightning.methods.finetune import Finetune
from cl_lightning.models.build import Structure, build_network
from cl_lightning.models.vit_weights import file_weights, timm_sizes, timm_weights
from cl_lightning.rng import Key
from cl_lightning.scenarios import extended_scenario, plain_scenario
from cl_lightning.types import Mixing, Optimiser, Order, Phase, Sampling, Schedule, Sharpness, View

MAIN = "main"
"""Every method's first phase in a task."""
BACKBONE = "backbone"
"""What takes its place in MEAT's first task, where that trains the transformer."""
_WHOLE_EMBEDDING_NETWORK = ("backbone", "classifier")
_PUBLISHED_BRIGHTNESS = 63 / 255
"""Brightness jitter of the PODNet and DER code bases."""


def build_scenario(config: Config) -> Scenario:
    """The tasks of ``config.data``, and those that were added to a finished run."""
    return plain_scenario(config.data) if config.extends is None else extended_scenario(config)


def build_memory(config: Config) -> RehearsalMemory:
    """An empty memory."""
    memory = config.memory
    return RehearsalMemory(Budget(memory.budget, memory.size or 0), memory.scope, config.batch.replicas or 1)


def flips(config: Config) -> bool:
    """Whether training mirrors any images."""
    data = config.data
    return any(entry.flip for entry in data.sets) if data.sets else data.flip


def build_pipeline(config: Config, scenario: Scenario, key: Key) -> Pipeline:
    """What happens to training images."""
    data = config.data
    mean, std = (tuple(v) if v is not None else (0.5,) * scenario.channels for v in (data.mean, data.std))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != scenario.channels:
            raise ValueError(
                f"data.{name}={list(values)} needs {scenario.channels} values, one a channel: type data.{name}=null"
            )
    if min(std) <= 0:
        raise ValueError(f"data.std={list(std)} must be above 0: type data.std=null")
    if not data.sets:
        augmentation = _augmentation(data.augmentation, data.crop_padding, data.flip)
        return Pipeline(scenario.image_size, mean, std, augmentation, key)
    each = tuple(_augmentation_of(entry, data) for entry in data.sets)
    set_of_class = torch.tensor(scenario.set_of_class, dtype=torch.int64)  # empty where no data are at hand
    upright = torch.tensor([not entry.flip for entry in data.sets])[set_of_class]
    return Pipeline(scenario.image_size, mean, std, BySet(each, set_of_class), key, upright=upright)


def _augmentation_of(entry: SetConfig, data: DataConfig) -> Augmentation | None:
    """Of one of several sets, which may leave open what it has in common with the others."""
    padding = data.crop_padding if entry.crop_padding is None else entry.crop_padding
    return _augmentation(entry.augmentation or data.augmentation, padding, bool(entry.flip))


def _augmentation(name: str | None, crop_padding: int, flip: bool) -> Augmentation | None:
    basic = Augmentation(crop_padding=crop_padding, flip=flip)
    return {
        "none": None,
        "basic": basic,
        "brightness": dataclasses.replace(basic, brightness=_PUBLISHED_BRIGHTNESS),
        "randaugment": dataclasses.replace(basic, randaugment=RandAugment()),
    }[name or "none"]


def build_method(config: Config, scenario: Scenario, key: Key) -> Method:
    """The method with its network, before the first task."""
    return _METHODS[type(config.method)](config, scenario, key)


def encoder_structure(config: Config, scenario: Scenario) -> Structure:
    """Description of the encoder or backbone that ``config.model`` names."""
    options = {k: v for k, v in dataclasses.asdict(config.model).items() if k not in ("name", "pretrained")}
    options["channels"] = scenario.channels
    if options["kind"] in ("convit", "timm_vit"):
        options["image_size"] = scenario.image_size
    if options["kind"] == "timm_vit":
        options["name"] = config.model.name
    if getattr(config.model, "pretrained", False):
        options["pretrained"] = True
    return options


def _backbone_structure(config: Config, scenario: Scenario) -> Structure:
    encoder = encoder_structure(config, scenario)
    return {"kind": "class_token", "encoder": encoder} if encoder["kind"] in ("convit", "timm_vit") else encoder


def _embedding_network(config: Config, scenario: Scenario, key: Key, *, bias: bool = True) -> Any:
    backbone = _backbone_structure(config, scenario)
    return build_network({"kind": "embedding_network", "backbone": backbone, "bias": bias, "classes": []}, key)


def _dytox(config: Config, scenario: Scenario, key: Key) -> Method:
    method = config.method
    assert isinstance(method, DyToxConfig)
    decoder = {"kind": "task_attention", "expansion": method.token_expansion}
    network = _task_network(config, scenario, decoder, key)
    phases = _expanding_phases(config, dytox.MAIN_PARTS, dytox.FINETUNING_PARTS)
    return dytox.DyTox(network, *phases, _expanding_options(config, scenario))


def _daformer(config: Config, scenario: Scenario, key: Key) -> Method:
    method = config.method
    assert isinstance(method, DAFormerConfig)
    decoder = {"kind": "dual_attention", "expansion": method.bank_expansion, "out_proj": method.out_proj}
    network = _task_network(config, scenario, decoder, key)
    phases = _expanding_phases(config, daformer.MAIN_PARTS, daformer.FINETUNING_PARTS)
    neighbours, given = None, method.neighbours
    if given.form != "none":
        loss = Neighbours(given.form, given.k, given.temperature, given.margin)
        neighbours = daformer.NeighbourTerm(loss, given.weight)
    return daformer.DAFormer(network, *phases, _expanding_options(config, scenario), neighbours)


def _task_network(config: Config, scenario: Scenario, decoder: Structure, key: Key) -> Any:
    method = config.method
    assert isinstance(method, TaskTransformerConfig)
    structure = {
        "kind": "task_network",
        "encoder": encoder_structure(config, scenario),
        "decoder": decoder,
        "diverge": method.divergence_weight > 0,
        "independent_heads": method.independent_heads,
        "classes": [],
    }
    return build_network(structure, key)


def _expanding_phases(
    config: Config, main_parts: tuple[str, ...], finetuning_parts: tuple[str, ...]
) -> tuple[Phase, Phase | None]:
    """DyTox's two phases, whatever grows."""
    method, recipe = config.method, config.recipe
    assert isinstance(method, TaskTransformerConfig)
    mixing = None if method.mixup is None else Mixing(method.mixup.alpha, method.mixup.smoothing)
    sharpness = None if method.sam is None else Sharpness(method.sam.rho, method.sam.adaptive)
    parts = [part for part in main_parts if method.divergence_weight > 0 or part != "divergence"]
    main = _phase(MAIN, method.main, config, View.MERGED, parts, mixing=mixing, sharpness=sharpness)
    if method.finetuning is None:
        return main, None
    view = View.BALANCED if recipe.herd_after_finetuning else View.MEMORY
    mixing_too = mixing if method.mixup and method.mixup.in_finetuning else None
    finetuning = _phase("finetuning", method.finetuning, config, view, finetuning_parts, mixing=mixing_too)
    order = Order(recipe.finetuning_order or "shuffled")
    sampling = Sampling(order, bool(recipe.order_ignores_seed), bool(recipe.finetuning_drop_last))
    return main, dataclasses.replace(finetuning, sampling=sampling)


def _expanding_options(config: Config, scenario: Scenario) -> dytox.DyToxOptions:
    method, recipe = config.method, config.recipe
    assert isinstance(method, TaskTransformerConfig)
    return dytox.DyToxOptions(
        distillation=method.distillation,
        temperature=method.temperature,
        divergence_weight=method.divergence_weight,
        sharpness_from_task=method.sam.from_task if method.sam else 0,
        softmax=method.mixup is not None and bool(recipe.mixup_softmax),
        distillation_class_mean=bool(recipe.distillation_class_mean),
        rehearsal=config.memory.budget != "none",
        herd_augmented=bool(recipe.herd_augmented),
        herd_distinct=bool(recipe.herd_distinct),
        herd_after_finetuning=bool(recipe.herd_after_finetuning),
        finetune_first=bool(recipe.finetune_joint) and len(scenario.tasks) == 1,
    )


def _finetune(config: Config, scenario: Scenario, key: Key) -> Method:
    main = _phase(MAIN, config.method.main, config, View.MERGED, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(_embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def _joint(config: Config, scenario: Scenario, key: Key) -> Method:
    main = _phase(MAIN, config.method.main, config, View.CUMULATIVE, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(_embedding_network(config, scenario, key), main, rehearsal=False)


def _icarl(config: Config, scenario: Scenario, key: Key) -> Method:
    main = _phase(MAIN, config.method.main, config, View.MERGED, icarl.MAIN_PARTS)
    return icarl.ICaRL(_embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def _wa(config: Config, scenario: Scenario, key: Key) -> Method:
    assert isinstance(config.method, WAConfig)
    main = _phase(MAIN, config.method.main, config, View.MERGED, wa.MAIN_PARTS)
    options = wa.WAOptions(config.method.temperature, config.method.clip, rehearsal=config.memory.budget != "none")
    return wa.WA(_embedding_network(config, scenario, key, bias=False), main, options)


def _der(config: Config, scenario: Scenario, key: Key) -> Method:
    method = config.method
    assert isinstance(method, DERConfig)
    structure = {"kind": "extractor_network", "backbone": _backbone_structure(config, scenario), "classes": []}
    main = _phase(MAIN, method.main, config, View.MERGED, der.MAIN_PARTS)
    second = _phase("classifier", method.classifier, config, View.BALANCED, der.SECOND_PARTS)
    options = der.DEROptions(method.auxiliary_weight, method.temperature, rehearsal=config.memory.budget != "none")
    return der.DER(build_network(structure, key), main, second, options)  # type: ignore[arg-type]


def _meat(config: Config, scenario: Scenario, key: Key) -> Method:
    method = config.method
    assert isinstance(method, MEATConfig)
    vit = _vit_structure(config, scenario)
    structure = {
        "kind": "masked_network",
        "vit": vit,
        "token_mask_blocks": _token_mask_blocks(method, vit["depth"]),
        "ffn_masks": method.ffn_masks,
        "plain_first": bool(method.backbone_task),
        "temperature": method.temperature,
        "gap": 2 * method.gamma,
        "classes": [],
    }
    network: Any = build_network(structure, key)
    mixing = None if method.mixup is None else Mixing(method.mixup.alpha, method.mixup.smoothing)
    parts = meat.main_parts(token_masks=method.token_masks, ffn_masks=method.ffn_masks)
    main = _phase(MAIN, method.main, config, View.NEW, parts, mixing=mixing)
    # One logit stands for a keep and a drop logit that would move in opposite directions: twice the rate.
    rates = {"token_masks": 2 * method.token_rate, "ffn_masks": 2 * method.ffn_rate}
    main = dataclasses.replace(main, rates={part: rate for part, rate in rates.items() if part in parts})
    backbone = None
    if method.backbone_task:
        backbone = _phase(BACKBONE, method.backbone, config, View.NEW, meat.BACKBONE_PARTS, mixing=mixing)
    options = meat.MEATOptions(method.keep, method.drop_weight, tuple(method.readouts))
    return meat.MEAT(network, main, backbone, options, _vit_weights(config, scenario, network))


def _vit_structure(config: Config, scenario: Scenario) -> Structure:
    """Sizes alone: weights are loaded when the first task begins, not for a run that goes on."""
    model = config.model
    assert isinstance(model, ViTConfig | TimmConfig)
    if isinstance(model, TimmConfig):
        sizes = timm_sizes(model.name, scenario.image_size, scenario.channels, model.patch_size)
        return {"kind": "plain_vit", **sizes, "drop_path": model.drop_path}
    sizes = {name: value for name, value in dataclasses.asdict(model).items() if name != "name"}
    return {**sizes, "image_size": scenario.image_size, "channels": scenario.channels}


def _vit_weights(config: Config, scenario: Scenario, network: Any) -> Callable[[], meat.Weights] | None:
    model, file = config.model, config.method.backbone_file  # type: ignore[attr-defined]
    if file is not None:
        return lambda: file_weights(Path(file), network.vit)
    if isinstance(model, TimmConfig) and model.pretrained:
        return lambda: timm_weights(model.name, scenario.image_size, scenario.channels, model.patch_size)
    return None


def _token_mask_blocks(method: MEATConfig, depth: int) -> list[int]:
    if not method.token_masks:
        return []
    blocks = list(range(depth)) if method.token_mask_blocks == "all" else list(method.token_mask_blocks)
    if blocks[-1] >= depth:
        raise ValueError(
            f"method.token_mask_blocks={blocks} names a block that is not there: "
            f"type numbers from 0 to {depth - 1}, or all"
        )
    return blocks


_METHODS: dict[type, Callable[[Config, Scenario, Key], Method]] = {
    DyToxConfig: _dytox,
    DAFormerConfig: _daformer,
    FinetuneConfig: _finetune,
    JointConfig: _joint,
    ICaRLConfig: _icarl,
    WAConfig: _wa,
    DERConfig: _der,
    MEATConfig: _meat,
}


def scaled_epochs(phase: str, epochs: int, config: Config) -> int:
    """A phase's epochs in this run, at least one; phases after the main one look at balanced, small data."""
    scale = config.epochs_scale if phase in (MAIN, BACKBONE) else config.balanced_epochs_scale
    return max(1, math.ceil(epochs * (scale or 1.0) - 1e-9))


def _phase(
    name: str,
    phase: PhaseConfig,
    config: Config,
    view: View,
    trains: tuple[str, ...] | list[str],
    *,
    mixing: Mixing | None = None,
    sharpness: Sharpness | None = None,
) -> Phase:
    """A paper's schedule, scaled, with the recipe's way of sampling."""
    recipe = config.recipe
    epochs = scaled_epochs(name, phase.epochs, config)
    order = Order.REPEATED if recipe.repeated_augmentation else Order.SHUFFLED
    return Phase(
        name=name,
        view=view,
        epochs=epochs,
        optimiser=Optimiser(
            name=phase.optimiser,
            lr=phase.lr * (config.lr_scale or 1.0),
            weight_decay=phase.weight_decay,
            decay_vectors=phase.decay_vectors,
            momentum=phase.momentum,
            reference_batch=phase.reference_batch if recipe.lr_follows_batch else None,
        ),
        schedule=Schedule(
            name=phase.schedule,
            warmup_epochs=round(phase.warmup_epochs * epochs / phase.epochs),
            warmup_lr=phase.warmup_lr,
            min_lr=phase.min_lr,
            milestones=tuple(phase.milestones),
            gamma=phase.gamma,
            lag=bool(recipe.schedule_lag),
        ),
        trains=tuple(trains),
        sampling=Sampling(order, bool(recipe.order_ignores_seed)),
        mixing=mixing,
        sharpness=sharpness,
        drop_path_in_frozen=bool(recipe.drop_path_in_frozen),
    )
