"""Who reads which option: the table is whole, and says of each what is so."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cl_lightning.config.command_line.overrides import Assignment
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schedule_scales import phases_of
from cl_lightning.config.schema import Config, PhaseConfig, SetConfig
from cl_lightning.config.unused.always_read import ALWAYS
from cl_lightning.config.unused.check import unread
from cl_lightning.config.unused.used_by import LINES
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Fit, Phase, View
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.factory.methods import build_method
from cl_lightning.factory.phases import build_phase
from cl_lightning.optim.optimiser import base_rate, make_optimiser
from cl_lightning.optim.schedule import learning_rate
from tests.config.made import filled, idle

NOT_TYPED = ("extends",)
"""Written by ``learn=``, refused in ``__main__``."""
MAPPINGS = {
    "data.suggests.models": ("transformer", "conv_transformer", "cnn", "paths", "vit"),
    "data.suggests.lr_scale": ("transformer", "conv_transformer", "cnn", "paths", "vit"),
}
"""Options that hold one for each kind of encoder."""


def options_of(schema: type, prefix: str) -> Iterator[str]:
    """Every option, and group of options, of a schema."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        yield key
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for kind in kinds:
            if dataclasses.is_dataclass(kind) and key not in NOT_TYPED:
                own = SCHEMAS.get(key, {"": kind}).values() if not prefix else [kind]
                for schema in own:
                    yield from options_of(schema, f"{key}.")
        if hint == list[SetConfig]:
            yield from options_of(SetConfig, f"{key}.")
        yield from (f"{key}.{name}" for name in MAPPINGS.get(key, ()))


def test_every_option_is_in_the_table_once() -> None:
    """A new option fails here: say in ``config/unused`` under which condition it is read."""
    schema = set(options_of(Config, ""))
    listed = [*ALWAYS, *(key for line in LINES for key in line.keys)]
    assert {"data.sets.root", "method.backbone.min_lr", "model.stem", "method.sam.adaptive"} <= schema
    table = "config/unused"
    assert sorted(schema - set(listed)) == [], (
        f"in no line of {table}: add them to ALWAYS in always_read.py, or to a line of LINES in used_by.py"
    )
    assert sorted(set(listed) - schema) == [], f"no option any more: take them out of {table}"
    assert len(listed) == len(set(listed)), f"in several lines of {table}"


READ_WITH = {
    "data.root=DIR": ("", "data=cifar100_10steps"),
    "data.test_share=0.3": ("data=cifar100_10steps", "data=image_folder data.root=/nowhere data.increment=2"),
    "data.on_broken=skip": ("data=cifar100_10steps", "data=imagenet100_10steps"),
    "data.crop_padding=2": ("data.augmentation=none", "data.augmentation=basic"),
    "data.cutout=4": ("data.augmentation=none", "data.augmentation=basic"),
    "method.cutout=4": ("method=dkt", "method=dkt data=cifar100_10steps"),
    "data.flip=true": ("data.augmentation=none", "data.augmentation=none method=icarl"),
    "data.suggests.memory=30": ("memory.size=20", ""),
    "data.suggests.memory_per_class=3": ("", "memory=per_class"),
    "data.suggests.patch_size=4": ("model=convit_cifar", "model=convit_tiny"),
    "data.suggests.recipe=clean": ("recipe=clean", ""),
    "data.suggests.batch_size=4": ("batch.size=4", ""),
    "data.suggests.epochs_scale=0.1": ("epochs_scale=1", ""),
    "data.suggests.balanced_epochs_scale=1": ("method=finetune", "method=der"),
    "data.suggests.models.cnn=resnet32": ("", "method=wa"),
    "data.suggests.lr_scale.transformer=1": ("lr_scale=2", ""),
    "data.suggests.epochs_scale=0.5": ("method=simplecil model=vit_tiny method.backbone_file=F", "method=simplecil"),
    "epochs_scale=2": ("method=wa method.main.epochs_scale=1", "method=meat method.main.epochs_scale=1"),
    "balanced_epochs_scale=2": ("memory=none", ""),
    "lr_scale=2": ("method=wa method.main.lr_scale=1", ""),
    "memory=per_class": ("method=joint", "method=wa"),
    "memory.size=20": ("memory=none", "memory=per_class"),
    "memory=total": ("method=lwf", "method=lwf method.rehearsal=true"),
    "memory.scope=per_replica": ("method=wa method.rehearsal=false", "method=wa"),
    "memory.scope=global": ("method=meat", ""),
    "memory.size=9": ("method=ranpac", ""),
    "method.augmentation=none": ("", "data=cifar100_10steps"),
    "method.encoder=transformer": ("model=convit_tiny lr_scale=1", "model=convit_tiny"),
    "method.recipe=clean": ("", "data=cifar100_10steps"),
    "method.temperature=3": ("method.distillation=false", ""),
    "method.finetuning.epochs=3": ("memory=none", ""),
    "method.finetuning=null": ("memory=none", ""),
    "method.classifier.epochs=3": ("method=der memory=none", "method=der"),
    "method.backbone.epochs=3": ("method=meat method.backbone_file=F", "method=meat"),
    "method.mixup.smoothing=0.2": ("", "method.mixup.alpha=0.3"),
    "method.mixup.in_finetuning=false": ("method=meat", "method=dytox_plus"),
    "method.sam.adaptive=false": ("", "method.sam.rho=1"),
    "method.sam.from_task=0": ("method=daformer_m method.sam.rho=0", "method=daformer_m"),
    "method.neighbours.k=3": ("method=daformer_m", "method=daformer_m method.neighbours.form=distance"),
    "method.neighbours.margin=1": (
        "method=daformer_m method.neighbours.form=distance", "method=daformer_m method.neighbours.form=order"
    ),
    "method.neighbours.temperature=1": (
        "method=daformer_m method.neighbours.form=order", "method=daformer_m method.neighbours.form=similarity"
    ),
    "method.gamma=3": ("method=classifier_only", "method=piggyback"),
    "method.keep=0.5": ("method=piggyback", "method=meat"),
    "method.ffn_rate=5": ("method=classifier_only", "method=meat"),
    "method.main.momentum=0.5": ("", "method=wa"),
    "method.main.reference_batch=9": ("", "recipe=erratum_2022_06"),
    "recipe.lr_follows_batch=true": ("method=wa", ""),
    "recipe.schedule_lag=true": ("method=finetune method.main.schedule=constant method.main.warmup_epochs=0", ""),
    "recipe.drop_path_in_frozen=true": ("", "model=convit_cifar"),
    "recipe.mixup_softmax=true": ("", "method=dytox_plus"),
    "recipe.finetuning_order=repeated": ("method.finetuning=null", ""),
    "recipe.herd_augmented=true": ("method=wa", ""),
    "recipe.herd_distinct=false": ("memory=none", ""),
    "recipe.distillation_class_mean=false": ("method.distillation=false", ""),
    "recipe.replicas=2": ("batch.replicas=1", ""),
    "recipe.precision=32-true": ("trainer.precision=32-true", ""),
    "logger.mode=offline": ("", "logger=wandb"),
    "logger.project=mine": ("logger=none", "logger=wandb"),
    "report.attention=true": ("method=wa", ""),
    "report.exemplars=3": ("memory=none", ""),
}  # fmt: skip
"""What is typed -> beside which it is read by nobody, and by somebody."""


@pytest.mark.parametrize("typed", READ_WITH)
def test_what_is_read_depends_on_the_rest(typed: str) -> None:
    without, beside = (rest.split() for rest in READ_WITH[typed])
    key = typed.partition("=")[0]
    assert set(idle(*without, typed)) == {key}
    assert idle(*beside, typed) == {}


@pytest.mark.parametrize("typed", list(READ_WITH)[::4])
def test_the_advice_names_what_there_is_to_type(typed: str) -> None:
    """Typing what the message says makes it read, where that is one override."""
    without = READ_WITH[typed][0].split()
    for _ in range(4):  # one condition after the other
        found = idle(*without, typed)
        if not found:
            return
        (advice,) = found.values()
        words = [word.strip(",") for word in advice.split() if "=" in word and "KEY" not in word]
        if not words or words[0].endswith("=N"):
            return
        group = words[0].partition("=")[0]
        without = [one for one in without if one.partition("=")[0] != group] + [words[0]]
        if words[0] == "data=image_folder":
            without += ["data.increment=2", *(() if typed.startswith("data.root") else ("data.root=/nowhere",))]
    assert idle(*without, typed) == {}


def test_a_command_s_own_interpolation_is_a_reader() -> None:
    sets = "data.sets=[{name: image_folder, root: '${data.root}/photos'}]"
    assert set(idle("data=sequence", "data.root=a", "data.sets=[{name: image_folder, root: b}]")) == {"data.root"}
    assert idle("data=sequence", "data.root=a", sets) == {}


def test_entries_of_a_sequence_are_looked_at_one_by_one() -> None:
    sets = (
        "data.sets=[{name: digits, root: a, on_broken: skip, flip: false}, "
        "{name: image_folder, root: b, test_share: 0.3}, "
        "{name: cifar100, test_share: 0.3, augmentation: none, crop_padding: 2, cutout: 4}]"
    )
    assert set(idle("data=sequence", sets)) == {
        "data.sets.0.root", "data.sets.0.on_broken", "data.sets.2.test_share", "data.sets.2.crop_padding",
        "data.sets.2.cutout",
    }  # fmt: skip
    assert set(idle("data=sequence", "data.flip=true", "data.sets=[{name: digits, flip: false}]")) == {"data.flip"}
    assert idle("data=sequence", "data.flip=true", "data.sets=[{name: digits, flip: false}, {name: cifar100}]") == {}


def test_a_folder_with_a_split_of_its_own_has_no_test_share(tmp_path: Path) -> None:
    typed = ["data=image_folder", f"data.root={tmp_path}", "data.increment=2", "data.test_share=0.5"]
    (tmp_path / "cat").mkdir()
    assert idle(*typed) == {}
    (tmp_path / "train" / "cat").mkdir(parents=True)
    assert set(idle(*typed)) == {"data.test_share"}


# ---- a phase: the table against what trains -------------------------------------------------------------------------

OTHER = {
    "epochs": 77, "epochs_scale": 0.37, "optimiser": {"sgd": "adamw", "adamw": "sgd"}, "lr": 0.0123, "lr_scale": 3.3,
    "weight_decay": 0.033, "decay_vectors": {True: False, False: True}, "momentum": 0.55, "reference_batch": 77,
    "schedule": {"cosine": "constant", "constant": "cosine", "steps": "constant"}, "warmup_epochs": 17.0,
    "warmup_lr": 2e-7, "min_lr": 3e-7, "milestones": [0.25], "gamma": 0.77,
}  # fmt: skip


def effect(phase: Phase) -> Any:
    """All that a phase's optimiser and its rates come from."""
    rate = base_rate(phase.optimiser, 64)
    weights = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    made = make_optimiser(phase.optimiser, weights, rate)
    groups = [{name: value for name, value in group.items() if name != "params"} for group in made.param_groups]
    rates = [learning_rate(phase.schedule, rate, epoch, phase.epochs) for epoch in range(phase.epochs)]
    return type(made), groups, rates


def planned(config: Config) -> set[str]:
    """The phases that the method trains in some task."""
    scenario = without_images("digits", tuple("0123456789"), (5, 5), 8, 1)
    method = build_method(config, scenario, Key(0))
    plans = [item for task in scenario.tasks for item in method.plan(task)]
    return {item.phase.name for item in plans if isinstance(item, Fit)}


@pytest.mark.parametrize(
    "method",
    [
        "dytox",
        "dytox recipe=erratum_2022_06",
        "dytox memory=none",
        "der",
        "meat",
        "meat method.backbone_file=F",
        "simplecil",
        "ranpac model=vit_tiny method.backbone_file=F",
        "icarl",
    ],
)
def test_a_phase_s_option_is_unread_where_it_changes_nothing(method: str) -> None:
    overrides = [*f"method={method}".split(), "epochs_scale=1"]
    config = filled(*overrides)
    there = planned(config)
    for name, phase in phases_of(config.method).items():
        before = effect(build_phase(name, phase, config, View.NEW, ()))
        for field in dataclasses.fields(PhaseConfig):
            other = OTHER[field.name]
            value = other[getattr(phase, field.name)] if isinstance(other, dict) else other
            changed = dataclasses.replace(phase, **{field.name: value})  # type: ignore[arg-type]
            moves = name in there and effect(build_phase(name, changed, config, View.NEW, ())) != before
            key = f"method.{name}.{field.name}"
            assert (unread([Assignment(key, "")], config) == []) == moves, key
