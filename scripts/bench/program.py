"""The overhead of a run: Lightning and logging, memory for many tasks, the start of the program."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.config.compose import compose_typed
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Fit, Task
from cl_lightning.data.datamodule import TaskData
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.step_sampler import PhaseSampler
from cl_lightning.factory.data import build_pipeline, build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.learning import engine
from cl_lightning.learning.cuda_graph import CudaRecorder
from cl_lightning.learning.display import Display, PhaseSpan
from cl_lightning.learning.engine import Engine, EngineOptions, Observers
from cl_lightning.learning.lightning_module import Learner, PhaseLength
from cl_lightning.learning.loggers import LoggerOptions, make_curves
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network
from scripts.bench.measure import Row, paired, seconds
from scripts.bench.steps import CIFAR


class _Bare(Learner):
    """The same steps without Lightning."""

    trainer: Any = SimpleNamespace(precision_plugin=SimpleNamespace())

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._optimiser

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()


class _Idle(Learner):
    """Lightning's loop, the display and the curves around steps that do nothing."""

    def training_step(self, images: Any, batch_idx: int) -> None:
        self.steps_done += 1
        self._watch.enqueue(self.steps_done, ("classification",), torch.zeros(1))
        self.check_finite()


class Loop:
    """DyTox's first phase: in the engine, as a run has it, and as a bare loop around the same steps. On a CPU these are
    of digits; on a GPU of made-up images, by the published network for CIFAR-100 in bf16, compiled and replayed.
    """

    def __init__(self, steps: int, device: str, folder: Path, quick: bool = False) -> None:
        quieten_lightning()
        on_gpu = device == "cuda"
        real = on_gpu and not quick
        cifar = ["data.crop_padding=4", "data.flip=true", "data.augmentation=randaugment"] if real else []
        config = compose_typed([f"run_dir={folder}", "trainer.threads=null", "data.mean=null", "data.std=null", *cifar])
        self._scenario = _made_up() if real else build_scenario(config)
        self._method = build_method(config, self._scenario, Key(0))
        self._task = self._scenario.tasks[0]
        if real:
            structure = {
                "kind": "task_network", "encoder": CIFAR, "decoder": {"kind": "task_attention"}, "diverge": True,
                "independent_heads": True, "classes": [],
            }  # fmt: skip
            self._method.network = build_network(structure, Key(0))
        self._method.grow(self._task, Key(0), None)  # type: ignore[arg-type]
        self._method.network.to(device)
        (phase,) = [item.phase for item in self._method.plan(self._task) if isinstance(item, Fit)]
        pipeline = build_pipeline(config, self._scenario, Key(0))
        batch = 128 if real else config.batch.size
        assert batch
        draws = PhaseSampler([self._task.train], phase.sampling, 1, batch, Key(0))
        self._phase = dataclasses.replace(phase, epochs=max(1, round(steps / draws.steps_per_epoch)))
        self._draws = dataclasses.replace(draws, epochs=self._phase.epochs)
        self._pipeline = pipeline
        self._device = torch.device(device)
        self._half = on_gpu
        self.steps = self._draws.total_steps
        self.trunks = TrunkCompiler(on_gpu)
        self.what = f"steps of {'made-up images of 32 pixels, batch 128, bf16' if real else 'digits'}"
        display = Display([], len(self._scenario.tasks), "none")
        display.start(PhaseSpan(0, 1, phase.name, self._phase.epochs, draws.steps_per_epoch, 0))
        curves = make_curves(LoggerOptions(True, False, "", None, "offline", "bench", ""), folder)
        precision = "bf16-mixed" if on_gpu else "32-true"
        options = TrainerOptions("gpu" if on_gpu else "cpu", precision, deterministic=False, run_dir=folder)
        self._every = config.trainer.log_every
        how = EngineOptions(0, 256, self._every, self.trunks)
        self._engine = Engine(self._scenario, pipeline, options, how, Observers(display, curves, NoCheckpoints()))

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self._method.network

    def engine(self) -> None:
        """Train in the engine, as in a run."""
        self._engine.fit(self._method, self._task, self._phase, self._draws, Key(0))

    def bare(self) -> None:
        """Train in a loop over the same batches and steps."""
        length = PhaseLength(self._draws.steps_per_epoch, self._phase.epochs, self._draws.batch)
        self._method.network.to(self._device)  # Lightning has put it back on the CPU
        learner = _Bare(self._method, self._task, self._phase, length, 1, Key(0), point_every=self._every)
        learner.configure_optimizers()
        learner._statistics = []
        if self._device.type == "cuda":
            learner.replay(CudaRecorder())
        pixels = self._engine.images["train"].pixels
        source, labels = self._scenario.train, self._scenario.train_labels
        pipeline = dataclasses.replace(self._pipeline, key=Key(0))
        data = TaskData(source, labels, self._draws, pipeline, pixels, scales=learner.scales)
        data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=self._device))  # type: ignore[assignment]
        half = torch.autocast(self._device.type, torch.bfloat16, enabled=self._half, cache_enabled=False)  # Lightning's
        with self.trunks.compiled([self._method.network], self._draws.batch):
            for number, images in enumerate(data.train_dataloader()):
                with half:
                    learner.training_step(images, number)
        learner.check_finite(wait=True)
        assert learner.recorded or not self._half, "steps were not recorded"
        assert not self.trunks.given_up, "the trunk was not compiled"
        learner.close()

    def idle(self) -> float:
        """Return seconds a step of everything around the arithmetic, over enough steps for the start not to count."""
        times = 2 if self._device.type == "cuda" else 20
        longer = dataclasses.replace(self._draws, epochs=times * self._draws.epochs)
        phase = dataclasses.replace(self._phase, epochs=longer.epochs)

        def fit() -> None:
            self._engine.fit(self._method, self._task, phase, longer, Key(0))

        with patch.object(engine, "Learner", _Idle):
            return min(seconds(fit, self._device.type) for _ in range(3)) / longer.total_steps


def _made_up() -> Scenario:
    """Return ten tasks of ten classes of 500 images of 32 pixels."""
    draws, count, names = torch.Generator().manual_seed(0), 50_000, tuple(map(str, range(100)))
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=draws)
    labels = torch.arange(count) % 100
    source = ArraySource("made up", pixels, labels, names)
    tasks = []
    for index in range(10):
        classes = tuple(range(10 * index, 10 * index + 10))
        rows = torch.nonzero(torch.isin(labels, torch.tensor(classes))).flatten()
        tasks.append(Task(index, classes, names[classes[0] : classes[-1] + 1], rows, rows))
    return Scenario("made up", source, source, tuple(tasks), names, tuple(range(100)), labels, labels, 32, 3, "test")


def around_the_step(steps: int, pairs: int, device: str, at_most: float | None, quick: bool = False) -> Row:
    """Measure the engine's time over the bare loop's."""
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(steps, device, Path(folder), quick)
        timed = paired(loop.engine, loop.bare, pairs, device)
        idle = loop.idle()
    detail = f"{timed.milliseconds()} for {loop.steps} {loop.what}; {1e6 * idle:.0f} us a step with idle steps"
    return Row("Lightning, display, curves / bare loop", timed.ratio, at_most=at_most, detail=detail)


def start_of_the_program(at_most: float | None) -> Row:
    """Time ``--help``, as it is typed."""
    command = [sys.executable, "-m", "cl_lightning", "--help"]

    def ask() -> None:
        _output_of(command)

    ask()
    taken = sorted(seconds(ask) for _ in range(3))[1]
    return Row("python -m cl_lightning --help, seconds", taken, at_most=at_most, detail="median of 3")


def peak_memory(tasks: int, batch: int, device: str, at_most: float | None) -> Row:
    """Measure peak memory of training steps at ``tasks`` tasks over one, each in a process of its own."""
    many, one = (_peak(number, batch, device) for number in (tasks, 1))
    detail = f"{many / 2**20:.0f} / {one / 2**20:.0f} MiB, batch {batch}, beside the interpreter and its libraries"
    return Row(f"peak memory, {tasks} tasks / 1 task", many / one, at_most=at_most, detail=detail)


def _peak(tasks: int, batch: int, device: str) -> int:
    command = [sys.executable, "-W", "ignore", "-m", "scripts.bench.program", str(tasks), str(batch), device]
    return int(_output_of(command))


def _output_of(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _resident(what: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1024
    raise SystemExit("no /proc/self/status here: the peak of memory is not known")


def _use_memory(tasks: int, batch: int, device: str) -> int:
    from scripts.bench.steps import Setting, Step

    Step(1, Setting("cpu", 1, 1)).ours()  # libraries' own memory
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _resident("VmRSS")
    step = Step(tasks, Setting(device, batch, 1, bf16=device == "cuda"))
    for _ in range(2):
        step.ours()
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM") - before


if __name__ == "__main__":
    print(_use_memory(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
