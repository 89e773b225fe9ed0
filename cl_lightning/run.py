"""One job: from a checked configuration to the files of a run."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from cl_lightning.build import build_memory, build_method, build_pipeline, build_scenario, scaled_epochs
from cl_lightning.config.fill import changed_switches
from cl_lightning.config.schema import Config
from cl_lightning.data.scenario import Scenario
from cl_lightning.errors import told_to_user
from cl_lightning.learning.display import Display
from cl_lightning.learning.engine import Engine
from cl_lightning.learning.loggers import Curves, LoggerOptions, make_curves
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from cl_lightning.methods.base import Method
from cl_lightning.report.results import build_results, write_atomic, write_results
from cl_lightning.report.table import render_table
from cl_lightning.rng import Key
from cl_lightning.sequence import Sequence, Settings
from cl_lightning.state import RunState, checkpoint_payload, save_checkpoint

log = logging.getLogger(__name__)

_CHECKPOINTS_KEPT = 2


def execute(config: Config) -> float:
    """Learn the whole sequence, writing the run's files after every task; returns the average incremental accuracy in
    [0, 1].
    """
    run_dir = Path(config.run_dir).resolve()
    with _job_scope(config, run_dir):
        with told_to_user():
            scenario = build_scenario(config)
            key = Key(config.seed)
            method = build_method(config, scenario, key)
            state = RunState(build_memory(config))
            settings = Settings(key, config.batch.size or 1, config.batch.replicas or 1, config.data.flip)
            sequence = Sequence(scenario, method, state, settings)
            last = config.trainer.stop_after_task
            if last is not None and last >= len(scenario.tasks):
                raise ValueError(
                    f"trainer.stop_after_task={last} is not among the {len(scenario.tasks)} tasks: "
                    f"type trainer.stop_after_task=0 to {len(scenario.tasks) - 1}, or null"
                )
            legs = sequence.forecast(last)
            pipeline = build_pipeline(config, scenario, key)
            curves = make_curves(_logger_options(config), run_dir)
        writer = _Writer(config, scenario, method, run_dir)
        display = Display(legs, len(scenario.tasks), config.trainer.progress)
        ok = False
        try:
            writer.start()
            for line in writer.opening_lines():
                _tell(display, line)
            curves.log_configuration(dataclasses.asdict(config))
            engine = _engine(config, scenario, pipeline, run_dir, display, curves)
            for task in sequence.run(engine, display, curves):
                results = writer.write(state)
                curves.log_task(task.index, _task_scalars(results))
                _tell(display, _task_line(results, len(scenario.tasks)))
                if config.trainer.stop_after_task == task.index:
                    break
            ok = True
        finally:
            display.close()
            curves.close(ok)
        sys.stdout.write(render_table(results, str(_shown(run_dir)), width=100) + "\n")
    return float(results["average_incremental_accuracy"])


def _tell(display: Display, line: str) -> None:
    """To the console and into the run's log."""
    display.say(line)
    log.info(line)


def _engine(
    config: Config, scenario: Scenario, pipeline: Any, run_dir: Path, display: Display, curves: Curves
) -> Engine:
    trainer = config.trainer
    options = TrainerOptions(trainer.accelerator, trainer.precision or "32-true", trainer.deterministic, run_dir)
    return Engine(
        scenario,
        pipeline,
        options,
        workers=trainer.workers,
        evaluation_batch=config.batch.evaluation,
        log_every=trainer.log_every,
        display=display,
        curves=curves,
    )


def _logger_options(config: Config) -> LoggerOptions:
    logger = config.logger
    group = f"{config.method.name}_{config.data.name}"
    return LoggerOptions(
        csv=logger.csv,
        wandb=logger.wandb,
        project=logger.project,
        entity=logger.entity,
        mode=logger.mode,
        name=logger.name or f"{group}_seed{config.seed}",
        group=logger.group or group,
    )


class _Writer:
    """The files of a run, each written whole after every task."""

    def __init__(self, config: Config, scenario: Scenario, method: Method, run_dir: Path) -> None:
        self._config = config
        self._scenario = scenario
        self._method = method
        self._run_dir = run_dir
        self._protocol = protocol(config, scenario)
        self._started = time.time()
        self._commit = _commit()  # of the code that runs, not of what is checked out when it ends

    def start(self) -> None:
        """The configuration as it is in force."""
        plain = dataclasses.asdict(self._config) | {"run_dir": str(self._run_dir)}
        write_atomic(self._run_dir / "config.yaml", yaml.safe_dump(plain, sort_keys=False))

    def opening_lines(self) -> list[str]:
        """What the user should know before the first step."""
        config = self._config
        ignored = [] if config.method.rehearsal else [f"{config.method.name} keeps no memory: memory=... is ignored"]
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
            f"files in {_shown(self._run_dir)}",
        ]

    def write(self, state: RunState) -> dict[str, Any]:
        """Checkpoint, then results: whoever sees a task's result can load its model."""
        last = state.records[-1].index
        folder = self._run_dir / "checkpoints"
        identity = {
            "protocol": self._protocol,
            "class_names": list(self._scenario.class_names),
            "order": list(self._scenario.order),
            "train_fingerprint": self._scenario.train.fingerprint,
        }
        save_checkpoint(
            folder / f"task_{last:03d}.pt", checkpoint_payload(self._method, state, self._scenario.train, identity)
        )
        (folder / f"task_{last - _CHECKPOINTS_KEPT:03d}.pt").unlink(missing_ok=True)
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
            "seconds": round(time.time() - self._started, 1),
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


def _task_scalars(results: dict[str, Any]) -> dict[str, float]:
    last = results["tasks"][-1]
    scalars = {
        "accuracy": results["last_accuracy"],
        "average_incremental_accuracy": results["average_incremental_accuracy"],
    }
    for name in ("forgetting", "backward_transfer"):
        if results[name] is not None:
            scalars[name] = results[name]
    for protocol_name, readouts in last["accuracy"].items():
        scalars |= {f"accuracy/{protocol_name}/{readout}": value for readout, value in readouts.items()}
    return scalars


def _task_line(results: dict[str, Any], num_tasks: int) -> str:
    done = len(results["tasks"])
    return f"after task {done}/{num_tasks}: {100 * results['last_accuracy']:.1f} % of all classes seen so far"


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _commit() -> str | None:
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


@contextmanager
def _job_scope(config: Config, run_dir: Path) -> Iterator[None]:
    """What one job of a multirun changes in this process is undone for the next: log file, warnings, threads,
    environment.
    """
    with told_to_user():
        if (run_dir / "results.json").exists():
            raise ValueError(f"run_dir={run_dir} holds a run already: type another run_dir, or remove that one")
        if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
            raise ValueError("trainer.accelerator=gpu, but torch finds no GPU here: type trainer.accelerator=cpu")
        run_dir.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(run_dir / "run.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, level, threads, environment = (
        logging.getLogger(),
        logging.getLogger().level,
        torch.get_num_threads(),
        dict(os.environ),
    )
    console = logging.StreamHandler(sys.stderr)  # what is ignored must be seen
    console.setLevel(logging.WARNING)
    console.setFormatter(logging.Formatter("warning: %(message)s"))
    package = logging.getLogger("cl_lightning")
    root.addHandler(handler)
    package.addHandler(console)
    root.setLevel(logging.INFO)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    try:
        with warnings.catch_warnings():
            quieten_lightning()
            yield
    except Exception:
        package.removeHandler(console)
        log.exception("the run ended with an error")
        raise
    finally:
        root.removeHandler(handler)
        package.removeHandler(console)
        handler.close()
        root.setLevel(level)
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)
