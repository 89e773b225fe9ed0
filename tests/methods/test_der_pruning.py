"""DER that prunes its extractors, and distils old scores: what the options add to ``test_der.py``."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from cl_lightning.config.check import check
from cl_lightning.config.schema import DERConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Act, Evaluate, Fit, Grow, Herd, Optimiser, Phase, Progress, View
from cl_lightning.factory.methods import build_method
from cl_lightning.learning.lightning_module import Learner, PhaseLength
from cl_lightning.methods.der import DER, FINETUNING_PARTS, MAIN_PARTS, PRUNE, RESET_CLASSIFIER, SECOND_PARTS, Pruning
from cl_lightning.models.build import build_network
from cl_lightning.models.prunable_resnet import CHANNEL_MASKS, PrunableResNet
from tests.config.made import filled, idle
from tests.factory.scenarios import tasks
from tests.methods.options import der_options
from tests.methods.test_der import CONSTANT, SGD, batch, cross_entropy, train
from tests.methods.test_der import task as task_of

NOTHING: Any = None
DECAYING = Optimiser("sgd", 0.1, 5e-4)
MAIN = Phase("main", View.MERGED, 1, SGD, CONSTANT, (*MAIN_PARTS, CHANNEL_MASKS), decays={CHANNEL_MASKS: 0.0})
SECOND = Phase("classifier", View.BALANCED, 1, SGD, CONSTANT, SECOND_PARTS)
FINETUNING = Phase("pruned_finetuning", View.MERGED, 1, SGD, CONSTANT, FINETUNING_PARTS)
BY_MASKS = Pruning(None, 0.5, area=True, fresh=False)
BY_SCALES = Pruning(0.5, 0.0, area=True, fresh=False)
RESNET8 = {"kind": "cifar_resnet", "depth": 8, "channels": 1, "width": 4}


def made(pruning: Pruning | None = BY_MASKS, finetuning: Phase | None = None, **changed: Any) -> DER:
    masked = pruning is not None and pruning.share is None
    backbone = {"kind": "prunable_resnet", "backbone": RESNET8, "s_max": 100.0 if masked else None, "kept": None}
    structure = {"kind": "extractor_network", "backbone": backbone if pruning else RESNET8, "classes": []}
    network: Any = build_network(structure, Key(0))
    main = MAIN if masked else Phase("main", View.MERGED, 1, SGD, CONSTANT, MAIN_PARTS)
    return DER(network, main, SECOND, der_options(pruning=pruning, **changed), finetuning)


def newest(der: DER) -> PrunableResNet:
    found = der.network.newest_prunable()
    assert found is not None
    return found


def grown(der: DER, *sizes: int) -> DER:
    """Grow and prune task after task, but for the pruning of the last one."""
    for index in range(len(sizes)):
        if index:
            der.act(PRUNE, task_of(index - 1, *sizes), NOTHING)
        der.grow(task_of(index, *sizes), Key(index), NOTHING)
    return der


def test_pruning_comes_before_the_second_stage_and_fine_tuning_between() -> None:
    balanced = [Act(RESET_CLASSIFIER), Fit(SECOND)]
    assert made().plan(task_of(0, 2)) == [Grow(), Fit(MAIN), Act(PRUNE), Herd(), Evaluate()]
    assert made().plan(task_of(1, 2, 2)) == [Grow(), Fit(MAIN), Act(PRUNE), *balanced, Herd(), Evaluate()]
    tuned = made(finetuning=FINETUNING).plan(task_of(1, 2, 2))
    assert tuned == [Grow(), Fit(MAIN), Act(PRUNE), Fit(FINETUNING), *balanced, Herd(), Evaluate()]


def test_the_sparsity_loss_is_a_term_while_masks_are_trained() -> None:
    der = grown(made(), 2, 2)
    data = batch([0, 1, 2, 3], 4)
    terms = der.losses(task_of(1, 2, 2), MAIN, data, der.outputs(MAIN, data.images, None))
    kept = whole = 0.0
    for area, before, behind in newest(der).links(area=True):
        kept += area * before.sum().item() * behind.sum().item()
        whole += area * len(before) * len(behind)
    assert terms["sparsity"].item() == pytest.approx(0.5 * kept / whole, rel=1e-5)
    assert set(terms) == {"classification", "auxiliary", "sparsity"}
    der.act(PRUNE, task_of(1, 2, 2), NOTHING)
    tuned = der.losses(task_of(1, 2, 2), FINETUNING, data, der.outputs(FINETUNING, data.images, None))
    assert set(tuned) == {"classification", "auxiliary"}


def test_sharpness_follows_the_position_in_the_epoch() -> None:
    der = grown(made(), 2)
    seen = [newest(der).sharpness.item()]
    for step in range(1, 9):
        der.after_step(Progress(step, 8, (step - 1) // 4, 2))
        seen.append(newest(der).sharpness.item())
    rise = [0.01 + (100 - 0.01) * b / 3 for b in range(4)]
    assert seen == pytest.approx([*rise, *rise, 0.01], rel=1e-5), "set back behind the last step"
    der.train_mode(MAIN)
    assert newest(der).sharpness.item() == pytest.approx(0.01), "a resumed phase does not begin an epoch"


def test_masks_close_under_a_heavy_weight_and_stay_within_six() -> None:
    der = grown(made(Pruning(None, 1e4, area=True, fresh=False)), 2)
    train(der, task_of(0, 2), MAIN, batch([0, 1, 0, 1], 2), steps=5)
    der.after_step(Progress(5, 10, 0, 1))
    share = der.monitored_scalars()["masks/open_channels"]
    assert share == 0
    assert newest(der).logits.min() == -6  # type: ignore[union-attr]
    der.act(PRUNE, task_of(0, 2), NOTHING)
    assert der.monitored_scalars() == {}
    assert der.predict(batch([0, 1], 2).images)["linear"].isfinite().all()


def test_the_next_extractor_starts_from_the_dense_one() -> None:
    der = grown(made(), 2)
    train(der, task_of(0, 2), MAIN, batch([0, 1, 0, 1], 2), steps=3)
    dense = newest(der).dense_weights()
    der.act(PRUNE, task_of(0, 2), NOTHING)
    assert {name for name in der.extra_state() if "/" in name} == {f"dense/{name}" for name in dense}
    der.grow(task_of(1, 2, 2), Key(1), NOTHING)
    assert list(der.extra_state()) == ["reset_key"], "it has been used"
    assert all(torch.equal(value, dense[name]) for name, value in newest(der).backbone.state_dict().items())
    assert [e.pruned for e in der.network.extractors] == [True, False]  # type: ignore[union-attr]


def test_or_from_nothing() -> None:
    der = grown(made(Pruning(None, 0.5, area=True, fresh=True)), 2)
    before = newest(der).dense_weights()
    der.act(PRUNE, task_of(0, 2), NOTHING)
    assert list(der.extra_state()) == ["reset_key"]
    der.grow(task_of(1, 2, 2), Key(1), NOTHING)
    assert not torch.equal(newest(der).backbone.state_dict()["conv.weight"], before["conv.weight"])


def restored(der: DER, other: DER) -> DER:
    buffer = io.BytesIO()
    network = {"structure": der.network.structure(), "weights": der.network.state_dict()}
    torch.save({"network": network, "extra": der.extra_state()}, buffer)
    buffer.seek(0)
    stored = torch.load(buffer, weights_only=True)
    again: Any = build_network(stored["network"]["structure"], Key(9))
    again.load_state_dict(stored["network"]["weights"], strict=True)
    other.network = again
    other.load_extra_state(stored["extra"])
    return other


@pytest.mark.parametrize("pruning", [BY_MASKS, BY_SCALES, Pruning(0.5, 0, area=True, fresh=True)])
@pytest.mark.parametrize("prune", [False, True])
def test_an_interruption_before_or_behind_pruning_loses_nothing(pruning: Pruning, prune: bool) -> None:
    der = grown(made(pruning, kd_weight=1.0), 2, 2)
    if prune:
        der.act(PRUNE, task_of(1, 2, 2), NOTHING)
    again = restored(der, made(pruning, kd_weight=1.0))
    for each in (der, again):
        if not prune:
            each.act(PRUNE, task_of(1, 2, 2), NOTHING)
        each.grow(task_of(2, 2, 2, 2), Key(2), NOTHING)
    ours, theirs = der.network.state_dict(), again.network.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(der.extra_state()["remembered"], again.extra_state()["remembered"])


def test_a_state_of_other_options_is_refused() -> None:
    pruned, plain = grown(made(), 2), grown(made(None), 2)
    pruned.act(PRUNE, task_of(0, 2), NOTHING)
    state = pruned.extra_state()
    weight = "dense/stages.0.0.conv1.weight"
    distilling = grown(made(None, kd_weight=1.0), 2)
    distilling.grow(task_of(1, 2, 2), Key(1), NOTHING)
    for each, given in (
        (pruned, plain.extra_state()),
        (plain, state),
        (pruned, {**state, weight: 3}),
        (pruned, {**state, weight: state[weight][:2]}),
        (pruned, {**state, "dense/more": state[weight]}),
        (pruned, {**state, "more": 1}),
        (pruned, {key: value for key, value in state.items() if key != weight}),
        (distilling, plain.extra_state()),
        (distilling, {**distilling.extra_state(), "remembered": torch.zeros(2, 3)}),
        (plain, distilling.extra_state()),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]*method=der[^\n]*$"):
            each.load_extra_state(given)


def test_old_scores_are_distilled_from_the_classifier_of_before() -> None:
    der = made(None, kd_weight=0.5)
    for index in range(2):
        der.grow(task_of(index, 2, 2), Key(index), NOTHING)
    der.network.eval()
    data = batch([4, 0, 5, 2], 6)
    teacher = der.predict(data.images)["linear"].detach() / 5  # fitted at temperature 5
    der.grow(task_of(2, 2, 2, 2), Key(2), NOTHING)
    train(der, task_of(2, 2, 2, 2), Phase("main", View.MERGED, 1, SGD, CONSTANT, MAIN_PARTS), data, steps=2)
    der.network.eval()
    outputs = der.outputs(MAIN, data.images, None)
    loss = der.losses(task_of(2, 2, 2, 2), MAIN, data, outputs)["distillation"]
    expected = 0.0
    for theirs, ours in zip(teacher.tolist(), outputs.logits[:, :4].tolist(), strict=True):
        soft = [math.exp(z / 2) for z in theirs]
        expected += sum(p / sum(soft) * cross_entropy([z / 2 for z in ours], k) for k, p in enumerate(soft)) / 4
    assert loss.item() == pytest.approx(0.5 * 4 / 6 * expected, rel=1e-4)


def test_the_first_task_distils_nothing_and_the_second_at_temperature_one() -> None:
    der = grown(made(None, kd_weight=1.0), 2)
    data = batch([0, 1], 2)
    assert set(der.losses(task_of(0, 2), MAIN, data, der.outputs(MAIN, data.images, None))) == {"classification"}
    assert der.network.classifier is not None
    first = der.network.classifier.weight.detach().clone()
    der.grow(task_of(1, 2, 2), Key(1), NOTHING)
    assert torch.equal(der.extra_state()["remembered"], first)


def test_masks_do_not_decay_and_batch_norm_does() -> None:
    der = grown(made(), 2)
    learner = Learner(der, task_of(0, 2), replace(MAIN, optimiser=DECAYING), PhaseLength(3, 1, 4), 1, Key(0))
    groups = learner.configure_optimizers().param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[id(newest(der).logits)] == 0.0
    others = [p for p in der.network.parameters() if p is not newest(der).logits]
    assert {decays[id(p)] for p in others} == {5e-4}


# ---- from options --------------------------------------------------------------------------------------------------


def from_options(*typed: str) -> DER:
    method = build_method(filled("method=der", "model=resnet8", *typed), tasks(), Key(0))
    assert isinstance(method, DER)
    return method


def test_without_a_rule_nothing_is_pruned() -> None:
    method = filled("method=der", "method.pruning.sparsity=3").method
    assert isinstance(method, DERConfig)
    assert method.pruning is None
    der = from_options()
    der.grow(task_of(0, 2), Key(0), NOTHING)
    assert der.network.newest_prunable() is None
    assert list(der.network.parts()) == ["old_extractors", "new_extractor", "classifier", "auxiliary"]
    assert list(der.extra_state()) == ["reset_key"]


@pytest.mark.parametrize(
    ("typed", "s_max", "plan"),
    [
        (["method.pruning.rule=masks", "method.pruning.s_max=10"], 10.0, ["main"]),
        (["method.pruning.rule=scales", "method.finetune_pruned=true"], None, ["main", "pruned_finetuning"]),
    ],
)
def test_options_reach_the_network_and_the_plan(typed: list[str], s_max: float | None, plan: list[str]) -> None:
    der = from_options(*typed)
    der.grow(task_of(0, 2), Key(0), NOTHING)
    assert newest(der).structure()["s_max"] == s_max
    phases = [item.phase for item in der.plan(task_of(0, 2)) if isinstance(item, Fit)]
    assert [phase.name for phase in phases] == plan
    assert (CHANNEL_MASKS in phases[0].trains) == (s_max is not None)
    assert phases[0].decays == ({CHANNEL_MASKS: 0.0} if s_max else {})


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["model=convit_tiny", "method.pruning.rule=masks"], "method.pruning.rule=masks removes channels"),
        (["model=resnet8", "method.finetune_pruned=true"], "type method.pruning.rule=masks or"),
        (["model=resnet8", "method.pruning.rule=mask"], "method.pruning.rule=mask is not a choice"),
        (["model=resnet8", "method.pruning.rule=masks", "method.pruning.s_max=1"], "method.pruning.s_max=1.0 is out"),
        (["model=resnet8", "method.pruning.rule=scales", "method.pruning.share=0"], "method.pruning.share=0.0 is out"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(typed: list[str], told: str) -> None:
    with pytest.raises(UserError, match=rf"^[^\n]*{re.escape(told)}[^\n]*$"):
        check(filled("method=der", *typed))


def test_options_that_nothing_reads_are_told() -> None:
    by_masks, by_scales = ["method=der", "method.pruning.rule=masks"], ["method=der", "method.pruning.rule=scales"]
    assert idle(*by_masks, "method.pruning.sparsity=2", "method.pruning.start=fresh") == {}
    assert idle(*by_masks, "method.pruning.share=0.5") == {"method.pruning.share": "method.pruning.rule=scales"}
    assert idle(*by_scales, "method.pruning.s_max=10") == {"method.pruning.s_max": "method.pruning.rule=masks"}
    assert idle("method=der", "method.kd_temperature=4") == {"method.kd_temperature": "method.kd_weight=1"}
    assert "method.pruned_finetuning.epochs" in idle(*by_masks, "method.pruned_finetuning.epochs=3")
