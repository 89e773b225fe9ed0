"""The files of a run, each written whole: configuration, checkpoints, results with their protocol and provenance."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from cl_lightning.build import scaled_epochs
from cl_lightning.config.fill import changed_switches
from cl_lightning.config.schema import Config
from cl_lightning.data.scenario import Scenario
from cl_lightning.methods.base import Method
from cl_lightning.report.results import build_results, write_atomic, write_results
from cl_lightning.state import RunState, checkpoint_payload, last_checkpoint, restore, save_checkpoint
from cl_lightning.types import Herd

_CHECKPOINTS_KEPT = 2


class Writer:
    """The files of a run, each written whole after every task."""

    def __init__(self, config: Config, scenario: Scenario, method: Method, run_dir: Path) -> None:
        self._config = config
        self._scenario = scenario
        self._method = method
        self._run_dir = run_dir
        self._protocol = protocol(config, scenario)
        self._started = time.time()
        self._earlier: dict[str, Any] = {}
        self._seconds_before = 0.0
        self._commit = commit()  # of the code that runs, not of what is checked out when it ends

    def start(self) -> None:
        """The configuration as it is in force."""
        plain = dataclasses.asdict(self._config) | {"run_dir": str(self._run_dir)}
        write_atomic(self._run_dir / "config.yaml", yaml.safe_dump(plain, sort_keys=False))

    def opening_lines(self, done: int = 0) -> list[str]:
        """What the user should know before the first step; ``done`` tasks have been learnt already."""
        config = self._config
        ignored = [] if config.method.rehearsal else [f"{config.method.name} keeps no memory: memory=... is ignored"]
        herds = [item for item in self._method.plan(self._scenario.tasks[0]) if isinstance(item, Herd)]
        if herds and not herds[0].augmented and config.memory.scope == "per_replica":
            share = dataclasses.replace(config.memory, size=(config.memory.size or 0) // (config.batch.replicas or 1))
            ignored.append(
                f"memory.scope=per_replica without augmented herding: all {config.batch.replicas} replicas choose the "
                f"same exemplars, so that of {memory_name(config)} only "
                f"{memory_name(dataclasses.replace(config, memory=share))} are different images: "
                "type memory.scope=global, or with DyTox recipe.herd_augmented=true"
            )
        recipe = {
            k: v
            for k, v in dataclasses.asdict(config.recipe).items()
            if k not in ("name", "date", "replicas", "precision")
        }
        return [
            f"{config.method.name} with {config.model.name} on {config.data.name}: {len(self._scenario.tasks)} tasks, "
            f"{len(self._scenario.class_names)} classes, memory {memory_name(config)}, "
            f"augmentation {config.data.augmentation}, seed {config.seed}",
            f"recipe {config.recipe.name} ({config.recipe.date}): " + ", ".join(f"{k}={v}" for k, v in recipe.items()),
            f"batch {config.batch.replicas} x {config.batch.size}, {config.trainer.precision}, epochs {epochs(config)}",
            *ignored,
            f"files in {shown(self._run_dir)}",
            *([f"going on after task {done}/{len(self._scenario.tasks)}"] if done else []),
        ]

    def checkpoint(self, state: RunState) -> None:
        """Before the results: whoever sees a task's result can load its model."""
        last = state.records[-1].index
        payload = checkpoint_payload(self._method, state, self._scenario.train, self._identity())
        save_checkpoint(self._checkpoints / f"task_{last:03d}.pt", payload)
        (self._checkpoints / f"task_{last - _CHECKPOINTS_KEPT:03d}.pt").unlink(missing_ok=True)

    def restore(self) -> RunState:
        """What the run in this folder knew after its last finished task; its networks are put into the method.

        Raises:
            ValueError: no task has been finished, or the checkpoint is of another run or other data.
        """
        payload = last_checkpoint(self._checkpoints)
        if payload is None:
            raise ValueError(f"resume={self._run_dir} has finished no task: start the run again in another folder")
        for name, value in self._identity().items():
            if payload["identity"][name] != value:
                raise ValueError(
                    f"resume={self._run_dir} was made with another {name}: {payload['identity'][name]}, not {value}; "
                    "go on with the same data and configuration, or start a new run"
                )
        state = restore(payload, self._method, self._scenario.train)
        self._seconds_before = sum(record.seconds for record in state.records)
        self._earlier = {"went_on_after_task": len(state.records)}
        return state

    @property
    def _checkpoints(self) -> Path:
        return self._run_dir / "checkpoints"

    def _identity(self) -> dict[str, Any]:
        """Of which run a checkpoint is."""
        return {
            "protocol": self._protocol,
            "class_names": list(self._scenario.class_names),
            "order": list(self._scenario.order),
            "train_fingerprint": self._scenario.train.fingerprint,
        }

    def results(self, state: RunState) -> dict[str, Any]:
        """Write what is known after the last task."""
        results = build_results(
            self._protocol,
            state.records,
            state.matrices,
            main_readout=next(iter(state.matrices["class_incremental"])),
            parameters=state.records[-1].parameters,
            provenance=self._provenance(),
        )
        write_results(self._run_dir, results, state.matrices)
        return results

    def _provenance(self) -> dict[str, Any]:
        packages = ("torch", "pytorch-lightning", "hydra-core", "timm", "continuum", "numpy")
        on_gpu = self._config.trainer.accelerator != "cpu" and torch.cuda.is_available()
        cuda = torch.cuda.get_device_name() if on_gpu else None
        return {
            "commit": self._commit,
            "command": " ".join(sys.argv[1:]),
            "host": platform.node(),
            "device": cuda or f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._started)),
            "seconds": round(self._seconds_before + time.time() - self._started, 1),
            **self._earlier,
        }


def protocol(config: Config, scenario: Scenario) -> dict[str, Any]:
    """What a number must never be printed without."""
    return {
        "method": config.method.name,
        "data": config.data.name,
        "classes": len(scenario.class_names),
        "tasks": [len(task.classes) for task in scenario.tasks],
        "order": config.data.order if isinstance(config.data.order, str | int) else list(config.data.order),
        "evaluates_on": scenario.evaluates_on,
        "model": config.model.name,
        "memory": memory_name(config),
        "memory_scope": config.memory.scope,
        "recipe": config.recipe.name,
        "recipe_changes": ", ".join(f"{k}={v}" for k, v in changed_switches(config.recipe).items()) or "none",
        "recipe_switches": {
            k: v
            for k, v in dataclasses.asdict(config.recipe).items()
            if k not in ("name", "date", "replicas", "precision")
        },
        "replicas": config.batch.replicas,
        "batch": config.batch.size,
        "precision": config.trainer.precision,
        "epochs": epochs(config),
        "lr_scale": config.lr_scale,
        "augmentation": config.data.augmentation,
        "method_options": {k: v for k, v in dataclasses.asdict(config.method).items() if k != "name"},
        "seed": config.seed,
    }


def epochs(config: Config) -> str:
    """Epochs of each phase, scaled: ``500 main + 20 finetuning``."""
    after = () if config.memory.budget == "none" else ("finetuning", "classifier")
    phases = {name: getattr(config.method, name, None) for name in ("main", *after)}
    return " + ".join(f"{scaled_epochs(name, p.epochs, config)} {name}" for name, p in phases.items() if p is not None)


def memory_name(config: Config) -> str:
    """The budget in words."""
    size = config.memory.size
    return {"total": f"{size} in total", "per_class": f"{size} per class", "none": "none"}[config.memory.budget]


def shown(path: Path) -> Path:
    """A path as the user would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def commit() -> str | None:
    """The commit of this checkout, with ``+`` if it was changed; ``None`` for an installed package."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
