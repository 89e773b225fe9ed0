"""A method's life without data, loader or Trainer: what ``test_contract.py`` leads it through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    Embed,
    Evaluate,
    Fit,
    Grow,
    Herd,
    HoldOut,
    Phase,
    Plain,
    PlanItem,
    Progress,
    Task,
)
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.methods.hat import HAT
from cl_lightning.methods.individual import Individual
from cl_lightning.methods.meat import MEAT
from cl_lightning.models.hat_network import HatNetwork
from cl_lightning.models.resnet import BasicBlock

SIZES = (3, 1, 2, 4)
IMAGES_A_CLASS = 4
WITHIN_TASK = (MEAT, Individual, HAT)
"""Tell the classes of a task from each other: a task of one class teaches the head nothing."""
NO_GRADIENT = ("pos_proj.bias",)
"""Adds the same to all positions before a softmax."""


def task(index: int, sizes: tuple[int, ...] = SIZES) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    rows = torch.arange(first * IMAGES_A_CLASS, (classes[-1] + 1) * IMAGES_A_CLASS)
    return Task(index, classes, tuple(map(str, classes)), rows, rows)


def pixels(rows: Tensor) -> Tensor:
    """A random image for each row number."""
    return rng.normal(Key(1), rows[:, None], torch.arange(64)).view(-1, 1, 8, 8)


@dataclass
class FakeDataAccess:
    """Looks at random images; records nothing."""

    exemplars: dict[int, Tensor]
    flips: bool = True
    held_out: dict[int, Tensor] = field(default_factory=dict)

    def rows_of(self, label: int) -> Tensor:
        rows = range(label * IMAGES_A_CLASS, (label + 1) * IMAGES_A_CLASS)
        held = {int(row) for of_class in self.held_out.values() for row in of_class}
        return torch.tensor([row for row in rows if row not in held])

    @torch.no_grad()
    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        images = pixels(rows)
        return embed(images.flip(-1) if flip else images).float()


def branches_from_zero(network: torch.nn.Module) -> set[int]:
    """Parameters whose gradient is zero because the batch norm behind them still has scale zero."""
    blocks = [each for each in network.modules() if isinstance(each, BasicBlock) and not each.norm2.weight.any()]
    return {id(p) for block in blocks for part in (block.conv1, block.norm1, block.conv2) for p in part.parameters()}


def spared(network: torch.nn.Module) -> set[int]:
    """Parameters whose gradient is zero because older tasks use all the units that they make and read."""
    if not isinstance(network, HatNetwork):
        return set()
    used, named = network.by_layer(network.used), dict(network.body.named_parameters())
    places = {named[name]: place for name, place in network.body.places().items()}
    return {id(p) for p, place in places.items() if bool((torch.minimum(*place.used(used, p.ndim)) == 1).all())}


@dataclass
class MethodRun:
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
            case HoldOut(share):
                held = {label: FakeDataAccess({}).rows_of(label)[:1] for label in current.classes}
                self.memory = self.memory.hold_out(held, share)
            case Herd():
                rows = {label: self.look().rows_of(label).flip(0) for label in current.classes}
                old = range(current.num_old) if item.old_too else ()
                rows |= {label: self.memory.exemplars()[label].flip(0) for label in old}
                memory = self.memory.without({*old, *(current.classes if item.again else ())})
                self.memory = memory.update([rows] * memory.num_lists, current.num_seen)
            case Act(name):
                self.method.network.eval()
                self.method.act(name, current, self.look())
            case Evaluate():
                pass
            case _:
                pytest.fail(f"{item} is no plan item that the sequence knows")

    def look(self) -> FakeDataAccess:
        return FakeDataAccess(self.memory.exemplars(), held_out=dict(self.memory.held_out))

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
        alone = current.num_new == 1 and isinstance(self.method, WITHIN_TASK)
        self.expect_gradients(ids, zero=alone)
        torch.optim.SGD(trained, lr=0.05).step()
        self.method.after_step(Progress(1, 1, 0, 1))
        for name, parameter in self.method.network.named_parameters():
            assert name not in frozen or torch.equal(parameter, frozen[name]), f"{name} is frozen and has changed"

    def losses(self, current: Task, phase: Phase, weights: Tensor | None = None) -> dict[str, Tensor]:
        labels = torch.arange(12) % current.num_seen
        images, positions = pixels(1000 + torch.arange(12)), torch.arange(12)
        batch = Batch(images, labels, one_hot(labels, current.num_seen, 0.1), weights)
        scales = self.method.network.noise(Key(3), positions, torch.zeros_like(positions), frozenset())
        outputs = self.method.outputs(phase, images, scales)
        assert outputs.logits.shape == (12, current.num_seen)
        return self.method.losses(current, phase, batch, outputs)

    def expect_gradients(self, trained: set[int], *, zero: bool = False) -> None:
        asleep = branches_from_zero(self.method.network) | spared(self.method.network)
        for name, parameter in self.method.network.named_parameters():
            if id(parameter) not in trained:
                assert parameter.grad is None, f"{name} is frozen and has a gradient"
                continue
            assert parameter.grad is not None, f"{name} is trained and has no gradient"
            assert parameter.grad.isfinite().all(), name
            none = zero or id(parameter) in asleep or name.endswith(NO_GRADIENT)
            assert none or parameter.grad.any(), f"the gradient of {name} is zero"
        if self.method.teacher is not None:
            assert all(p.grad is None and not p.requires_grad for p in self.method.teacher.parameters())


class Operators(TorchDispatchMode):
    """Record of what is computed, tensors left out, and what of it the host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, str]] = []
        self.waits: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, of_host = func._overloadpacket.__name__, tree_map(_without_tensor, (args, kwargs or {}))
        self.done.append((name, str(of_host)))
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or name in {"_local_scalar_dense", "nonzero", "masked_select", "_unique2"}:
            self.waits.add(name)
        return func(*args, **(kwargs or {}))


def _without_tensor(value: object) -> object:
    return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else value


def expect_plain(value: Plain) -> None:
    if isinstance(value, dict):
        assert all(type(key) in (str, int) for key in value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            expect_plain(entry)
        return
    assert value is None or type(value) in (bool, int, float, str), repr(value)
