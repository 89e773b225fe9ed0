"""Methods on a convolutional backbone: fine-tuning, joint, LwF, iCaRL, UCIR, PODNet, BiC, RPS-Net, End-to-End, WA and
DER, from options.
"""

from __future__ import annotations

from dataclasses import replace

from cl_lightning.config.schema import (
    BiCConfig,
    Config,
    DERConfig,
    E2EConfig,
    LwFConfig,
    PODNetConfig,
    RPSNetConfig,
    UCIRConfig,
    WAConfig,
)
from cl_lightning.core.errors import UserError
from cl_lightning.core.gradient_noise import GradientNoise
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Phase, View
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.networks import backbone_structure, embedding_network, named_network
from cl_lightning.factory.phases import MAIN, build_phase
from cl_lightning.methods import bic, der, e2e, icarl, lwf, podnet, rpsnet, ucir, wa
from cl_lightning.methods.base import Method
from cl_lightning.methods.finetune import Finetune
from cl_lightning.models.prunable_resnet import CHANNEL_MASKS

_PODNETS_BACKBONES = {
    "cifar_resnet": {"stream_relu": False, "zero_residual": True, "final_stage": True},
    "resnet18": {"stage_relu": False},
}
"""Kind of backbone -> options in which PODNet's differs."""
_WHOLE_EMBEDDING_NETWORK = ("backbone", "classifier")


def build_finetune(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return fine-tuning on new images and exemplars."""
    main = build_phase(MAIN, config.method.main, config, View.MERGED, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def build_joint(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return training on all images of all tasks so far: an upper bound, not continual learning."""
    main = build_phase(MAIN, config.method.main, config, View.CUMULATIVE, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(embedding_network(config, scenario, key), main, rehearsal=False)


def build_lwf(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return LwF. Raises ``UserError`` where exemplars would have no class to be classified as."""
    method, remembers = config.method, config.memory.budget != "none"
    assert isinstance(method, LwFConfig)
    if remembers and method.classify == "new":
        raise UserError(
            "method.classify=new: with memory images of old classes are trained on, which are none of the new classes; "
            "type method.classify=all, or memory=none"
        )
    compete = method.classify == "all" or (method.classify == "auto" and remembers)
    alone = [task.index + 1 for task in scenario.tasks if task.num_new == 1]
    if alone and not compete:
        raise UserError(
            f"method=lwf has new classes compete with each other alone, and task {alone[0]} brings a single one, of "
            "which nothing would be learnt: type method.classify=all, or larger tasks with data.increment=N; a "
            "finished run that is to learn more wants two class folders or more in data.new"
        )
    frozen = method.old_rows == "frozen"
    parts = lwf.PARTS_WITH_FROZEN_ROWS if frozen else lwf.PARTS
    first = None if method.first is None else build_phase("first", method.first, config, View.MERGED, parts)
    main = build_phase(MAIN, method.main, config, View.MERGED, parts)
    options = lwf.LwFOptions(
        method.temperature,
        method.weight,
        all_classes_compete=compete,
        per_task=method.softmax == "per_task",
        rehearsal=remembers,
    )
    head = {"head": "linear_by_task" if frozen else "linear", "bias": True}
    return lwf.LwF(embedding_network(config, scenario, key, head=head), first, main, options)


def build_icarl(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return iCaRL. Raises ``UserError`` without a memory."""
    _refuse_no_memory(config, "needs exemplars", "method=finetune")
    main = build_phase(MAIN, config.method.main, config, View.MERGED, icarl.MAIN_PARTS)
    return icarl.ICaRL(embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def _refuse_no_memory(config: Config, why: str, instead: str) -> None:
    """Raise ``UserError`` for a method that keeps nothing of old classes, and cannot do without."""
    method = config.method
    if not method.rehearsal:
        raise UserError(f"method.rehearsal=false: method={method.name} {why}, leave it out (or type {instead})")
    if config.memory.budget == "none":
        raise UserError(f"memory=none: method={method.name} {why}, type memory=total (or {instead})")


def build_ucir(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return UCIR: cosines, and features that may be negative."""
    method = config.method
    assert isinstance(method, UCIRConfig)
    main = build_phase(MAIN, method.main, config, View.MERGED, ucir.MAIN_PARTS)
    finetuning = None
    if method.finetune and config.memory.budget != "none":
        finetuning = build_phase(
            "balanced_finetuning", method.balanced_finetuning, config, View.MEMORY, ucir.FINETUNING_PARTS
        )
    options = ucir.UCIROptions(
        method.less_forget_weight,
        method.ranking_weight,
        method.margin,
        method.negatives,
        imprint=method.imprint,
        rehearsal=config.memory.budget != "none",
    )
    no_last = {"last_relu": False}
    backbones = {"cifar_resnet": no_last, "resnet18": no_last}
    network = embedding_network(config, scenario, key, head={"head": "cosine_by_task"}, backbones=backbones)
    return ucir.UCIR(network, main, finetuning, options)


def build_podnet(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return PODNet: proxies, no ReLU behind sums, four maps. Raises ``UserError`` for a network without maps."""
    method, remembers = config.method, config.memory.budget != "none"
    assert isinstance(method, PODNetConfig)
    kind = backbone_structure(config, scenario)["kind"]
    if kind not in _PODNETS_BACKBONES:
        raise UserError(
            f"{config.model.typed()}: method=podnet compares maps of height and width, and "
            f"{'it gives none' if kind == 'timm_backbone' else 'a transformer has none'}; type model=resnet32 or "
            "model=resnet18"
        )
    clamp = method.gradient_clamp
    main = build_phase(MAIN, method.main, config, View.MERGED, podnet.MAIN_PARTS, gradient_clamp=clamp)
    finetuning = None
    if method.finetuning is not None and remembers:
        parts = podnet.FINETUNING_PARTS
        finetuning = build_phase("finetuning", method.finetuning, config, View.MEMORY, parts, gradient_clamp=clamp)
    options = podnet.PODNetOptions(
        method.nca,
        method.margin,
        method.pod_flat,
        method.pod_spatial,
        moving_statistics=method.finetuning_batch_norm == "training",
        rehearsal=remembers,
    )
    head = {"head": "proxies_by_task", "proxies": method.proxies}
    network = embedding_network(config, scenario, key, head=head, backbones=_PODNETS_BACKBONES)
    return podnet.PODNet(network, main, finetuning, options)


def build_bic(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return BiC. Raises ``UserError`` without a memory."""
    method = config.method
    assert isinstance(method, BiCConfig)
    _refuse_no_memory(config, "fits its correction to images of old classes", "method=lwf")
    main = build_phase(MAIN, method.main, config, View.MERGED, bic.MAIN_PARTS)
    correction = build_phase(
        "bias_correction", method.bias_correction, config, View.HELD_OUT, bic.CORRECTION_PARTS, augmented=False
    )
    options = bic.BiCOptions(
        method.temperature,
        method.held_out,
        method.offset_weight,
        decay_over=len(scenario.tasks) if method.decay_by_task else None,
        moving_statistics=method.correction_batch_norm == "training",
    )
    head = {"head": "bias_corrected", "every_pair": method.pairs == "all"}
    return bic.BiC(embedding_network(config, scenario, key, head=head), main, correction, options)


def build_rpsnet(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return RPS-Net. Raises ``UserError`` without a memory, and for a network without paths."""
    method = config.method
    assert isinstance(method, RPSNetConfig)
    _refuse_no_memory(config, "chooses between paths by images of old classes too", "method=lwf")
    if backbone_structure(config, scenario)["kind"] != "path_net":
        raise UserError(
            f"{config.model.typed()}: method=rpsnet chooses paths through parallel modules, and it has none; type "
            "model=path_net or model=path_net_tiny"
        )
    parity = method.reference_parity
    options = rpsnet.RPSNetOptions(
        method.modules,
        method.path_every,
        method.candidates,
        method.temperature,
        method.growth,
        method.held_out,
        reference_parity=parity,
    )
    every_class = {"head": "allocated", "outputs": scenario.tasks[-1].num_seen}
    network = embedding_network(
        config,
        scenario,
        key,
        head=every_class if parity else None,
        backbones={"path_net": {"layer7_residual": not parity, "modules": method.modules}},
    )
    main = build_phase(MAIN, method.main, config, View.MERGED, rpsnet.MAIN_PARTS)
    return rpsnet.RPSNet(network, main, options)


def build_e2e(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return End-to-End. Raises ``UserError`` without a memory."""
    method = config.method
    assert isinstance(method, E2EConfig)
    _refuse_no_memory(config, "learns from balanced data", "method=lwf")
    first = None if method.first is None else build_phase("first", method.first, config, View.MERGED, e2e.PARTS)
    main = build_phase(MAIN, method.main, config, View.MERGED, e2e.PARTS)
    balanced = build_phase("balanced", method.balanced, config, View.MEMORY, e2e.PARTS)
    phases = e2e.E2EPhases(first, _copied(main, method, 1), _copied(balanced, method, main.epochs + 1))
    head = {"head": "linear", "bias": True}
    return e2e.E2E(embedding_network(config, scenario, key, head=head), phases, method.temperature)


def _copied(phase: Phase, method: E2EConfig, first_epoch: int) -> Phase:
    """Return a phase with End-to-End's copies of images, noise and decay; its first epoch is number ``first_epoch``."""
    noise = GradientNoise(method.gradient_noise, method.noise_power, first_epoch) if method.gradient_noise else None
    return replace(
        phase,
        sampling=replace(phase.sampling, copies=method.copies, fixed=method.variants == "fixed"),
        optimiser=replace(phase.optimiser, decay_by_norm=method.decay == "norm_squared"),
        gradient_noise=noise,
    )


def build_wa(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return WA; its classifier has no bias."""
    assert isinstance(config.method, WAConfig)
    main = build_phase(MAIN, config.method.main, config, View.MERGED, wa.MAIN_PARTS)
    options = wa.WAOptions(config.method.temperature, config.method.clip, rehearsal=config.memory.budget != "none")
    return wa.WA(embedding_network(config, scenario, key, head={"head": "linear", "bias": False}), main, options)


def build_der(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return DER: an extractor a task, which may be pruned, and a second phase for the classifier."""
    method = config.method
    assert isinstance(method, DERConfig)
    backbone = backbone_structure(config, scenario)
    main = build_phase(MAIN, method.main, config, View.MERGED, der.MAIN_PARTS)
    second = build_phase("classifier", method.classifier, config, View.BALANCED, der.SECOND_PARTS)
    given, pruning, finetuning = method.pruning, None, None
    if given is not None:
        masked = given.rule == "masks"
        share = None if masked else given.share
        pruning = der.Pruning(share, given.sparsity, area=given.kernel == "area", fresh=given.start == "fresh")
        s_max = given.s_max if masked else None
        backbone = {"kind": "prunable_resnet", "backbone": backbone, "s_max": s_max, "kept": None}
        if masked:  # a decay would pull all logits towards the threshold
            main = replace(main, trains=(*main.trains, CHANNEL_MASKS), decays={CHANNEL_MASKS: 0.0})
        if method.finetune_pruned:
            name = "pruned_finetuning"
            finetuning = build_phase(name, method.pruned_finetuning, config, View.MERGED, der.FINETUNING_PARTS)
    options = der.DEROptions(
        method.auxiliary_weight,
        method.temperature,
        rehearsal=config.memory.budget != "none",
        pruning=pruning,
        kd_weight=method.kd_weight,
        kd_temperature=method.kd_temperature,
    )
    structure = {"kind": "extractor_network", "backbone": backbone, "classes": []}
    return der.DER(named_network(structure, key), main, second, options, finetuning)
