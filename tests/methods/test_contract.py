"""What every method promises to the sequence, whatever it does inside: one test for all of them.

Methods are built from composed configurations as in a run. The scenario that they are built with has other tasks than
those that follow, so none can know how many there will be, or of which sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor, nn

from cl_lightning import rng
from cl_lightning.__main__ import _typed
from cl_lightning.build import build_memory, build_method, build_scenario
from cl_lightning.config.files import config_dir, options
from cl_lightning.config.schema import Config, register
from cl_lightning.data.mixup import one_hot
from cl_lightning.data.scenario import Scenario
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.network import branch_scales
from cl_lightning.rng import Key
from cl_lightning.state import RunState, checkpoint_payload, load_checkpoint, restore_network, save_checkpoint
from cl_lightning.types import (
    Act,
    Batch,
    Embed,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Phase,
    Plain,
    PlanItem,
    Progress,
    Task,
)

SIZES = (3, 1, 2)
NEXT = 4
IMAGES_A_CLASS = 4
MEMORY = 8
TRANSFORMER = [
    "model=convit_tiny",
    "model.dim=16",
    "model.num_heads=4",
    "model.depth=2",
    "model.patch_size=4",
    "model.drop_path=0.2",
]
CASES = {name: [f"method={name}"] for name in options("method")} | {
    "dytox without memory": ["method=dytox", "memory=none"],
    "dytox without divergence": ["method=dytox", "method.divergence_weight=0"],
    "wa with a transformer": ["method=wa", *TRANSFORMER],
    "der with a transformer": ["method=der", *TRANSFORMER],
    "icarl with a transformer": ["method=icarl", *TRANSFORMER],
    "finetune with a resnet": ["method=finetune", "model=resnet8"],
}
MOVES_OLD_SCORES = {"der", "der with a transformer"}
"""A new extractor is read for old classes too."""
NO_GRADIENT = ("pos_proj.bias",)
"""Adds the same to all positions before a softmax."""


def task(index: int, sizes: tuple[int, ...] = (*SIZES, NEXT)) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    rows = torch.arange(first * IMAGES_A_CLASS, (classes[-1] + 1) * IMAGES_A_CLASS)
    return Task(index, classes, tuple(map(str, classes)), rows, rows)


def pixels(rows: Tensor) -> Tensor:
    """A random image for each row number."""
    return rng.normal(Key(1), rows[:, None], torch.arange(64)).view(-1, 1, 8, 8)


@dataclass
class FakeLook:
    """Looks at random images; records nothing."""

    exemplars: dict[int, Tensor]
    flips: bool = True

    def rows_of(self, label: int) -> Tensor:
        return torch.arange(label * IMAGES_A_CLASS, (label + 1) * IMAGES_A_CLASS)

    @torch.no_grad()
    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        images = pixels(rows)
        return embed(images.flip(-1) if flip else images).float()


@dataclass
class Life:
    """A method that goes through tasks as in a run, without data, loader or Trainer."""

    method: Method
    memory: RehearsalMemory
    done: list[PlanItem] = field(default_factory=list)

    def learn(self, current: Task) -> None:
        for item in self.method.plan(current):
            self.carry_out(item, current)

    def carry_out(self, item: PlanItem, current: Task) -> None:
        self.done.append(item)
        match item:
            case Grow():
                self.method.grow(current, Key(2).fold(current.index), self.look())
            case Fit(phase):
                self.fit(current, phase)
            case Herd():
                rows = {label: self.look().rows_of(label).flip(0) for label in current.classes}
                self.memory = self.memory.update([rows] * self.memory.num_lists, current.num_seen)
            case Act(name):
                self.method.network.eval()
                self.method.act(name, current, self.look())
            case Evaluate():
                pass
            case _:
                pytest.fail(f"{item} is no plan item that the sequence knows")

    def look(self) -> FakeLook:
        return FakeLook(self.memory.exemplars())

    def fit(self, current: Task, phase: Phase) -> None:
        """One step, with all that is promised of it."""
        parts = self.method.network.parts()
        assert set(phase.trains) <= set(parts), "a phase trains parts that the network has"
        trained = [p for name in phase.trains for p in parts[name]]
        ids = {id(p) for p in trained}
        for parameter in self.method.network.parameters():
            parameter.requires_grad_(id(parameter) in ids)
            parameter.grad = None
        frozen = {n: p.detach().clone() for n, p in self.method.network.named_parameters() if id(p) not in ids}
        self.method.train_mode(phase)
        terms = self.losses(current, phase)
        assert all(isinstance(name, str) and term.shape == () and term.isfinite() for name, term in terms.items())
        torch.stack(list(terms.values())).sum().backward()
        self.expect_gradients(ids)
        torch.optim.SGD(trained, lr=0.05).step()
        self.method.after_step(Progress(1, 1, 0, 1))
        for name, parameter in self.method.network.named_parameters():
            assert name not in frozen or torch.equal(parameter, frozen[name]), f"{name} is frozen and has changed"

    def losses(self, current: Task, phase: Phase) -> dict[str, Tensor]:
        labels = torch.arange(12) % current.num_seen
        images, positions = pixels(1000 + torch.arange(12)), torch.arange(12)
        batch = Batch(images, labels, one_hot(labels, current.num_seen, 0.1))
        scales = branch_scales(self.method.network.branches(), Key(3), positions, frozenset())
        outputs = self.method.outputs(phase, images, scales)
        assert outputs.logits.shape == (12, current.num_seen)
        return self.method.losses(current, phase, batch, outputs)

    def expect_gradients(self, trained: set[int]) -> None:
        for name, parameter in self.method.network.named_parameters():
            if id(parameter) not in trained:
                assert parameter.grad is None, f"{name} is frozen and has a gradient"
                continue
            assert parameter.grad is not None, f"{name} is trained and has no gradient"
            assert parameter.grad.isfinite().all(), name
            assert name.endswith(NO_GRADIENT) or parameter.grad.any(), f"the gradient of {name} is zero"
        if self.method.teacher is not None:
            assert all(p.grad is None and not p.requires_grad for p in self.method.teacher.parameters())


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario(config("finetune"))


def config(case: str) -> Config:
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = ["run_dir=unused", "data=digits", "data.increment=[7,3]", *CASES[case]]
        composed = compose("config", overrides=overrides)
        if composed.memory.budget != "none":
            composed.memory.size = MEMORY * 2
        if composed.model.name == "auto" and composed.method.encoder == "transformer":
            composed = compose("config", overrides=[*overrides, *TRANSFORMER, f"memory.size={composed.memory.size}"])
        return _typed(composed)


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def life(case: str, scenario: Scenario) -> Life:
    settings = config(case)
    return Life(build_method(settings, scenario, Key(0)), build_memory(settings))


def predict(method: Method, images: Tensor) -> dict[str, Tensor]:
    method.network.eval()
    with torch.no_grad():
        return method.predict(images)
