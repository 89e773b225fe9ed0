"""From the configuration to objects: the only place where names meet classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from cl_lightning.config.option_names import MEMORY, METHOD
from cl_lightning.config.schema import (
    Config,
    DAFormerConfig,
    DataConfig,
    DERConfig,
    DyToxConfig,
    FinetuneConfig,
    ICaRLConfig,
    IndividualConfig,
    JointConfig,
    MEATConfig,
    SetConfig,
    TaskTransformerConfig,
    WAConfig,
)
from cl_lightning.core.errors import UserError, worded
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Mixing, Order, Phase, Sampling, Sharpness, View
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, RandAugment
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.added_task import extended_scenario
from cl_lightning.factory.phases import MAIN, build_phase
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.factory.vit_methods import build_individual, build_meat, named_network
from cl_lightning.losses.neighbours import Neighbours
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.methods import daformer, der, dytox, icarl, wa
from cl_lightning.methods.base import Method
from cl_lightning.methods.finetune import Finetune
from cl_lightning.models.build import Structure

_WHOLE_EMBEDDING_NETWORK = ("backbone", "classifier")
_PUBLISHED_BRIGHTNESS = 63 / 255
"""Brightness jitter of the PODNet and DER code bases."""


def build_scenario(config: Config) -> Scenario:
    """The tasks of ``config.data``, and those that were added to a finished run."""
    return dataset_scenario(config.data) if config.extends is None else extended_scenario(config)


def build_memory(config: Config) -> RehearsalMemory:
    """An empty memory."""
    memory = config.memory
    with worded(MEMORY):
        return RehearsalMemory(Budget(memory.budget, memory.size), memory.scope, config.batch.replicas)


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
            raise UserError(
                f"data.{name}={list(values)} needs {scenario.channels} values, one a channel: type data.{name}=null"
            )
    if not data.sets:
        augmentation = _augmentation(data.augmentation, data.crop_padding, data.flip)
        return Pipeline(scenario.image_size, mean, std, augmentation, key)
    each = tuple(_augmentation_of(entry, data) for entry in data.sets)
    set_of_class = torch.tensor(scenario.set_of_class, dtype=torch.int64)  # empty where no data are at hand
    no_flip = torch.tensor([not entry.flip for entry in data.sets])[set_of_class]
    return Pipeline(scenario.image_size, mean, std, PerDataset(each, set_of_class), key, no_flip=no_flip)


def _augmentation_of(entry: SetConfig, data: DataConfig) -> Augmentation | None:
    """Of one of several sets, which may leave open what it has in common with the others."""
    padding = data.crop_padding if entry.crop_padding is None else entry.crop_padding
    return _augmentation(entry.augmentation or data.augmentation, padding, entry.flip)


def _augmentation(name: str, crop_padding: int, flip: bool) -> Augmentation | None:
    basic = Augmentation(crop_padding=crop_padding, flip=flip)
    return {
        "none": None,
        "basic": basic,
        "brightness": dataclasses.replace(basic, brightness=_PUBLISHED_BRIGHTNESS),
        "randaugment": dataclasses.replace(basic, randaugment=RandAugment()),
    }[name]


def build_method(config: Config, scenario: Scenario, key: Key) -> Method:
    """The method with its network, before the first task."""
    with worded(METHOD):
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
    return named_network({"kind": "embedding_network", "backbone": backbone, "bias": bias, "classes": []}, key)


def _dytox(config: Config, scenario: Scenario, key: Key) -> Method:
    method = config.method
    assert isinstance(method, DyToxConfig)
    decoder = {"kind": "task_attention", "expansion": method.token_expansion}
    network = _task_network(config, scenario, decoder, key)
    phases = _expanding_phases(config, scenario, dytox.MAIN_PARTS, dytox.FINETUNING_PARTS)
    return dytox.DyTox(network, *phases, _expanding_options(config, scenario))


def _daformer(config: Config, scenario: Scenario, key: Key) -> Method:
    method = config.method
    assert isinstance(method, DAFormerConfig)
    decoder = {"kind": "dual_attention", "expansion": method.bank_expansion, "out_proj": method.out_proj}
    network = _task_network(config, scenario, decoder, key)
    phases = _expanding_phases(config, scenario, daformer.MAIN_PARTS, daformer.FINETUNING_PARTS)
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
    return named_network(structure, key)


def _herds_late(config: Config, scenario: Scenario) -> bool:
    """After fine-tuning, on as many new images as exemplars of old classes. Where nothing is old there is no such
    number: a single task is fine-tuned on its exemplars, which are herded before.
    """
    return config.recipe.herd_after_finetuning and len(scenario.tasks) > 1


def _expanding_phases(
    config: Config, scenario: Scenario, main_parts: tuple[str, ...], finetuning_parts: tuple[str, ...]
) -> tuple[Phase, Phase | None]:
    """DyTox's two phases, whatever grows."""
    method, recipe = config.method, config.recipe
    assert isinstance(method, TaskTransformerConfig)
    mixing = None if method.mixup is None else Mixing(method.mixup.alpha, method.mixup.smoothing)
    sharpness = None if method.sam is None else Sharpness(method.sam.rho, method.sam.adaptive)
    parts = [part for part in main_parts if method.divergence_weight > 0 or part != "divergence"]
    main = build_phase(MAIN, method.main, config, View.MERGED, parts, mixing=mixing, sharpness=sharpness)
    if method.finetuning is None:
        return main, None
    view = View.BALANCED if _herds_late(config, scenario) else View.MEMORY
    mixing_too = mixing if method.mixup and method.mixup.in_finetuning else None
    finetuning = build_phase("finetuning", method.finetuning, config, view, finetuning_parts, mixing=mixing_too)
    order = Order(recipe.finetuning_order)
    sampling = Sampling(order, recipe.order_ignores_seed, recipe.finetuning_drop_last)
    return main, dataclasses.replace(finetuning, sampling=sampling)


def _expanding_options(config: Config, scenario: Scenario) -> dytox.DyToxOptions:
    method, recipe = config.method, config.recipe
    assert isinstance(method, TaskTransformerConfig)
    return dytox.DyToxOptions(
        distillation=method.distillation,
        temperature=method.temperature,
        divergence_weight=method.divergence_weight,
        sharpness_from_task=method.sam.from_task if method.sam else 0,
        softmax=method.mixup is not None and recipe.mixup_softmax,
        distillation_class_mean=recipe.distillation_class_mean,
        rehearsal=config.memory.budget != "none",
        herd_augmented=recipe.herd_augmented,
        herd_distinct=recipe.herd_distinct,
        herd_after_finetuning=_herds_late(config, scenario),
        finetune_first=recipe.finetune_joint and len(scenario.tasks) == 1,
    )


def _finetune(config: Config, scenario: Scenario, key: Key) -> Method:
    main = build_phase(MAIN, config.method.main, config, View.MERGED, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(_embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def _joint(config: Config, scenario: Scenario, key: Key) -> Method:
    main = build_phase(MAIN, config.method.main, config, View.CUMULATIVE, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(_embedding_network(config, scenario, key), main, rehearsal=False)


def _icarl(config: Config, scenario: Scenario, key: Key) -> Method:
    if config.memory.budget == "none":
        raise UserError("memory=none: method=icarl needs exemplars, type memory=total (or method=finetune)")
    main = build_phase(MAIN, config.method.main, config, View.MERGED, icarl.MAIN_PARTS)
    return icarl.ICaRL(_embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def _wa(config: Config, scenario: Scenario, key: Key) -> Method:
    assert isinstance(config.method, WAConfig)
    main = build_phase(MAIN, config.method.main, config, View.MERGED, wa.MAIN_PARTS)
    options = wa.WAOptions(config.method.temperature, config.method.clip, rehearsal=config.memory.budget != "none")
    return wa.WA(_embedding_network(config, scenario, key, bias=False), main, options)


def _der(config: Config, scenario: Scenario, key: Key) -> Method:
    method = config.method
    assert isinstance(method, DERConfig)
    structure = {"kind": "extractor_network", "backbone": _backbone_structure(config, scenario), "classes": []}
    main = build_phase(MAIN, method.main, config, View.MERGED, der.MAIN_PARTS)
    second = build_phase("classifier", method.classifier, config, View.BALANCED, der.SECOND_PARTS)
    options = der.DEROptions(method.auxiliary_weight, method.temperature, rehearsal=config.memory.budget != "none")
    return der.DER(named_network(structure, key), main, second, options)


_METHODS: dict[type, Callable[[Config, Scenario, Key], Method]] = {
    DyToxConfig: _dytox,
    DAFormerConfig: _daformer,
    FinetuneConfig: _finetune,
    JointConfig: _joint,
    ICaRLConfig: _icarl,
    WAConfig: _wa,
    DERConfig: _der,
    MEATConfig: build_meat,
    IndividualConfig: build_individual,
}
