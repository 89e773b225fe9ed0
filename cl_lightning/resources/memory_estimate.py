"""Lower bound of the memory that a run needs, and the error where the machine has less.

Counted is only the unavoidable: weights, and either their gradients and the optimiser's moments, or a batch of images
and the activations that the backward pass needs of it. A real step needs some times as much, so a run that would fit is
never refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cl_lightning.config.preprocess import size_option
from cl_lightning.config.schedule_scales import trained_phases
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError
from cl_lightning.core.quantities import bytes_text
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.resources.machine import gpu_memory, machine_memory
from cl_lightning.resources.parameters import Counts, count

_FLOAT = 4
_HALF = 2
_DOUBLE = 8


@dataclass(frozen=True)
class Need:
    """Lower bounds in bytes."""

    weights: int
    """Weights of the network as it is built."""
    learning: int
    """Gradients and the optimiser's moments."""
    fixed: int
    """Buffers of each patch for each other one."""
    images: int
    """Images of a step in one process, and their stored activations."""
    sums: int
    """Sums of products of features in the machine's memory, and what solving with them takes."""
    counts: Counts

    @property
    def built(self) -> int:
        """Bytes before training, in the machine's memory also where a GPU trains."""
        return self.weights + self.fixed

    @property
    def total(self) -> int:
        """Bytes during training, on the device that trains."""
        return self.built + max(self.learning, self.images)

    def of_machine(self, *, trains_on_gpu: bool) -> int:
        """Return the bytes of one process in the machine's memory; training and summing follow one another."""
        return self.built + max(self.sums, 0 if trains_on_gpu else max(self.learning, self.images))


def forecast(config: Config, scenario: Scenario) -> Need:
    """Return the need of the first task of the run."""
    counts = count(config, scenario.image_size, scenario.channels)
    phase = next(iter(trained_phases(config).values()), None)
    moments = 0 if phase is None else {"adamw": 2, "sgd": int(phase.momentum > 0)}[phase.optimiser]
    pixels = scenario.channels * scenario.image_size**2
    images = _images_of_a_step(config, scenario)
    padded = 0
    if config.data.augmentation != "none" and not config.data.sets:
        padded = scenario.channels * (scenario.read_size + 2 * config.data.crop_padding) ** 2
    return Need(
        weights=_FLOAT * counts.weights,
        learning=_FLOAT * (1 + moments) * counts.trained,
        fixed=_FLOAT * counts.fixed,
        images=0 if phase is None else images * (_FLOAT * pixels + _HALF * counts.stored_per_image) + padded,
        sums=_DOUBLE * _matrices(config) * counts.summed**2,
        counts=counts,
    )


def check_memory(config: Config, scenario: Scenario) -> None:
    """Raise ``UserError``, if no step of this run fits into this machine."""
    need, machine = forecast(config, scenario), machine_memory()
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    needed = need.of_machine(trains_on_gpu=on_gpu) * (1 if on_gpu else config.trainer.devices)
    if machine is not None and needed > machine:
        raise UserError(_too_much(config, scenario, need, needed, f"this machine has {bytes_text(machine)}"))
    if on_gpu and need.total > (available := gpu_memory()):
        raise UserError(_too_much(config, scenario, need, need.total, f"the GPU has {bytes_text(available)}"))


def _images_of_a_step(config: Config, scenario: Scenario) -> int:
    """Return the number of images of a step in one process; the first task may have fewer than a batch."""
    together = config.batch.size * max(1, config.batch.replicas // config.trainer.devices)
    return min(together, len(scenario.tasks[0].train))


def _matrices(config: Config) -> int:
    """Return the number of square matrices at the end of a task: the sums, and to solve G + lambda I and its factor;
    two sums have to be added before.
    """
    return 5 if getattr(config.method, "ridge", "task") == "all" else 3


def _too_much(config: Config, scenario: Scenario, need: Need, needed: int, available: str) -> str:
    """Return the message: the largest cause, and what to type."""
    batch = config.batch.size
    side = size_option(config.data)
    model = f"model={config.model.name} with {need.counts.weights:,} parameters"
    causes = {
        need.weights + need.learning: (model, f"{_sizes(config)}, or another model=NAME"),
        need.fixed: (
            f"{side}={scenario.image_size} in so many patches",
            f"a smaller {side}=N, or a larger model.patch_size=N",
        ),
        need.images: (
            f"batch.size={batch} of {side}={scenario.image_size}",
            f"a smaller batch.size=N, {side}=N or data.crop_padding=N",
        ),
        need.sums: (f"method.projection={need.counts.summed}, squared,", "a smaller method.projection=N"),
    }
    cause, instead = causes[max(causes)]
    return f"{cause} needs at least {bytes_text(needed)} of memory, and {available}: type {instead}"


def _sizes(config: Config) -> str:
    """Return the options that make the model smaller."""
    found = [name for name in ("dim", "width", "depth", "mlp_ratio") if hasattr(config.model, name)]
    return f"a smaller {' or '.join(f'model.{name}=N' for name in found or ['name'])}"
