"""The training step: at many tasks over one, and over the plain formulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Optimiser
from cl_lightning.learning.cuda_graph import CudaRecorder, GraphedStep
from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.methods.base import frozen_copy
from cl_lightning.methods.dytox import MAIN_PARTS
from cl_lightning.models.build import build_network
from cl_lightning.models.network import branch_scales
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.optim.optimiser import make_optimiser
from scripts.bench.measure import Row, paired
from scripts.bench.plain import PlainNetwork, plain_losses

CIFAR = {
    "kind": "convit", "image_size": 32, "channels": 3, "patch_size": 4, "dim": 384, "num_heads": 12, "depth": 5,
    "mlp_ratio": 4.0, "locality": 1.0, "drop_path": 0.1,
}  # fmt: skip
"""The published encoder for CIFAR-100."""
_CLASSES = 100


@dataclass(frozen=True)
class Setting:
    """The settings common to all steps of one benchmark."""

    device: str
    batch: int
    pairs: int
    bf16: bool = False
    replay: bool = False
    """True to record our step once on a GPU, and replay it."""
    encoder: dict[str, object] | None = None


class Step:
    """A step of DyTox's main phase with ``tasks`` tasks and a teacher: ours, and the plain one on the same weights.

    The teacher has all tasks but the newest; with one task it has that one, so that both ends of a comparison have a
    teacher.
    """

    def __init__(self, tasks: int, setting: Setting) -> None:
        self._setting = setting
        classes = max(1, _CLASSES // max(tasks, 10))
        structure = {
            "kind": "task_network", "encoder": setting.encoder or CIFAR, "decoder": {"kind": "task_attention"},
            "diverge": True, "independent_heads": True, "classes": [classes] * max(1, tasks - 1),
        }  # fmt: skip
        network = build_network(structure, Key(0))
        assert isinstance(network, TaskNetwork)
        self.network = network.to(setting.device)
        self.teacher = frozen_copy(self.network)
        assert isinstance(self.teacher, TaskNetwork)
        self.num_old = sum(self.teacher.classifier.sizes())
        if tasks > 1:
            self.network.grow(classes, Key(1))
        for name, parameters in self.network.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(name in MAIN_PARTS)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(Optimiser("adamw", 1e-5, decay_vectors=False), trained, 1e-5)
        self._plain, self._plain_teacher = PlainNetwork(self.network), PlainNetwork(self.teacher)
        draws = torch.Generator().manual_seed(0)
        size = int(str((setting.encoder or CIFAR)["image_size"]))
        seen = sum(self.network.classifier.sizes())
        self._images = torch.randn(setting.batch, 3, size, size, generator=draws).to(setting.device)
        self._targets = torch.eye(seen)[torch.randint(seen, (setting.batch,), generator=draws)].to(setting.device)
        positions = torch.arange(setting.batch, device=setting.device)
        self._scales = branch_scales(self.network.branches(), Key(2), positions, frozenset())

    def ours(self) -> Tensor:
        """Run our step: forward, teacher, loss, backward, optimiser."""
        return self._step(self._our_scores, lambda: self.teacher.logits(self.teacher(self._images)), cached=False)

    def uncompiled(self) -> Tensor:
        """Run our step with uncompiled trunks, in which operators can be counted."""
        with torch.compiler.set_stance("force_eager"):
            return self.ours()

    def plain(self) -> Tensor:
        """Run the plain step."""
        return self._step(self._plain_scores, lambda: self._plain_teacher(self._images), cached=True)

    def _step(
        self, scores: Callable[[], tuple[Tensor, Tensor | None]], teacher: Callable[[], Tensor], *, cached: bool
    ) -> Tensor:
        """Run one step; ``cached``: keep weights cast for half precision, as a loop over tokens needs. Ours is as in a
        run, and Lightning keeps none.
        """
        self.optimiser.zero_grad()
        half = (
            torch.autocast(self._setting.device, torch.bfloat16, cache_enabled=cached)
            if self._setting.bf16
            else nullcontext()
        )
        with half:
            student, divergence = scores()
            with torch.no_grad():
                old = teacher()
        loss = plain_losses(
            student.float(),
            None if divergence is None else divergence.float(),
            old.float(),
            self._targets,
            self.num_old,
        )
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def _our_scores(self) -> tuple[Tensor, Tensor | None]:
        features = self.network(self._images, self._scales)
        return self.network.logits(features), self.network.auxiliary(features)

    def _plain_scores(self) -> tuple[Tensor, Tensor | None]:
        return self._plain(self._images, self._scales), self._plain.divergence()

    @torch.no_grad()
    def difference(self) -> float:
        """Return the largest difference between the two formulations' scores."""
        ours, plain = self._our_scores()[0], self._plain_scores()[0]
        return (ours - plain).abs().max().item()

    def flops(self) -> int:
        """Count the floating-point operations of our step."""
        with FlopCounterMode(display=False) as counter:
            self.ours()
        return counter.get_total_flops()

    @contextmanager
    def compiled(self, trunks: TrunkCompiler | None) -> Iterator[Callable[[], Tensor]]:
        """Yield our step, the trunks of student and teacher compiled if ``trunks`` are given, and, in a setting with
        ``replay``, recorded.
        """
        with nullcontext() if trunks is None else trunks.compiled([self.network, self.teacher], self._setting.batch):
            yield self._replayed() if self._setting.replay else self.ours
            assert trunks is None or not trunks.given_up, (
                "the trunk was not compiled, and the row would say that it was"
            )

    def _replayed(self) -> Callable[[], Tensor]:
        for group in self.optimiser.param_groups:
            group["capturable"] = True
        replay = GraphedStep(lambda images: self.ours(), CudaRecorder())
        for _ in range(4):  # the fourth is recorded
            replay(self._images)
        assert replay.recorded, "the step was not recorded, and would be timed kernel by kernel"
        return lambda: replay(self._images)


def against_plain(setting: Setting, tasks: int, at_least: float | None, trunks: TrunkCompiler | None) -> Row:
    """Measure the speedup of our step over the plain one; compiled if ``trunks`` are given."""
    step = Step(tasks, setting)
    if not setting.bf16:
        difference = step.difference()
        assert difference < 1e-4, f"the two formulations differ by {difference}"
    with step.compiled(trunks) as ours:
        timed = paired(step.plain, ours, setting.pairs, setting.device)
    images = f"{setting.batch / sorted(timed.second)[len(timed.second) // 2]:.0f} images/s"
    name = f"step, plain / ours, {tasks} task{'s' if tasks > 1 else ''}, {_kind(setting, trunks)}"
    return Row(name, timed.ratio, at_least=at_least, detail=f"{timed.milliseconds()}, {images}")


def _kind(setting: Setting, trunks: TrunkCompiler | None) -> str:
    words = ["eager" if trunks is None else "compiled"]
    words += ["replayed"] * setting.replay + ["bf16"] * setting.bf16
    return ", ".join(words)


def against_plain_in_single(setting: Setting, tasks: int, at_least: float | None, trunks: TrunkCompiler | None) -> Row:
    """Measure the speedup of our step in half precision over the plain one in single precision."""
    plain, ours = Step(tasks, replace(setting, bf16=False)), Step(tasks, setting)
    with ours.compiled(trunks) as step:
        timed = paired(plain.plain, step, setting.pairs, setting.device)
    name = f"step, plain in float32 / ours, {tasks} tasks, {_kind(setting, trunks)}"
    return Row(name, timed.ratio, at_least=at_least, detail=timed.milliseconds())


def many_against_one(setting: Setting, tasks: int, at_most: float | None, trunks: TrunkCompiler | None) -> Row:
    """Measure the time of a step with many tasks over one task."""
    many, one = Step(tasks, setting), Step(1, setting)
    bound = many.flops() / one.flops()
    with many.compiled(trunks) as of_many, one.compiled(trunks) as of_one:
        timed = paired(of_many, of_one, setting.pairs, setting.device)
    detail = f"{timed.milliseconds()}; counted operations {bound:.3f}"
    return Row(f"step, {tasks} tasks / 1 task, {_kind(setting, trunks)}", timed.ratio, at_most=at_most, detail=detail)
