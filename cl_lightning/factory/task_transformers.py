"""Methods on a transformer that grows with each task, from the configuration to objects: DyTox, DAFormer and DKT."""

from __future__ import annotations

import dataclasses
from typing import Any

from cl_lightning.config.schedule_scales import epochs_of
from cl_lightning.config.schema import Config, DAFormerConfig, DKTConfig, DyToxConfig, TaskTransformerConfig
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Mixing, Order, Phase, Sampling, Sharpness, View
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.networks import encoder_structure, named_network
from cl_lightning.factory.phases import MAIN, build_phase
from cl_lightning.losses.neighbours import Neighbours
from cl_lightning.methods import daformer, dkt, dytox
from cl_lightning.methods.base import Method
from cl_lightning.models.build import Structure
from cl_lightning.models.conv_vit import GENERAL_TOKEN
from cl_lightning.models.task_network import RECONSTRUCTION, TaskNetwork


def build_dytox(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return DyTox: a task-attention decoder with one token a task."""
    method = config.method
    assert isinstance(method, DyToxConfig)
    decoder = {"kind": "task_attention", "expansion": method.token_expansion}
    network = _task_network(config, scenario, decoder, _heads(method.independent_heads), key)
    phases = _expanding_phases(config, scenario, network, dytox.MAIN_PARTS, dytox.FINETUNING_PARTS)
    return dytox.DyTox(network, *phases, _expanding_options(config, scenario))


def build_daformer(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return DAFormer: a dual-attention decoder, with its neighbour loss where that is asked for."""
    method = config.method
    assert isinstance(method, DAFormerConfig)
    decoder = {"kind": "dual_attention", "expansion": method.bank_expansion, "out_proj": method.out_proj}
    network = _task_network(config, scenario, decoder, _heads(method.independent_heads), key)
    phases = _expanding_phases(config, scenario, network, daformer.MAIN_PARTS, daformer.FINETUNING_PARTS)
    neighbours, given = None, method.neighbours
    if given.form != "none":
        loss = Neighbours(given.form, given.k, given.temperature, given.margin)
        neighbours = daformer.NeighbourTerm(loss, given.weight)
    return daformer.DAFormer(network, *phases, _expanding_options(config, scenario), neighbours)


def build_dkt(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return DKT: a decoder whose newest token asks, a duplex classifier, and the loss on directions."""
    method, recipe = config.method, config.recipe
    assert isinstance(method, DKTConfig)
    decoder = {
        "kind": "knowledge_transfer",
        "expansion": method.token_expansion,
        "mlp": method.decoder_mlp,
        "qkv_bias": method.decoder_bias,
    }
    network = _task_network(config, scenario, decoder, _classifier(config, method), key)
    main, finetuning = _expanding_phases(config, scenario, network, dkt.MAIN_PARTS, dkt.FINETUNING_PARTS)
    shared = _expanding_options(config, scenario)
    options = dkt.DKTOptions(
        shared, method.similarity_weight, recipe.similarity_mean, classification_twice=recipe.classification_twice
    )
    early = _early_tasks(config, method, finetuning, len(scenario.tasks))
    return dkt.DKT(network, main, finetuning, options, early)


def _classifier(config: Config, method: DKTConfig) -> Structure:
    """Return a duplex head, one head for all classes, or one for each task: all read the one embedding."""
    if method.head == "linear":
        return _heads(False)
    merge = config.recipe.merge
    return _heads(True) if merge == "separate" else {"kind": "duplex", "merge": merge}


def _early_tasks(config: Config, method: DKTConfig, finetuning: Phase | None, tasks: int) -> dkt.EarlyTasks | None:
    """Return the first tasks with their own fine-tuning: published are three tenths of all ``tasks``."""
    early = method.finetuning_early
    if early is None or finetuning is None or method.finetuning is None:
        return None
    epochs = epochs_of(finetuning.name, dataclasses.replace(method.finetuning, epochs=early.epochs), config)
    count = -(-3 * tasks // 10) if early.tasks is None else early.tasks
    return dkt.EarlyTasks(count, dataclasses.replace(finetuning, epochs=epochs))


def _heads(independent: bool) -> Structure:
    return {"kind": "independent" if independent else "joint"}


def _task_network(config: Config, scenario: Scenario, decoder: Structure, classifier: Structure, key: Key) -> Any:
    method = config.method
    assert isinstance(method, TaskTransformerConfig)
    structure = {
        "kind": "task_network",
        "encoder": encoder_structure(config, scenario),
        "decoder": decoder,
        "diverge": method.divergence_weight > 0,
        "classifier": classifier,
        "classes": [],
    }
    if method.reconstruction is not None:
        given = method.reconstruction
        sizes = {"mask": given.mask, "ffn_ratio": given.ffn_ratio}
        structure[RECONSTRUCTION] = sizes
    return named_network(structure, key)


def _herds_late(config: Config, scenario: Scenario) -> bool:
    """Return whether herding follows fine-tuning, on as many new images as exemplars of old classes. Where no class
    is old there is no such number: a single task is fine-tuned on its exemplars, which are herded before.
    """
    return config.recipe.herd_after_finetuning and len(scenario.tasks) > 1


def _expanding_phases(
    config: Config,
    scenario: Scenario,
    network: TaskNetwork,
    main_parts: tuple[str, ...],
    finetuning_parts: tuple[str, ...],
) -> tuple[Phase, Phase | None]:
    """Return DyTox's two phases, main and fine-tuning, for the parts of any growing transformer; ``encoder`` stands for
    all parts that the network's has.
    """
    method, recipe = config.method, config.recipe
    assert isinstance(method, TaskTransformerConfig)
    mixing = None if method.mixup is None else Mixing(method.mixup.alpha, method.mixup.smoothing)
    sharpness = None if method.sam is None else Sharpness(method.sam.rho, method.sam.adaptive)
    of_encoder = tuple(network.encoder.parts())
    parts = [each for part in main_parts for each in (of_encoder if part == "encoder" else (part,))]
    parts = [part for part in parts if method.divergence_weight > 0 or part != "divergence"]
    parts = parts if method.reconstruction is None else [*parts, RECONSTRUCTION]
    if recipe.general_token_in_finetuning and GENERAL_TOKEN in of_encoder:
        finetuning_parts = (*finetuning_parts, GENERAL_TOKEN)
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
        statistics_in_frozen=recipe.statistics_in_frozen,
        reconstruction_weight=0.0 if method.reconstruction is None else method.reconstruction.weight,
        reconstruction_reduction="mean" if method.reconstruction is None else method.reconstruction.reduction,
    )
