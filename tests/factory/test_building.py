"""From the configuration to objects: what each method of ``conf/method`` is built of, with its published schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Evaluate,
    Fit,
    Grow,
    Herd,
    Mixing,
    Optimiser,
    Order,
    Phase,
    PlanItem,
    Sampling,
    Schedule,
    Sharpness,
    View,
)  # fmt: skip
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.base import Method
from tests.config.made import filled
from tests.factory.scenarios import tasks

TINY = {"transformer": "convit_tiny", "cnn": "resnet8", "paths": "path_net_tiny", "vit": "vit_tiny"}
"""Networks that are built at once: schedules and parts do not depend on their sizes."""


def built(name: str, *overrides: str, sizes: Sequence[int] = (2, 2, 2)) -> Method:
    """The method on CIFAR-100, which scales nothing."""
    encoder = filled(f"method={name}").method.encoder
    config = filled(f"method={name}", "data=cifar100_10steps", f"model={TINY[encoder]}", *overrides)
    return build_method(config, tasks(sizes), Key(0))


def plan(method: Method, index: int = 1, sizes: Sequence[int] = (2, 2, 2)) -> list[PlanItem]:
    return list(method.plan(tasks(sizes).tasks[index]))


def told(item: PlanItem) -> str:
    if isinstance(item, Fit):
        return f"fit {item.phase.name}"
    if isinstance(item, Herd):
        kinds = [name for name, on in (("augmented", item.augmented), ("distinct", item.distinct)) if on]
        return " ".join(["herd", *kinds])
    return {Grow: "grow", Evaluate: "evaluate"}.get(type(item), "") or f"act {item.name}"  # type: ignore[union-attr]


def phase(method: Method, name: str = "main", index: int = 1) -> Phase:
    (found,) = [item.phase for item in plan(method, index) if isinstance(item, Fit) and item.phase.name == name]
    return found


# ---- what happens in a task --------------------------------------------------------------------------------------

DYTOX = "grow, fit main, herd augmented, fit finetuning, evaluate"
MEAT = "grow, fit main, act pack, act class_means, evaluate"
FIRST_MEAT = "grow, fit backbone, act pack, act class_means, evaluate"

PLANS = {
    "dytox": ("grow, fit main, herd augmented, evaluate", DYTOX),
    "dytox_plus": ("grow, fit main, herd augmented, evaluate", DYTOX),
    "dytox_plusplus": ("grow, fit main, herd augmented, evaluate", DYTOX),
    "daformer_m": ("grow, fit main, herd augmented, evaluate", DYTOX),
    "daformer_s": ("grow, fit main, herd augmented, evaluate", DYTOX),
    "finetune": ("grow, fit main, herd, evaluate",) * 2,
    "joint": ("grow, fit main, evaluate",) * 2,
    "icarl": ("grow, fit main, herd distinct, act class_means, evaluate",) * 2,
    "wa": ("grow, fit main, herd, evaluate", "grow, fit main, act align, herd, evaluate"),
    "der": (
        "grow, fit main, herd, evaluate", "grow, fit main, act reset_classifier, fit classifier, herd, evaluate",
    ),
    "meat": (FIRST_MEAT, MEAT),
    "piggyback": (FIRST_MEAT, MEAT),
    "classifier_only": (FIRST_MEAT, MEAT),
    "individual": ("grow, fit backbone, evaluate", "grow, fit main, evaluate"),
}  # fmt: skip
"""Method -> the plan of the first task, and of a later one."""


@pytest.mark.parametrize("name", PLANS)
def test_a_method_s_plan(name: str) -> None:
    method = built(name)
    assert tuple(", ".join(map(told, plan(method, index))) for index in (0, 1)) == PLANS[name]


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("dytox", ["memory=none"], "grow, fit main, evaluate"),
        ("dytox", ["method.rehearsal=false"], "grow, fit main, evaluate"),
        ("dytox", ["method.finetuning=null"], "grow, fit main, herd augmented, evaluate"),
        ("dytox", ["recipe=clean"], "grow, fit main, herd, fit finetuning, evaluate"),
        ("dytox", ["recipe.herd_distinct=true"], DYTOX.replace("herd augmented", "herd augmented distinct")),
        ("dytox", ["recipe.herd_after_finetuning=true"], "grow, fit main, fit finetuning, herd augmented, evaluate"),
        ("finetune", ["memory=none"], "grow, fit main, evaluate"),
        ("wa", ["memory=none"], "grow, fit main, act align, evaluate"),
        ("der", ["memory=none"], "grow, fit main, evaluate"),
        ("meat", ["method.readouts=[linear]"], "grow, fit main, act pack, evaluate"),
    ],
)
def test_what_options_leave_out_of_a_plan_or_put_elsewhere(name: str, overrides: list[str], expected: str) -> None:
    assert ", ".join(map(told, plan(built(name, *overrides)))) == expected


def test_given_weights_replace_the_phase_of_the_first_task() -> None:
    for name in ("meat", "individual"):
        given = built(name, "method.backbone_file=weights.safetensors")  # not read before the first task
        assert [item.phase.name for item in plan(given, 0) if isinstance(item, Fit)] == ["main"]


def test_a_single_task_is_fine_tuned_where_the_recipe_says_so() -> None:
    one = [4]
    published = plan(built("dytox", sizes=one), 0, one)
    assert ", ".join(map(told, published)) == DYTOX
    assert "fit finetuning" not in map(told, plan(built("dytox", "recipe=clean", sizes=one), 0, one))


# ---- phases ------------------------------------------------------------------------------------------------------

ADAMW = Optimiser("adamw", 5e-4, 1e-6, decay_vectors=False, momentum=0.9, reference_batch=512)
COSINE = Schedule("cosine", 5, 1e-6, 1e-5, (), 0.1, lag=True)
ERRATUM = Sampling(Order.REPEATED, ignore_seed=True)
SGD = Optimiser("sgd", 0.1, 5e-4, decay_vectors=True, momentum=0.9)
WHOLE = ("backbone", "classifier")
MIXUP = Mixing(0.8, 0.1)
TOKENS = ("encoder", "decoder", "new_token", "new_head", "divergence")
BANKS = ("encoder", "decoder", "new_bank", "new_head", "divergence")
DYTOX_MAIN = Phase("main", View.MERGED, 500, ADAMW, COSINE, TOKENS, ERRATUM, drop_path_in_frozen=True)
DAFORMER_MAIN = dataclasses.replace(DYTOX_MAIN, trains=BANKS, mixing=MIXUP, sharpness=Sharpness(3.0, adaptive=True))
VIT = Optimiser("adamw", 5e-4, 0.05, decay_vectors=False, momentum=0.9, reference_batch=1024)
MEAT_MAIN = Phase(
    "main", View.NEW, 30, VIT, COSINE, ("token_masks", "ffn_masks", "head"), Sampling(), Mixing(0.8, 0.0),
    drop_path_in_frozen=True, rates={"token_masks": 400, "ffn_masks": 400},
)  # fmt: skip
WA_STEPS = Schedule("steps", 10, 0.01, 0, (0.5882, 0.7059), 0.1)

MAIN_PHASES = {
    "dytox": DYTOX_MAIN,
    "dytox_plus": dataclasses.replace(DYTOX_MAIN, mixing=MIXUP),
    "dytox_plusplus": dataclasses.replace(DYTOX_MAIN, mixing=MIXUP, sharpness=Sharpness(3.0, adaptive=True)),
    "daformer_m": DAFORMER_MAIN,
    "daformer_s": DAFORMER_MAIN,
    "finetune": dataclasses.replace(DYTOX_MAIN, trains=WHOLE),
    "joint": dataclasses.replace(DYTOX_MAIN, trains=WHOLE, view=View.CUMULATIVE),
    "icarl": Phase(
        "main", View.MERGED, 70, dataclasses.replace(SGD, lr=2.0, weight_decay=1e-5),
        Schedule("steps", milestones=(0.7, 0.9), gamma=0.2), WHOLE,
    ),
    "wa": Phase("main", View.MERGED, 170, SGD, WA_STEPS, WHOLE),
    "der": Phase("main", View.MERGED, 170, SGD, WA_STEPS, ("new_extractor", "classifier", "auxiliary")),
    "meat": MEAT_MAIN,
    "piggyback": dataclasses.replace(MEAT_MAIN, trains=("ffn_masks", "head"), rates={"ffn_masks": 400}),
    "classifier_only": dataclasses.replace(MEAT_MAIN, trains=("head",), rates={}),
    "individual": dataclasses.replace(
        MEAT_MAIN, trains=("transformer", "head"), optimiser=dataclasses.replace(VIT, reference_batch=512), rates={}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAIN_PHASES)
def test_the_main_phase_as_published(name: str) -> None:
    assert phase(built(name)) == MAIN_PHASES[name]


@pytest.mark.parametrize("name", ["dytox_plusplus", "daformer_m", "daformer_s"])
def test_the_first_task_is_trained_without_sharpness_aware_steps(name: str) -> None:
    assert phase(built(name), index=0) == dataclasses.replace(MAIN_PHASES[name], sharpness=None)
    assert phase(built(name, "method.sam.from_task=2"), index=1).sharpness is None
    assert phase(built(name, "method.sam.from_task=0"), index=0).sharpness == Sharpness(3.0, adaptive=True)


FINETUNING = Phase(
    "finetuning", View.MEMORY, 20, dataclasses.replace(ADAMW, lr=5e-5), Schedule("constant", lag=True),
    ("decoder", "old_tokens", "new_token", "old_heads", "new_head"),
    Sampling(Order.SEQUENTIAL, ignore_seed=True, drop_last=True), drop_path_in_frozen=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("dytox", [], FINETUNING),
        ("dytox_plus", [], dataclasses.replace(FINETUNING, mixing=MIXUP)),
        ("dytox_plusplus", ["method.mixup.in_finetuning=false"], FINETUNING),
        (
            "daformer_s", [],
            dataclasses.replace(
                FINETUNING, mixing=MIXUP, trains=("decoder", "old_banks", "new_bank", "old_heads", "new_head")
            ),
        ),
        (
            "dytox", ["recipe=paper_2022_03"],
            dataclasses.replace(FINETUNING, sampling=dataclasses.replace(FINETUNING.sampling, order=Order.REPEATED)),
        ),
        ("dytox", ["recipe.herd_after_finetuning=true"], dataclasses.replace(FINETUNING, view=View.BALANCED)),
    ],
)  # fmt: skip
def test_balanced_fine_tuning_as_published(name: str, overrides: list[str], expected: Phase) -> None:
    assert phase(built(name, *overrides), "finetuning") == expected


def test_der_s_second_stage() -> None:
    steps = Schedule("steps", milestones=(0.5,), gamma=0.1)
    assert phase(built("der"), "classifier") == Phase("classifier", View.BALANCED, 30, SGD, steps, ("classifier",))


@pytest.mark.parametrize(("name", "part"), [("meat", "backbone"), ("individual", "transformer")])
def test_the_phase_that_trains_the_transformer(name: str, part: str) -> None:
    expected = Phase(
        "backbone", View.NEW, 500, dataclasses.replace(VIT, reference_batch=512), COSINE, (part, "head"), Sampling(),
        Mixing(0.8, 0.0), drop_path_in_frozen=True,
    )  # fmt: skip
    assert phase(built(name), "backbone", index=0) == expected


def test_scales_and_the_recipe_change_a_phase() -> None:
    main = phase(built("dytox", "recipe=clean", "epochs_scale=0.1", "lr_scale=4"))
    assert (main.epochs, main.schedule.warmup_epochs) == (50, 0)  # 0.5 of an epoch, rounded to even
    assert main.optimiser.lr == pytest.approx(2e-3)
    assert main.optimiser.reference_batch is None
    assert (main.sampling, main.schedule.lag, main.drop_path_in_frozen) == (Sampling(), False, False)
    assert phase(built("dytox", "balanced_epochs_scale=0.3"), "finetuning").epochs == 6
    assert phase(built("dytox", "epochs_scale=0.1"), "finetuning").epochs == 20


def test_without_a_divergence_head_none_is_trained() -> None:
    method = built("dytox", "method.divergence_weight=0")
    assert phase(method).trains == TOKENS[:-1]
    assert method.network.structure()["diverge"] is False


# ---- networks ----------------------------------------------------------------------------------------------------


def structure(name: str, *overrides: str) -> Any:
    return built(name, *overrides).network.structure()


def test_what_grows_is_what_the_method_says() -> None:
    expected = {
        ("dytox",): {"kind": "task_attention", "expansion": True},
        ("dytox", "method.token_expansion=false"): {"kind": "task_attention", "expansion": False},
        ("daformer_m",): {"kind": "dual_attention", "expansion": True, "out_proj": False},
        ("daformer_s", "method.out_proj=true"): {"kind": "dual_attention", "expansion": False, "out_proj": True},
    }
    for given, decoder in expected.items():
        assert structure(*given)["decoder"] == decoder


def test_a_head_for_each_task_unless_one_is_asked_for() -> None:
    assert structure("dytox")["classifier"] == {"kind": "independent"}
    assert structure("daformer_m", "method.independent_heads=false")["classifier"] == {"kind": "joint"}


@pytest.mark.parametrize(("name", "bias"), [("finetune", True), ("joint", True), ("icarl", True), ("wa", False)])
def test_only_weight_alignment_has_a_classifier_without_bias(name: str, bias: bool) -> None:
    assert structure(name)["bias"] is bias
    kind = "cifar_resnet" if name in ("icarl", "wa") else "class_token"
    assert structure(name)["backbone"]["kind"] == kind


def test_a_transformer_in_the_place_of_a_backbone_gets_a_class_token() -> None:
    made = structure("wa", "model=convit_tiny")["backbone"]
    assert made["kind"] == "class_token"
    assert {key: made["encoder"][key] for key in ("kind", "image_size", "channels", "dim", "patch_size")} == {
        "kind": "convit", "image_size": 32, "channels": 3, "dim": 64, "patch_size": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "overrides", "blocks", "ffn"),
    [
        ("meat", [], [0, 1, 2], True),
        ("meat", ["method.token_mask_blocks=[0,2]"], [0, 2], True),
        ("piggyback", [], [], True),
        ("classifier_only", [], [], False),
    ],
)
def test_which_masks_a_transformer_gets(name: str, overrides: list[str], blocks: list[int], ffn: bool) -> None:
    made = structure(name, *overrides)
    assert (made["token_mask_blocks"], made["ffn_masks"]) == (blocks, ffn)
    assert (made["gap"], made["temperature"], made["plain_first"]) == (8.0, 1.0, True)
    assert made["vit"]["image_size"] == 32


def test_a_mask_on_a_block_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"method.token_mask_blocks=\[1, 3\] names a block that is not there: type num"):
        built("meat", "method.token_mask_blocks=[1,3]")


def test_icarl_needs_a_memory() -> None:
    with pytest.raises(UserError, match="memory=none: method=icarl needs exemplars, type memory=total"):
        built("icarl", "memory=none")


def test_a_size_that_a_network_cannot_have_is_told_as_the_option_that_it_is() -> None:
    with pytest.raises(UserError, match=r"model.depth=9 is not 6n \+ 2 with n >= 1: type model.depth=32"):
        built("wa", "model.depth=9")


def test_weights_are_a_function_of_the_key() -> None:
    config = filled("method=wa")
    made = [
        torch.cat([each.flatten() for each in build_method(config, tasks((2,), 8, 1), key).network.parameters()])
        for key in (Key(0), Key(0), Key(1))
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
