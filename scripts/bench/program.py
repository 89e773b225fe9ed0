"""What a run costs beside its arithmetic: Lightning and logging, memory for many tasks, the start of the program."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from cl_lightning import build
from cl_lightning.config.compose import compose_typed
from cl_lightning.data.draws import Draws
from cl_lightning.data.module import TaskData
from cl_lightning.journal import Bystander
from cl_lightning.learning import engine
from cl_lightning.learning.display import Display, Leg
from cl_lightning.learning.engine import Engine
from cl_lightning.learning.learner import Learner, Length
from cl_lightning.learning.loggers import LoggerOptions, make_curves
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from cl_lightning.rng import Key
from cl_lightning.types import Fit
from scripts.bench.measure import Row, paired, seconds


class _Bare(Learner):
    """The same steps with nobody around them."""

    trainer: Any = SimpleNamespace(precision_plugin=SimpleNamespace())

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._optimiser

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()


class _Idle(Learner):
    """Lightning's loop, the display and the curves around steps that do nothing."""

    def training_step(self, images: Any, batch_idx: int) -> None:
        self.steps_done += 1
        self.terms = {"classification": torch.zeros(())}


class Loop:
    """DyTox's first phase on digits: in the engine, as a run has it, and as a bare loop."""

    def __init__(self, steps: int, device: str, folder: Path) -> None:
        quieten_lightning()
        config = compose_typed([f"run_dir={folder}", "trainer.threads=null"])
        self._scenario = build.build_scenario(config)
        self._method = build.build_method(config, self._scenario, Key(0))
        self._task = self._scenario.tasks[0]
        self._method.grow(self._task, Key(0), None)  # type: ignore[arg-type]
        if device == "cuda":
            self._method.network.cuda()
        (phase,) = [item.phase for item in self._method.plan(self._task) if isinstance(item, Fit)]
        pipeline = build.build_pipeline(config, self._scenario, Key(0))
        assert config.batch.size
        draws = Draws([self._task.train], phase.sampling, 1, config.batch.size, Key(0))
        self._phase = dataclasses.replace(phase, epochs=max(1, round(steps / draws.steps_per_epoch)))
        self._draws = dataclasses.replace(draws, epochs=self._phase.epochs)
        self._pipeline = pipeline
        self._device = torch.device(device)
        self.steps = self._draws.total_steps
        display = Display([], len(self._scenario.tasks), "none")
        display.start(Leg(0, 1, phase.name, self._phase.epochs, draws.steps_per_epoch, 0))
        curves = make_curves(LoggerOptions(True, False, "", None, "offline", "bench", ""), folder)
        accelerator = "gpu" if device == "cuda" else "cpu"
        self._engine = Engine(
            self._scenario, pipeline, TrainerOptions(accelerator, "32-true", deterministic=False, run_dir=folder),
            workers=0, evaluation_batch=256, log_every=config.trainer.log_every, display=display, curves=curves,
            leaving=Bystander(),
        )  # fmt: skip

    def engine(self) -> None:
        """As in a run."""
        self._engine.fit(self._method, self._task, self._phase, self._draws, Key(0))

    def bare(self) -> None:
        """A loop over the same batches and steps."""
        length = Length(self._draws.steps_per_epoch, self._phase.epochs, self._draws.batch)
        learner = _Bare(self._method, self._task, self._phase, length, 1, Key(0))
        learner.configure_optimizers()
        learner._statistics = []
        pixels = self._engine._train_pixels
        source, labels = self._scenario.train, self._scenario.train_labels
        data = TaskData(source, labels, self._draws, dataclasses.replace(self._pipeline, key=Key(0)), pixels)
        data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=self._device))  # type: ignore[assignment]
        for number, images in enumerate(data.train_dataloader()):
            learner.training_step(images, number)
        learner.check_finite(wait=True)

    def idle(self) -> float:
        """Seconds a step of everything around the arithmetic, over so many steps that the start does not count."""
        longer = dataclasses.replace(self._draws, epochs=20 * self._draws.epochs)
        phase = dataclasses.replace(self._phase, epochs=longer.epochs)

        def fit() -> None:
            self._engine.fit(self._method, self._task, phase, longer, Key(0))

        with patch.object(engine, "Learner", _Idle):
            return min(seconds(fit, self._device.type) for _ in range(3)) / longer.total_steps


def around_the_step(steps: int, pairs: int, device: str, at_most: float | None) -> Row:
    """How much longer the engine takes than the bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(steps, device, Path(folder))
        timed = paired(loop.engine, loop.bare, pairs, device)
        idle = loop.idle()
    detail = f"{timed.milliseconds()} for {loop.steps} steps of digits; {1e6 * idle:.0f} us a step with idle steps"
    return Row("Lightning, display, curves / bare loop", timed.ratio, at_most=at_most, detail=detail)


def start_of_the_program(at_most: float | None) -> Row:
    """``--help``, as it is typed."""
    command = [sys.executable, "-m", "cl_lightning", "--help"]

    def ask() -> None:
        subprocess.run(command, check=True, capture_output=True)

    ask()
    taken = sorted(seconds(ask) for _ in range(3))[1]
    return Row("python -m cl_lightning --help, seconds", taken, at_most=at_most, detail="median of 3")


def peak_memory(tasks: int, batch: int, device: str, at_most: float | None) -> Row:
    """Peak memory of training steps at ``tasks`` tasks against at one, each in a process of its own."""
    many, one = (_peak(number, batch, device) for number in (tasks, 1))
    detail = f"{many / 2**20:.0f} / {one / 2**20:.0f} MiB, batch {batch}, beside the interpreter and its libraries"
    return Row(f"peak memory, {tasks} tasks / 1 task", many / one, at_most=at_most, detail=detail)


def _peak(tasks: int, batch: int, device: str) -> int:
    command = [sys.executable, "-W", "ignore", "-m", "scripts.bench.program", str(tasks), str(batch), device]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return int(done.stdout)


def _resident(what: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1024
    raise SystemExit("no /proc/self/status here: the peak of memory is not known")


def _use_memory(tasks: int, batch: int, device: str) -> int:
    from scripts.bench.steps import Setting, Step

    Step(1, Setting("cpu", 1, 1)).ours()  # libraries take what they take
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _resident("VmRSS")
    step = Step(tasks, Setting(device, batch, 1))
    for _ in range(2):
        step.ours()
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM") - before


if __name__ == "__main__":
    print(_use_memory(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
