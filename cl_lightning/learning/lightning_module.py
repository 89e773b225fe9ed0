"""The LightningModule around a method: one phase of one task.

Optimisation is manual: a step is forward, backward, perhaps a second pass at the worst point nearby, and the optimiser.
A phase is one Lightning epoch, whatever number of epochs the recipe counts, so that a phase of fifty short epochs costs
fifty epochs of work and one of overhead, and a step number is all that is needed to resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from cl_lightning.core.rng import Key, streams
from cl_lightning.core.types import Batch, Phase, PhaseCheckpoint, Progress, Task
from cl_lightning.data.augmentation.mixup import mix, mix_ratio, mixup, one_hot
from cl_lightning.data.loading import Images
from cl_lightning.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from cl_lightning.learning.cuda_graph import CudaRecorder, GraphedStep, Recorder
from cl_lightning.learning.finite_check import broken_network
from cl_lightning.learning.non_finite import NonFiniteGuard
from cl_lightning.learning.replicas import losses_by_replica
from cl_lightning.learning.stopping_rule import StoppingState
from cl_lightning.methods.base import Method
from cl_lightning.models.replica_norm import running_statistics, set_replicas
from cl_lightning.optim.gradients import change_gradients
from cl_lightning.optim.optimiser import FACTOR, Factors, base_rate, make_optimiser
from cl_lightning.optim.optimiser_state import load_optimiser
from cl_lightning.optim.sam import ascend, descend
from cl_lightning.optim.schedule import learning_rate


@dataclass(frozen=True)
class PhaseLength:
    """Number of steps, epochs and images of a phase."""

    steps_per_epoch: int
    epochs: int
    images_per_step: int
    """Images of all replicas together, which a learning rate scaled with the batch follows."""
    images_per_epoch: int | None = None
    """Images of all replicas together; None: every step has as many."""

    @property
    def total_steps(self) -> int:
        """Number of optimiser steps."""
        return self.steps_per_epoch * self.epochs

    def epoch_of(self, step: int) -> int:
        """Return the epoch, from 0, of the ``step``-th step of the phase, from 1."""
        return (step - 1) // self.steps_per_epoch

    def seen(self, steps: int) -> float:
        """Return the share of an epoch's images that have passed after ``steps`` steps of the phase, in [0, 1)."""
        images = self.images_per_epoch or self.steps_per_epoch * self.images_per_step
        return steps % self.steps_per_epoch * self.images_per_step / images


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one training step, for the curves."""

    step: int
    lr: float
    terms: dict[str, float]
    """Terms of the loss."""
    monitored_scalars: dict[str, float]
    """``Method.monitored_scalars``."""


class StepInputs(NamedTuple):
    """Everything that differs from step to step: a recorded step reads it at a fixed address, so tensors alone."""

    images: Tensor
    """Mixed, where the recipe mixes them."""
    labels: Tensor
    targets: Tensor | None
    """Mixed and smoothed; ``None``: the labels alone."""
    weights: Tensor | None
    """Weights of the images, mixed as they are; ``None``: all 1."""
    noise: Tensor | None
    """Random numbers of the network (``Network.noise``)."""
    noise_nearby: Tensor | None
    """Random numbers of the second pass, at the worst point nearby."""
    gradient_stream: Tensor | None = None
    gradient_deviation: Tensor | None = None
    """(1,) random stream and () standard deviation of the noise of the gradient."""


class Learner(pl.LightningModule):
    """Training of ``method`` for ``phase`` of ``task``."""

    def __init__(
        self,
        method: Method,
        task: Task,
        phase: Phase,
        length: PhaseLength,
        replicas: int,
        key: Key,
        *,
        processes: ProcessGroup = SINGLE_PROCESS,
        resume_from: PhaseCheckpoint | None = None,
        point_every: int = 1,
        cuda_graphs: bool = True,
        class_weights: Tensor | None = None,
    ) -> None:
        """Prepare a phase, or the rest of one if ``resume_from`` is given.

        ``replicas`` are all virtual replicas of the run, of which each of ``processes`` computes a share;
        ``point_every`` are the steps between two points of the curves; ``cuda_graphs`` allows steps to be replayed on a
        GPU; ``class_weights`` (C,) weigh each image by its class (``Batch.weights``).
        """
        super().__init__()
        self.automatic_optimization = False
        self.network = method.network
        self.method = method
        self.task = task
        self.phase = phase
        self.length = length
        self.replicas = processes.replicas(replicas)
        self.key = key
        self.steps_done = 0 if resume_from is None else resume_from.steps
        self.report: Callable[[StepMetrics], None] = _no_report
        """Callback for the points of the curves, called some steps later, when they have come from the device."""
        saved = None if resume_from is None else resume_from.stopping
        self.stopping = None if saved is None else StoppingState.from_plain(saved)
        """Checks of early stopping, part of the state that is resumed from."""
        self.monitored: dict[str, float] = {}
        """Values to plot beside the losses, from the next step on."""
        self.mix_ratio: Callable[[Key, float], float] = mix_ratio
        """Draw of a replica's MixUp ratio in a step; a callback that repeats a recorded run sets that run's ratios."""
        self._processes = processes
        self._resume_from = resume_from
        self._point_every = point_every
        self._cuda_graphs = cuda_graphs
        self._class_weights = class_weights
        self._epoch_of_rate = -1
        self._run_step: Callable[..., Tensor] = self._recorded_step
        self._names: tuple[str, ...] = ()
        self._base_rate = base_rate(phase.optimiser, length.images_per_step)
        self._watch = NonFiniteGuard()
        set_replicas(self.network, len(self.replicas))
        self._trained = self._freeze()
        self._frozen_parts = frozenset() if phase.drop_path_in_frozen else frozenset(
            set(self.network.parts()) - set(phase.trains)
        )  # fmt: skip

    def _freeze(self) -> list[torch.nn.Parameter]:
        trained, self._factors = [], []
        for name, parameters in self.network.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(name in self.phase.trains)
                parameter.grad = None
                if name in self.phase.trains:
                    trained.append(parameter)
                    self._factors.append(Factors(self.phase.rates.get(name, 1.0), self.phase.decays.get(name, 1.0)))
        assert trained, f"phase {self.phase.name} trains nothing of {list(self.network.parts())}"
        return trained

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return a new optimiser for the trained parameters; with its saved state, where the phase is resumed."""
        self._optimiser = make_optimiser(self.phase.optimiser, self._trained, self._base_rate, self._factors)
        if self._resume_from is not None:
            load_optimiser(self._optimiser, self._resume_from.optimiser)
        return self._optimiser

    def on_fit_start(self) -> None:
        """Move the teacher to the device: it is no part of this module, so nothing else does."""
        if self.method.teacher is not None:
            self.method.teacher.to(self.device)

    def on_train_start(self) -> None:
        """Set batch norm's mode, and restore the state of mixed precision."""
        self.method.train_mode(self.phase)
        if self._class_weights is not None:
            self._class_weights = self._class_weights.to(self.device)
        self._statistics = running_statistics(self.network)
        if self._resume_from is not None and self._resume_from.precision:  # empty if saved with another precision
            self.trainer.precision_plugin.load_state_dict(self._resume_from.precision)
        if self._cuda_graphs and self.replayable():
            self.replay(CudaRecorder())

    def replayable(self) -> bool:
        """Return True if steps may be replayed: on one GPU alone. A loss scale needs the host, and several processes
        meet in the middle of a step.
        """
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        alone = self._processes.world_size == 1
        return self.method.cuda_graph_safe and self.device.type == "cuda" and alone and not scaled

    def replay(self, recorder: Recorder) -> None:
        """Let ``recorder`` record a step and replay it from now on. A recorded optimiser reads its rate from the
        device.
        """
        self._run_step = GraphedStep(self._recorded_step, recorder)
        device = self._trained[0].device
        for group in self._optimiser.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
            if "capturable" in group:
                group["capturable"] = device.type == "cuda"

    @property
    def recorded(self) -> bool:
        """True once steps are replayed."""
        return isinstance(self._run_step, GraphedStep) and self._run_step.recorded

    def close(self) -> None:
        """Free the memory of a recorded step."""
        if isinstance(self._run_step, GraphedStep):
            self._run_step.close()

    @property
    def progress(self) -> Progress:
        """Position within the phase, once a step of it has been taken."""
        done, length = self.steps_done, self.length
        return Progress(done, length.total_steps, length.epoch_of(done), length.epochs, length.seen(done))

    def leave(self) -> PhaseCheckpoint:
        """Return the state from which the phase can be resumed after the last step; waits for the device.

        Raises:
            FloatingPointError: the last steps were not applied, or broke the weights: nothing can resume from here.
        """
        self.check_finite(wait=True)
        broken = self._broken()
        if broken is not None:
            raise self.diverged(*broken)
        state = self._optimiser.state_dict()
        for group in state["param_groups"]:  # the values without a recorder
            group["lr"] = float(group["lr"])
            if "capturable" in group:
                group["capturable"] = False
        stopping = None if self.stopping is None else self.stopping.to_plain()
        return PhaseCheckpoint(self.steps_done, state, self.trainer.precision_plugin.state_dict(), stopping)

    def training_step(self, images: Images, batch_idx: int) -> None:
        """Take one optimiser step."""
        self._set_rate(images.epoch)
        values = self._run_step(*self._inputs_of(images))
        names, self.steps_done = self._names, self.steps_done + 1
        if self._makes_point(self.steps_done):
            self._processes.average([values])
            added = {name: torch.tensor(value, device=values.device) for name, value in self.monitored.items()}
            monitored_scalars = {**self.method.monitored_scalars(), **added}
            names = (*names, *monitored_scalars)
            values = torch.cat([values, *(value.detach().float().view(1) for value in monitored_scalars.values())])
        self._processes.average(self._statistics)
        self._watch.enqueue(self.steps_done, names, values)
        self.method.after_step(self.progress)
        self.check_finite()

    def scales(self, positions: Tensor, epoch: int) -> tuple[Tensor, ...]:
        """Return the noise of the network (``Network.noise``; stochastic depth's multipliers), (slots, n) for the
        images at ``positions`` of ``epoch``, once a pass through the network; empty for a network without noise.
        """
        key, steps = self.key.fold("drop path", epoch), positions // self.length.images_per_step
        passes = 1 if self.phase.sharpness is None else 2
        noise, frozen = self.network.noise, self._frozen_parts
        drawn = (noise(key.fold(again), positions, steps, frozen) for again in range(passes))
        return tuple(scales for scales in drawn if scales is not None)

    def _inputs_of(self, images: Images) -> StepInputs:
        """Return all tensors that differ from step to step."""
        weights = None if self._class_weights is None else self._class_weights[images.labels]
        mixed, targets, weights = self._mix(images, weights)
        noise, nearby = (*images.scales, None, None)[:2]
        return StepInputs(mixed, images.labels, targets, weights, noise, nearby, *self._gradient_noise(images.epoch))

    def _gradient_noise(self, epoch: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Return the stream and the deviation of the noise of this step's gradient, the same on all processes."""
        noise = self.phase.gradient_noise
        if noise is None:
            return None, None
        stream = streams(self.key.fold("gradient noise"), torch.tensor([self.steps_done]))
        deviation = torch.tensor(noise.deviation(epoch, self.length.images_per_step))
        return stream.to(self.device, non_blocking=True), deviation.to(self.device, non_blocking=True)

    def _mix(self, images: Images, weights: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return images and, for a recipe with MixUp, mixed targets; and the images' weights, mixed too."""
        mixing = self.phase.mixing
        if mixing is None:
            return images.images, None, weights
        key = self.key.fold("mixup", self.steps_done)
        ratios = [self.mix_ratio(key.fold(replica), mixing.alpha) for replica in self.replicas]
        mixed, targets = mixup(images.images, one_hot(images.labels, self.task.num_seen, mixing.smoothing), ratios)
        return mixed, targets, None if weights is None else mix(weights, ratios)

    def _recorded_step(self, *given: Tensor | None) -> Tensor:
        """Take a step from the fields of ``StepInputs`` and return the values that must be finite (``_names``), without
        waiting for the device.
        """
        inputs = StepInputs(*given)  # type: ignore[arg-type]
        targets = one_hot(inputs.labels, self.task.num_seen) if inputs.targets is None else inputs.targets
        batch = Batch(inputs.images, inputs.labels, targets, inputs.weights)
        optimiser: Any = self.optimizers(use_pl_optimizer=True)
        optimiser.zero_grad()
        terms = self._backward(batch, inputs.noise)
        sharpness = self.phase.sharpness
        if sharpness is not None:
            moved = ascend(self._trained, sharpness.rho, sharpness.adaptive)
            optimiser.zero_grad()
            self._backward(batch, inputs.noise_nearby)
            descend(moved)
        watched = self._guarded(terms)
        self._change_gradient(inputs)
        optimiser.step()
        self._names = tuple(watched)
        return torch.stack([value.float() for value in watched.values()])

    def _backward(self, batch: Batch, scales: Tensor | None) -> dict[str, Tensor]:
        outputs = self.method.outputs(self.phase, batch.images, scales)
        terms = losses_by_replica(self.method, self.task, self.phase, batch, outputs, len(self.replicas))
        self.manual_backward(self._watch.poison(torch.stack(list(terms.values())).sum()))
        return {name: term.detach() for name, term in terms.items()}

    def _guarded(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Prevent a bad step from being applied and return the values that must be finite. In half precision the
        gradient may overflow: its own machinery then skips the step and lowers its scale.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return terms
        return {**terms, _GRADIENT: self._watch.guard(self._optimiser, self._trained)}

    def _change_gradient(self, inputs: StepInputs) -> None:
        """Apply the phase's rules to the gradient; after the guard, which must see one that is infinite."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = None if scaler is None else scaler.scale(torch.ones((), device=self.device))
        noise = inputs.gradient_stream, inputs.gradient_deviation
        change_gradients(self.phase, self._trained, self._factors, *noise, scale)

    def _rate_at(self, epoch: int, factor: float = 1.0) -> float:
        return learning_rate(self.phase.schedule, self._base_rate * factor, epoch, self.length.epochs)

    def _set_rate(self, epoch: int) -> None:
        """Set the rate of each group of the optimiser; a recorded one reads it from the device, so only at a change."""
        changed = epoch != self._epoch_of_rate
        for group in self._optimiser.param_groups:
            rate = self._rate_at(epoch, group.get(FACTOR, 1.0))
            if not isinstance(group["lr"], Tensor):
                group["lr"] = rate
            elif changed:
                group["lr"].fill_(rate)
        self._epoch_of_rate = epoch

    def check_finite(self, *, wait: bool = False) -> None:
        """Check the steps whose values have come from the device, with ``wait`` all steps, and report the points of the
        curves among them.

        Raises:
            FloatingPointError: names step and term, if a step was not applied because of it.
        """
        for step, values in self._watch.arrived(wait=wait):
            terms = {name: values.pop(name) for name in self._names}
            for name, value in terms.items():
                if not math.isfinite(value):
                    raise self._not_finite(step, name, value)
            terms.pop(_GRADIENT, None)
            if self._makes_point(step):
                self.report(StepMetrics(step, self._rate_at(self.length.epoch_of(step)), terms, values))

    def on_train_end(self) -> None:
        """Check the result of the last step: no later step would reveal it. All processes raise, or none.

        Raises:
            FloatingPointError: names the value that is not finite.
        """
        broken = [each for each in self._processes.gather(self._broken()) if each is not None]
        if broken:
            raise self.diverged(*broken[0])

    def _broken(self) -> tuple[str, float] | None:
        broken = broken_network(self.network)
        return None if broken is None else (broken.what, broken.value)

    def _makes_point(self, step: int) -> bool:
        return step % self._point_every == 0 or step == self.length.total_steps

    def _not_finite(self, step: int, name: str, value: float) -> FloatingPointError:
        return self.diverged(f"the {name}" if name == _GRADIENT else f"the {name} loss", value, step)

    def diverged(self, what: str, value: float, step: int | None = None) -> FloatingPointError:
        """Return the error that names the diverged value and its step, by default the last one."""
        at = self.steps_done if step is None else step
        return FloatingPointError(
            f"{what} is {value:g} at task {self.task.index + 1}, phase {self.phase.name}, step {at}: "
            f"lower method.{self.phase.name}.lr={self.phase.optimiser.lr:g} or lr_scale"
        )


_GRADIENT = "gradient"


def _no_report(point: StepMetrics) -> None:
    """Ignore a point of the curves."""
