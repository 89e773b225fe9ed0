"""Comparison of HAT's golden vectors with ours: two tasks of an epoch each, step by step, on a small perceptron.

In float64 the published compensation can be followed at any scale. In float32 a sigmoid rounds to one from s e = 16.6
on, and the product has nothing left to multiply: it is another training then, so that only a small largest scale can
be compared (:func:`rows` in float32, for tests).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Optimiser, Outputs, Phase, Progress, Schedule, Task, View
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.methods.hat import HAT, MAIN_PARTS, HATOptions
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.gated_backbones import GatedBackbone, Gates
from cl_lightning.models.hard_attention import Between
from cl_lightning.models.hat_network import HatNetwork
from cl_lightning.models.tensor_types import Images, Maps, Noise
from cl_lightning.optim.gradients import clip_gradients
from scripts.reference.difference import Row, difference
from scripts.reference.vectors import VectorFile

_LARGEST_NORM = 10_000.0
_LIMIT = 6.0
_INPUTS = r"s_max\d+/(hidden|classes_per_task|batch|lambda|s_max|lr|task\d/(images|labels|order|start/params/.*))"
_EXACT, _ROUNDED = 1e-9, 1e-5
"""Largest differences in float64: in general, relative to the largest value; where the compensation multiplies what has
nearly underflowed, absolute.
"""
_IN_FLOAT32 = 1e-3
"""The same in float32, at a largest scale of 8."""


class Perceptron(Backbone):
    """HAT's network for its first experiments, without dropout: two layers with ReLU."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(dim=hidden)
        self.fc1, self.fc2 = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)

    def forward(self, images: Images, scales: Noise | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return vectors."""
        return F.relu(self.fc2(F.relu(self.fc1(images.flatten(1))))), ()

    def structure(self) -> dict[str, Any]:
        """Return its sizes."""
        return {"kind": "perceptron", "inputs": self.fc1.in_features, "hidden": self.dim}


class GatedPerceptron(GatedBackbone):
    """The same with a mask behind each layer."""

    def __init__(self, backbone: Perceptron) -> None:
        super().__init__()
        self.backbone: Perceptron = backbone
        self.units = [backbone.dim, backbone.dim]

    def forward(self, images: Images, gates: Gates, noise: Noise | None = None) -> Float[Tensor, "B D"]:
        """Embed images."""
        x = F.relu(self.backbone.fc1(images.flatten(1))) * gates[0]
        return F.relu(self.backbone.fc2(x)) * gates[1]

    def places(self) -> dict[str, Between]:
        """Return the two layers' places."""
        return {
            "backbone.fc1.weight": Between(0),
            "backbone.fc1.bias": Between(0),
            "backbone.fc2.weight": Between(1, 0),
            "backbone.fc2.bias": Between(1),
        }


def matches(file: VectorFile) -> bool:
    """Return whether it has the masks of a task."""
    return any(re.fullmatch(r"s_max\d+/task0/cumulative_mask0", name) for name in file.names())


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    return re.fullmatch(_INPUTS, entry) is not None


def rows(file: VectorFile, dtype: torch.dtype = torch.float64) -> Iterator[Row]:
    """Compare all epochs of the file, those of each largest scale."""
    for folder in sorted({name.partition("/")[0] for name in file.names()}):
        yield from Replay(file, folder, dtype).rows()


class Replay:
    """Two tasks of our method on the file's images, weights and order."""

    def __init__(self, file: VectorFile, folder: str, dtype: torch.dtype) -> None:
        """Build the network without tasks; ``folder`` is ``s_max400`` or another largest scale."""
        self._file, self._folder, self._dtype = file, folder, dtype
        self.s_max, self.rate = float(file[f"{folder}/s_max"]), float(file[f"{folder}/lr"])
        inputs, hidden = file[f"{folder}/task0/images"][0].numel(), int(file[f"{folder}/hidden"])
        network = HatNetwork(GatedPerceptron(Perceptron(inputs, hidden)), s_max=self.s_max).to(dtype)
        phase = Phase("main", View.NEW, 1, Optimiser("sgd", self.rate), Schedule("constant"), MAIN_PARTS)
        options = HATOptions(float(file[f"{folder}/lambda"]), _LIMIT, ("linear",))
        self.method, self._phase, self._first = HAT(network, phase, options), phase, 0

    def rows(self) -> Iterator[Row]:
        """Compare each task."""
        sizes = [int(size) for size in self._file[f"{self._folder}/classes_per_task"]]
        for index, size in enumerate(sizes):
            classes = tuple(range(self._first, self._first + size))
            task = Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))
            self._first += size
            self.method.network.grow(size, Key(index))
            yield from self._task(task)

    def _of(self, entry: str) -> Tensor:
        tensor = self._file[f"{self._folder}/{entry}"]
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _compared(self, entry: str, ours: Tensor) -> Row:
        theirs = self._file[f"{self._folder}/{entry}"]
        if self._dtype == torch.float32:
            bound = _IN_FLOAT32 * max(1.0, theirs.abs().max().item())
        else:
            bound = _EXACT * max(1.0, theirs.abs().max().item())
            bound = max(bound, _ROUNDED) if self.s_max > 50 else bound
        return difference(f"{self._folder}/{entry}", ours.view(theirs.shape), theirs, bound)

    def _named(self, task: int) -> dict[str, Tensor]:
        """Return our parameters by the names of the file; those of embeddings are split by layer."""
        network = self.method.network
        named: dict[str, Tensor] = {name.removeprefix("backbone."): p for name, p in network.body.named_parameters()}
        named |= {f"last.{task}.{name}": p for name, p in network.heads[task].named_parameters()}
        return named

    def _task(self, task: Task) -> Iterator[Row]:
        network, where = self.method.network, f"task{task.index}"
        with torch.no_grad():
            for name, parameter in self._named(task.index).items():
                parameter.copy_(self._of(f"{where}/start/params/{name}"))
            rows = [self._of(f"{where}/start/params/efc{layer}.weight")[task.index] for layer in (1, 2)]
            network.embeddings[task.index].copy_(torch.cat(rows))
        images, labels, order = (self._of(f"{where}/{name}") for name in ("images", "labels", "order"))
        scales, losses, usages = [], [], []
        batch = int(self._of("batch"))
        starts = range(0, len(order), batch)
        for step, start in enumerate(starts):
            scales.append(network.scale.clone())
            chosen = order[start : start + batch]
            terms = self._step(task, images[chosen], labels[chosen] + task.num_old)
            yield from self._gradients(f"{where}/step{step}/grad_applied", task.index)
            torch.optim.SGD(self._trained(task.index), lr=self.rate).step()
            seen = min(start + batch, len(order)) / len(order) % 1
            self.method.after_step(Progress(step + 1, len(starts), 0, 1, seen))
            losses.append(sum(terms.values()))
            usages.append(terms["mask_usage"] / self._of("lambda"))
        for name, values in (("s", scales), ("loss", losses), ("regulariser", usages)):
            yield self._compared(f"{where}/{name}_of_step", torch.stack([v.detach() for v in values]))  # type: ignore[union-attr]
        yield from self._end(task, images)

    def _trained(self, task: int) -> list[nn.Parameter]:
        parts = self.method.network.parts()
        return [parameter for name in MAIN_PARTS for parameter in parts[name]]

    def _step(self, task: Task, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        trained = self._trained(task.index)
        for parameter in trained:
            parameter.grad = None
        outputs: Outputs = self.method.outputs(self._phase, images, None)
        terms = self.method.losses(task, self._phase, Batch(images, labels, one_hot(labels, task.num_seen)), outputs)
        torch.stack(list(terms.values())).sum().backward()
        clip_gradients(trained, _LARGEST_NORM)
        return {name: term.detach() for name, term in terms.items()}

    def _gradients(self, where: str, task: int) -> Iterator[Row]:
        for name, parameter in self._named(task).items():
            yield self._compared(f"{where}/{name}", parameter.grad)  # type: ignore[arg-type]
        gradient = self.method.network.embeddings[task].grad
        for layer, of_layer in enumerate(self.method.network.by_layer(gradient), start=1):
            theirs = self._file[f"{self._folder}/{where}/efc{layer}.weight"]
            whole = torch.zeros_like(theirs, dtype=self._dtype)
            whole[task] = of_layer
            yield self._compared(f"{where}/efc{layer}.weight", whole)

    def _end(self, task: Task, images: Tensor) -> Iterator[Row]:
        network, where = self.method.network, f"task{task.index}"
        embedding = network.embeddings[task.index].detach()
        for name, parameter in self._named(task.index).items():
            yield self._compared(f"{where}/end/params/{name}", parameter)
        for layer, of_layer in enumerate(network.by_layer(embedding), start=1):
            entry = f"{where}/end/params/efc{layer}.weight"
            whole = self._of(entry).clone()
            whole[task.index] = of_layer
            yield self._compared(entry, whole)
        for entry in self._file.names(f"{self._folder}/"):
            found = re.fullmatch(rf"{where}/mask(\d)_s([\d.]+)", entry)
            if found:
                of_layer = network.by_layer(embedding)[int(found[1])]
                yield self._compared(entry, torch.sigmoid(float(found[2]) * of_layer))
        network.accumulate()
        used = network.by_layer(network.used)
        for layer, of_layer in enumerate(used):
            yield self._compared(f"{where}/cumulative_mask{layer}", of_layer)
        for name, place in GatedPerceptron.places(network.body).items():  # type: ignore[arg-type]
            entry = f"{where}/weight_gradient_factor/{name.removeprefix('backbone.')}"
            factor = 1 - torch.minimum(*place.used(used, self._file[f"{self._folder}/{entry}"].ndim))
            yield self._compared(entry, factor.expand(self._file[f"{self._folder}/{entry}"].shape).contiguous())
        with torch.no_grad():
            scores = network.heads[task.index](network.through(images, task.index))
        yield self._compared(f"{where}/eval_logits_own_head", scores)
