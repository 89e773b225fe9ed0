"""Comparison of a recipe's golden vectors with ours: herding ranks, learning rates, orders of repeated augmentation."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Order, Sampling, Schedule
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.memory.herding import herd
from cl_lightning.optim.schedule import learning_rate
from scripts.reference.difference import Row, Verdict, difference, failure, lacking
from scripts.reference.vectors import VectorFile

BASE_RATE = 1.25e-4
"""Rate after the warm-up: 5e-4 for 512 images a step, and 128 images."""
SCHEDULE = Schedule("cosine", warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5, lag=True)
"""Setting of the main phase, as published."""
SAMPLING = Sampling(Order.REPEATED, ignore_seed=True, drop_last=True)
"""Setting of the main phase, as published."""

_HERDING = r"(herding\d+/)select(\d+)"
_RATES = r"lr_used/(\d+)_epochs"
_ORDERS = r"repeated_augmentation/n(\d+)_world(\d+)_rank(\d+)_epoch(\d+)"


def matches(file: VectorFile) -> bool:
    """Return whether it has at least one of the three groups."""
    return any(re.match(r"herding\d+/|lr_used/|repeated_augmentation/", name) for name in file.names())


def is_input(entry: str) -> bool:
    """Return whether an entry holds features, the input of herding."""
    return re.fullmatch(r"herding\d+/features", entry) is not None


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare every entry with a known name."""
    for entry in file.names():
        if found := re.fullmatch(_HERDING, entry):
            yield _ranks(file, entry, f"{found[1]}features", int(found[2]))
        elif found := re.fullmatch(_RATES, entry):
            yield _rates(entry, int(found[1]), file[entry])
        elif found := re.fullmatch(_ORDERS, entry):
            yield _order(entry, file[entry], *map(int, found.groups()))
        elif is_input(entry) and not any(re.match(r"select\d", name) for name in file.names(entry[: -len("features")])):
            yield Row(entry, Verdict.UNCHECKED, note="there are no ranks beside it")


def _ranks(file: VectorFile, entry: str, features: str, count: int) -> Row:
    if features not in file:
        return lacking(features)
    try:
        ours = herd(file[features], count)
    except (ValueError, FloatingPointError) as error:
        return failure(entry, f"{features}: {error}")
    return _whole_numbers(entry, ours, file[entry])


def _rates(entry: str, epochs: int, theirs: Tensor) -> Row:
    """Compare rates to 1e-9 of the largest, or to float32's precision where the file is float32."""
    ours = torch.tensor([learning_rate(SCHEDULE, BASE_RATE, e, epochs) for e in range(epochs)], dtype=torch.float64)
    precision = 1e-9 if theirs.dtype == torch.float64 else 2e-7
    return difference(entry, ours, theirs, precision * BASE_RATE)


def _order(entry: str, theirs: Tensor, images: int, world: int, rank: int, epoch: int) -> Row:
    if rank >= world:
        return failure(entry, f"rank {rank} of {world} processes does not exist")
    return _whole_numbers(entry, _epoch(images, world, rank, epoch), theirs)


def _epoch(images: int, world: int, rank: int, epoch: int) -> Tensor:
    """Return the rows that a process draws in an epoch, all as one step."""
    offered = images // 256 * 256 // world
    if not offered:
        return torch.empty(0, dtype=torch.int64)
    draws = PhaseSampler([torch.arange(images)] * world, SAMPLING, epoch + 1, offered, Key(0))
    return draws.step(epoch).rows.chunk(world)[rank]


def _whole_numbers(entry: str, ours: Tensor, theirs: Tensor) -> Row:
    """Compare integers: they differ if one of them does."""
    row = difference(entry, ours, theirs, 0.0)
    if row.verdict is Verdict.DIFFERS and ours.shape == theirs.shape:
        wrong = (ours != theirs).nonzero()[:, 0]
        note = f"{len(wrong)} of {len(ours)} differ, the first at {int(wrong[0])}" if len(wrong) else row.note
        return Row(entry, row.verdict, row.absolute, row.relative, row.bound, note)
    return row
