"""The directory of a run, each file written whole: configuration, checkpoints, results with protocol and provenance."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from cl_lightning.checkpoint.files import Position, checkpoint_bytes, save_whole, write_checkpoint
from cl_lightning.checkpoint.parts import Parts
from cl_lightning.checkpoint.state import RunState, checkpoint_payload, last_state, load_state, restore
from cl_lightning.config.fill_auto import changed_switches, unread_switches
from cl_lightning.config.identity import checkpoint_settings, refuse_edits
from cl_lightning.config.schema import Config
from cl_lightning.core.atomic_write import write_atomic
from cl_lightning.core.errors import UserError
from cl_lightning.core.types import Fit, Herd
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.exemplar_store import write_kept
from cl_lightning.data.sources.stored_size import stored_bytes
from cl_lightning.distributed.process_group import ProcessGroup
from cl_lightning.factory.added_task import EXEMPLARS, inherited_exemplars
from cl_lightning.methods.base import Method
from cl_lightning.report.results import build_results, write_results
from cl_lightning.run.caveats import caveats
from cl_lightning.run.data_record import DataRecord
from cl_lightning.run.protocol import comparable, memory_name, protocol

log = logging.getLogger(__name__)

_BESIDE_IDENTITY = ("precision", "evaluation_folder")
"""Keys of the protocol that do not identify a run: the one may be changed, the other came later than some runs."""


class RunDirectory:
    """The directory of a run, each file written whole."""

    def __init__(self, config: Config, scenario: Scenario, method: Method, run_dir: Path) -> None:
        self._config = config
        self._scenario = scenario
        self._method = method
        self._run_dir = run_dir
        self._protocol = protocol(config, scenario)
        self._data = DataRecord(config, scenario, run_dir)
        self._parts = Parts(self._checkpoints)
        self._notes = self._find_notes()
        self._started, self._began = time.time(), time.monotonic()  # a clock may be put back
        self._earlier: dict[str, Any] = {}
        self._seconds_before = 0.0
        self._commits = [commit()]  # of the code that runs, not of what is checked out when it ends

    def start(self) -> None:
        """Write the configuration as it is in force and the listing of images; of a run that extends another one, also
        the exemplars of that.
        """
        write_atomic(self._run_dir / "config.yaml", self._configuration)  # first: it is enough to resume the run
        if self._config.extends is not None and not (self._run_dir / EXEMPLARS).exists():
            store = inherited_exemplars(self._config)
            store = dataclasses.replace(store, identities=tuple(self._scenario.identities[:-1]))
            write_kept(self._run_dir / EXEMPLARS, store)
        self._data.write()

    @cached_property
    def _configuration(self) -> str:
        plain = dataclasses.asdict(self._config) | {"run_dir": str(self._run_dir)}
        return yaml.safe_dump(plain, sort_keys=False)

    def _restore_configuration(self) -> None:
        """Write the configuration again if it has been removed: without it nothing can be done with a run."""
        if not (self._run_dir / "config.yaml").exists():
            log.warning("%s was taken away, and is written again", self._run_dir / "config.yaml")
            write_atomic(self._run_dir / "config.yaml", self._configuration)

    def warn(self) -> None:
        """Log what is wrong with the images."""
        self._data.warn()

    @property
    def notes(self) -> list[str]:
        """Lines to know before the run's numbers are read; saved beside them."""
        return list(self._notes)

    def _find_notes(self) -> list[str]:
        """Return what to know before the run's numbers are read; saved beside them."""
        config = self._config
        notes = caveats(config, self._scenario)
        unread = unread_switches(config.method)
        herds = [item for item in self._method.plan(self._scenario.tasks[0]) if isinstance(item, Herd)]
        if herds and not herds[0].augmented and config.memory.scope == "per_replica":
            share = dataclasses.replace(config.memory, size=config.memory.size // config.batch.replicas)
            notes.append(
                f"memory.scope=per_replica without augmented herding: all {config.batch.replicas} replicas choose the "
                f"same exemplars, so that of {memory_name(config)} only "
                f"{memory_name(dataclasses.replace(config, memory=share))} are different images: "
                "type memory.scope=global, or with DyTox recipe.herd_augmented=true"
            )
        idle = [f"recipe.{k}={v}" for k, v in changed_switches(config.recipe).items() if k in unread]
        if idle:
            notes.append(f"{', '.join(idle)}: method={config.method.name} does not read it, DyTox and DAFormer do")
        return notes

    def position_text(self, state: RunState) -> str:
        """Return the run's position as a text: ``task 2/5, phase main, after step 300``."""
        position, tasks = state.position, self._scenario.tasks
        if position.tasks == len(tasks):
            return f"all {position.tasks} tasks done"
        task = f"task {position.tasks + 1}/{len(tasks)}"
        if position == Position(position.tasks):
            return task
        item = self._method.plan(tasks[position.tasks])[position.items]
        name = f"phase {item.phase.name}" if isinstance(item, Fit) else type(item).__name__.lower()
        return f"{task}, {name}" + (f", after step {position.steps}" if position.steps else "")

    def save_checkpoint(self, state: RunState) -> None:
        """Write the state: a checkpoint that the run can be resumed from. Its parts are there before it, and are
        removed after the last one that refers to them.
        """
        payload = checkpoint_payload(self._method, state, self._scenario.train, self._identity, self._parts)
        payload["commits"] = self._commits
        self._restore_configuration()
        write_checkpoint(self._checkpoints, state.position, payload)
        self._parts.remove_unreferred()

    def restore(self, processes: ProcessGroup) -> RunState | None:
        """Return the last saved state of the run in this folder, None if there is none; the method gets its networks.

        Every process reads the checkpoint that the main process could read; when this returns, all have read it.

        Raises:
            UserError: the checkpoint is of another run or other data.
        """
        found = last_state(self._checkpoints) if processes.is_main else None
        name = processes.broadcast(None if found is None else found[0].name)
        if name is None:
            return None
        payload = load_state(self._checkpoints / name) if found is None else found[1]
        processes.gather(None)
        self._data.check(payload)
        plain = dataclasses.asdict(self._config)
        refuse_edits(payload["identity"].get("configuration"), plain, f"resume={self._run_dir}")
        for part, value in self._identity.items():
            saved = payload["identity"].get(part)
            if part not in ("images", "configuration") and comparable(saved) != comparable(value):
                raise UserError(
                    f"resume={self._run_dir} was made with another {part}: {_difference(saved, value)}; "
                    "go on with the same data and configuration, or start a new run"
                )
        if processes.is_main and (whole := self._data.complete(payload)) is not None:
            save_whole(self._checkpoints / name, whole)
        state = restore(payload, self._method, self._scenario.train)
        self._check_cursor(state)
        self._commits = list(dict.fromkeys([*payload["commits"], *self._commits]))
        self._seconds_before = sum(record.seconds for record in state.records) + state.cursor.seconds
        self._earlier = {"went_on_after_task": len(state.records), "went_on_at_step": state.steps}
        return state

    def _check_cursor(self, state: RunState) -> None:
        """Raise ``UserError`` for a state at a position that its task does not have."""
        position, tasks = state.position, self._scenario.tasks
        if position.items == position.steps == 0:
            return
        plan = self._method.plan(tasks[position.tasks])
        if position.items >= len(plan) or (position.steps and not isinstance(plan[position.items], Fit)):
            raise UserError(
                f"resume={self._run_dir} was interrupted at a position that task {position.tasks + 1} does not have"
            )

    @property
    def _checkpoints(self) -> Path:
        return self._run_dir / "checkpoints"

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """Identity of the run, saved in each of its checkpoints."""
        return {
            "protocol": {name: value for name, value in self._protocol.items() if name not in _BESIDE_IDENTITY},
            "class_names": list(self._scenario.class_names),
            "order": list(self._scenario.order),
            "train_fingerprint": self._scenario.train.fingerprint,
            **({"fingerprints": list(self._scenario.fingerprints)} if self._scenario.fingerprints else {}),
            # Files that were written before these two were saved lack them.
            "images": self._data.identities,
            "configuration": checkpoint_settings(dataclasses.asdict(self._config)),
        }

    def results(self, state: RunState, *, write: bool = True) -> dict[str, Any]:
        """Return the results after the last task done, and with ``write`` write them."""
        after_phases = [entry for entry in state.after_phases if entry.task < len(state.records)]
        results = build_results(
            {**self._protocol, **_precision(state)},
            state.records,
            state.matrices,
            main_readout=next(iter(next(iter(state.matrices.values())))),
            parameters=state.records[-1].parameters,
            provenance={**self._provenance(), "disk": self._disk(state)},
            phases=state.phases,
            after_phases=after_phases,
            data={**self._data.results(), **_left_out(self._scenario)},
            notes=self._notes,
            class_counts=state.class_counts,
        )
        if write:
            self._restore_configuration()
            write_results(self._run_dir, results, state.matrices, after_phases)
        return results

    def _disk(self, state: RunState) -> dict[str, int | None]:
        """Return the bytes of the checkpoints that are there, and of the memory's images, each counted once."""
        memory = state.memory
        lists = [memory.rows(replica) for replica in range(memory.num_lists)]
        rows = torch.cat([*lists, memory.held_out_rows()]).unique()
        return {
            "checkpoints": checkpoint_bytes(self._checkpoints),
            "exemplars": stored_bytes(self._scenario.train, rows),
        }

    def _provenance(self) -> dict[str, Any]:
        packages = ("torch", "pytorch-lightning", "hydra-core", "timm", "continuum", "numpy")
        on_gpu = self._config.trainer.accelerator != "cpu" and torch.cuda.is_available()
        cuda = torch.cuda.get_device_name() if on_gpu else None
        return {
            "commit": ", then ".join(map(str, self._commits)) if len(self._commits) > 1 else self._commits[0],
            "command": shlex.join(sys.argv[1:]),
            "host": platform.node(),
            "device": cuda or f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._started)),
            "seconds": round(self._seconds_before + time.monotonic() - self._began, 1),
            **self._earlier,
        }


def _difference(saved: Any, now: Any) -> str:
    """Return a text with both values; of mappings, with those that differ."""
    if not (isinstance(saved, dict) and isinstance(now, dict)):
        return f"{saved}, not {now}"
    return ", ".join(
        f"{key}={saved.get(key)}, not {now.get(key)}" for key in {**saved, **now} if saved.get(key) != now.get(key)
    )


def _left_out(scenario: Scenario) -> dict[str, Any]:
    """Return the entry of the results on files left out beside the images of data in folders; none for arrays."""
    left_out = scenario.left_out
    return {} if left_out is None else {"left_out": [dataclasses.asdict(each) for each in left_out]}


def _precision(state: RunState) -> dict[str, Any]:
    """Return the precision of each phase, if it was changed on the way, else nothing."""
    used = list(dict.fromkeys(precision for _, _, precision in state.precisions))
    if len(used) < 2:
        return {}
    listed = [f"task {task + 1} {phase}: {precision}" for task, phase, precision in state.precisions]
    return {"precision": ", then ".join(used), "precision_of_phases": listed}


def commit() -> str | None:
    """Return the commit of this checkout, with ``+`` if it was changed; ``None`` for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "--no-optional-locks", "-C", str(root)]  # a user may be committing just now
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
