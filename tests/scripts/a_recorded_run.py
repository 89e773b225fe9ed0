"""A recorded run of two tiny tasks, made by hand, and the events that ours would tell of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.reference.events import Evaluation, Loss, Observer, Step
from scripts.reference.recorded import RecordedRun
from scripts.reference.vectors import VectorFile

Arrays = dict[str, np.ndarray]
STEPS, EPOCHS, BIAS = 4, 2, "encoder.0.attn.pos_proj.bias"
PHASES = ((0, "main"), (1, "main"), (1, "finetuning"))
SETTINGS: dict[str, Any] = {"ours": ["method=dytox", "data=digits", "seed=0"], "tasks": 2, "run": "made"}


def arrays() -> Arrays:
    """Two processes with batches of 2; the second task's main phase takes two passes."""
    draw = np.random.default_rng(0)
    made: Arrays = {"settings.json": np.array(json.dumps(SETTINGS)), "probe_rows": np.array([0, 2], np.int16)}
    for task, phase in PHASES:
        folder = f"task{task}/{phase}/"
        rows = draw.integers(0, 99, (STEPS, 2, 2)).astype(np.int16)
        rows[-1, :, 1] = -1  # an incomplete last batch
        losses = draw.random((STEPS, 2, 3)).astype(np.float32)
        losses[:, :, slice(0, 0) if (task, phase) == (1, "main") else slice(1, 3)] = np.nan
        made |= {f"{folder}rows": rows, f"{folder}losses": losses, f"{folder}lr": np.array([0.1, 0.2])}
        if (task, phase) == (1, "main"):
            made[f"{folder}losses_at_worst"] = losses + np.float32(0.5)
        weights = state(task)
        made[f"{folder}parameters"] = np.array(list(weights))
        made[f"{folder}after"] = np.array([_seen(value.astype(np.float64).ravel()) for value in weights.values()])
    for task, rows, labels in ((0, [7, 3, 5, 6], [0, 0, 1, 1]), (1, [7, 5, 11, 12], [0, 1, 2, 3])):
        made |= {
            f"task{task}/memory/rows": np.array(rows, np.int16),
            f"task{task}/memory/labels": np.array(labels, np.int16),
            f"task{task}/memory/smallest_gap": np.array([2e-7, 3e-3]),
            f"task{task}/probe_logits": draw.random((2, 2 * task + 2)).astype(np.float32),
            f"task{task}/predictions": draw.integers(0, 2 * task + 2, 6).astype(np.int16),
            f"task{task}/smallest_margin": np.array(0.025, np.float32),
        }
    made |= {"accuracy_matrix": np.array([[0.5, np.nan], [0.25, 1.0]]), "curve": np.array([0.5, 0.625])}
    made |= {"avg": np.array(56.25), "last": np.array(62.5)}
    return made | {f"final/{name}": value for name, value in state(1).items()}


def state(task: int) -> Arrays:
    draw = np.random.default_rng(10 + task)
    names = ("decoder.norm1.weight", BIAS, *(f"head.{t}.head.weight" for t in range(task + 1)))
    return {name: draw.standard_normal((2, 3)).astype(np.float32) for name in names}


def _seen(values: np.ndarray) -> list[float]:
    product = sum(value * np.cos(place) for place, value in enumerate(values, start=1))
    return [float(np.sqrt((values**2).sum())), float(product)]


def run_of(path: Path, made: Arrays) -> RecordedRun:
    np.savez(path, **made)  # type: ignore[arg-type]
    return RecordedRun(VectorFile(path))


def play(observer: Observer, made: Arrays) -> None:
    """Return what ours would tell if it were the run of ``made``."""
    for task in (0, 1):
        _fit(observer, made, task, "main")
        rows, labels = (torch.from_numpy(made[f"task{task}/memory/{name}"]).long() for name in ("rows", "labels"))
        observer.on_memory(task, {label: rows[labels == label] for label in labels.unique().tolist()})
        if task:
            _fit(observer, made, task, "finetuning")
        cells = made["accuracy_matrix"][task, : task + 1].tolist()
        answers = torch.from_numpy(made[f"task{task}/predictions"]).long()
        logits = torch.from_numpy(made[f"task{task}/probe_logits"])
        observer.on_evaluation(task, Evaluation(answers, cells, float(made["curve"][task]), logits))
    observer.on_end(_tensors(state(1)))


def _fit(observer: Observer, made: Arrays, task: int, phase: str) -> None:
    folder = f"task{task}/{phase}/"
    if f"{folder}rows" not in made:
        return
    entries = [name for name in ("losses", "losses_at_worst") if folder + name in made]
    for index, rows in enumerate(made[f"{folder}rows"]):
        epoch = index * EPOCHS // STEPS
        passes = tuple(_loss(torch.from_numpy(made[folder + name][index])) for name in entries)
        kept = torch.from_numpy(rows[rows >= 0]).long()
        observer.on_step(task, phase, Step(index, epoch, kept, float(made[f"{folder}lr"][epoch]), passes))
    observer.on_phase_end(task, phase, _tensors(state(task)))


def _loss(each: Tensor) -> Loss:
    return Loss(each, each.mean(dim=0))


def _tensors(values: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in values.items()}
