"""A phase through the real Trainer: as many steps as were drawn, on what was drawn, of what is trained."""

from __future__ import annotations

import copy
import dataclasses
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from cl_lightning import rng
from cl_lightning.data import module
from cl_lightning.data.draws import Draws
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.mixup import one_hot
from cl_lightning.data.scenario import Scenario
from cl_lightning.data.sources import ArraySource
from cl_lightning.journal import Bystander
from cl_lightning.learning import learner
from cl_lightning.learning.compiled import Trunks
from cl_lightning.learning.display import Display, Leg
from cl_lightning.learning.engine import Engine, Fitted
from cl_lightning.learning.learner import Learner
from cl_lightning.learning.loggers import Curves
from cl_lightning.learning.replay import Work
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.methods.dytox import FINETUNING_PARTS, MAIN_PARTS, DyTox, DyToxOptions
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network
from cl_lightning.optim.schedule import learning_rate
from cl_lightning.rng import Key
from cl_lightning.types import (
    Batch,
    Left,
    Mixing,
    Optimiser,
    Order,
    Outputs,
    Phase,
    PlanItem,
    Progress,
    Sampling,
    Schedule,
    Sharpness,
    Task,
    View,
)
from tests.learning.recorder import ByHand

SIZES = (2, 1, 2)
A_CLASS = 12
LABELS = torch.arange(5 * A_CLASS) % 5
PIXELS = rng.integers(Key(0), torch.arange(60 * 64), 256).to(torch.uint8).view(60, 1, 8, 8)
CLEAN = Pipeline(8, (0.5,), (0.5,), None)
IMAGES = CLEAN.on_device(PIXELS, torch.arange(60), 0)
CONVIT = {"kind": "convit", "image_size": 8, "channels": 1, "patch_size": 4, "dim": 8, "num_heads": 2, "depth": 1}
PARTS = ("backbone", "classifier")
PHASE = Phase("main", View.NEW, 3, Optimiser("sgd", 0.1, momentum=0.0), Schedule("constant"), PARTS)
LIST = Sampling(Order.SEQUENTIAL)


def tasks() -> tuple[Task, ...]:
    made, start = [], 0
    for index, size in enumerate(SIZES):
        classes = tuple(range(start, start + size))
        rows = torch.cat([torch.nonzero(torch.eq(LABELS, label)).flatten() for label in classes])
        made.append(Task(index, classes, tuple(map(str, classes)), rows, rows))
        start += size
    return tuple(made)


TASKS = tasks()


class Toy(Method):
    """Softmax classification that remembers what it was shown."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.batches: list[Batch] = []
        self.scales: list[Tensor | None] = []
        self.training: list[bool] = []
        self.progress: list[Progress] = []
        self.weights: list[Tensor] = []
        self.broken = 1.0

    def plan(self, task: Task) -> list[PlanItem]:
        raise AssertionError("nobody asks")

    def outputs(self, phase: Phase, images: Tensor, scales: Tensor | None) -> Outputs:
        self.scales.append(scales)
        self.training.append(self.network.training)
        return super().outputs(phase, images, scales)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        self.batches.append(batch)
        return {"classification": self.broken * cross_entropy(outputs.logits, batch.targets)}

    def after_step(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.weights.append(flat(self.network))


def flat(network: Network) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def toy(*sizes: int, drop_path: float = 0.0, resnet: bool = False) -> Toy:
    encoder = {**CONVIT, "drop_path": drop_path}
    backbone = (
        {"kind": "cifar_resnet", "depth": 8, "channels": 1} if resnet else {"kind": "class_token", "encoder": encoder}
    )
    structure = {"kind": "embedding_network", "backbone": backbone, "bias": True, "classes": list(sizes)}
    return Toy(build_network(structure, Key(0)))


class Record(Curves):
    """Curves that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[dict[str, float]] = []

    def log(self, scalars: dict[str, float], step: int) -> None:  # type: ignore[override]
        self.points.append({**scalars, "step": step})


class Bench:
    """An engine over the images above."""

    def __init__(self, folder: Path, *, on_gpu: bool = False, trunks: Trunks | None = None) -> None:
        source = ArraySource("toy", PIXELS, LABELS, tuple("abcde"))
        scenario = Scenario("toy", source, source, TASKS, tuple("abcde"), tuple(range(5)), LABELS, LABELS, 8, 1, "test")
        self.curves, self.display = Record(), Display([], len(TASKS), "none")
        accelerator, precision = ("gpu", "bf16-mixed") if on_gpu else ("cpu", "32-true")
        options = TrainerOptions(accelerator, precision, deterministic=False, run_dir=folder)
        self.engine = Engine(
            scenario,
            CLEAN,
            options,
            workers=0,
            evaluation_batch=7,
            log_every=1,
            display=self.display,
            curves=self.curves,
            leaving=Bystander(),
            trunks=trunks,
        )

    def fit(
        self, method: Method, task: Task, phase: Phase, rows: list[Tensor] | None = None, batch: int = 4, seed: int = 0
    ) -> tuple[Fitted, Draws]:
        """Train on the task's images, or on ``rows`` of each replica."""
        key = Key(seed).fold(task.index, phase.name)
        draws = Draws(rows or [task.train], phase.sampling, phase.epochs, batch, key)
        self.display.start(Leg(task.index, 1, phase.name, phase.epochs, draws.steps_per_epoch, 0))
        fitted = self.engine.fit(method, task, phase, draws, key)
        self.display.finish()
        return fitted, draws


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    quieten_lightning()  # as a run does; pytest undoes it
    return Bench(tmp_path)


# ---- steps -------------------------------------------------------------------------------------------------------


def test_every_task_takes_all_of_its_steps(bench: Bench) -> None:
    """A Trainer that is used again would take none from the second task on, and say nothing."""
    method = toy()
    for task in TASKS:
        method.network.grow(task.num_new, Key(0))
        before, method.progress = flat(method.network), []
        fitted, draws = bench.fit(method, task, PHASE)
        assert fitted.steps == draws.total_steps == 3 * len(task.train) // 4
        assert fitted.images == 3 * len(task.train)
        assert [p.step for p in method.progress] == list(range(1, draws.total_steps + 1))
        assert {p.total_steps for p in method.progress} == {draws.total_steps}
        assert {p.epoch for p in method.progress} == {0, 1, 2}
        assert not torch.equal(flat(method.network), before)


def test_steps_see_what_was_drawn(bench: Bench) -> None:
    method = toy(2)
    _, draws = bench.fit(method, TASKS[0], PHASE)
    for step, batch in enumerate(method.batches):
        rows = draws.step(step).rows
        assert torch.equal(batch.images, IMAGES[rows])
        assert torch.equal(batch.labels, LABELS[rows])
        assert torch.equal(batch.targets, one_hot(LABELS[rows], 2))


def test_the_same_key_gives_the_same_weights_and_another_does_not(bench: Bench) -> None:
    weights = []
    for seed in (0, 0, 1):
        method = toy(2, drop_path=0.5)
        bench.fit(method, TASKS[0], PHASE, seed=seed)
        weights.append(flat(method.network))
        torch.rand(3)  # whatever the global stream does
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_loss_that_is_no_number_ends_the_run_and_says_where(bench: Bench) -> None:
    method = toy(2)
    method.broken = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"classification loss is nan at task 1, phase main, step 1: lower .*lr=0\.1"
    ):
        bench.fit(method, TASKS[0], PHASE)


def test_modes_and_order_of_looking_at_images(bench: Bench) -> None:
    method = toy(2, resnet=True)
    rows, training = torch.tensor([7, 3, 59, 0, 1, 2, 4, 5, 6, 11]), []

    def look(images: Tensor) -> Tensor:
        training.append(method.network.training)
        assert not torch.is_grad_enabled()
        return images.flatten(1)

    for _ in range(2):
        assert torch.equal(bench.engine.embed(method.network, rows, look), IMAGES[rows].flatten(1))
        method.network.eval()
        bench.fit(method, TASKS[0], PHASE)
    mirrored = bench.engine.embed(method.network, rows, look, flip=True)
    assert torch.equal(mirrored, IMAGES[rows].flip(-1).flatten(1))
    seen = bench.engine.map_test(method.network, rows, lambda batch: batch.rows.tolist())
    assert seen == [rows[:7].tolist(), rows[7:].tolist()]
    assert not any(training), "features are taken in evaluation mode"
    assert all(method.training), "phases train in training mode, whatever was looked at before"


def test_signals_stay_the_runs_own(bench: Bench) -> None:
    """Lightning would put handlers of its own in front, once its Trainer runs."""
    method, seen = toy(2), []
    before = signal.getsignal(signal.SIGTERM)

    def look(images: Tensor) -> Tensor:
        seen.append(signal.getsignal(signal.SIGTERM))
        return images.flatten(1)

    def ours(number: int, frame: object) -> None:
        raise AssertionError("nobody sends a signal")

    signal.signal(signal.SIGTERM, ours)
    try:
        method.after_step = lambda progress: seen.append(signal.getsignal(signal.SIGTERM))  # type: ignore[method-assign]
        bench.fit(method, TASKS[0], PHASE)
        bench.engine.embed(method.network, torch.arange(9), look)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(seen) > 10
    assert set(seen) == {ours}


# ---- what is trained ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "trains"), [("main", MAIN_PARTS), ("finetuning", FINETUNING_PARTS)])
def test_frozen_parts_do_not_change(bench: Bench, name: str, trains: tuple[str, ...]) -> None:
    structure = {"kind": "token_network", "encoder": CONVIT, "diverge": True, "classes": []}
    phase = dataclasses.replace(PHASE, name=name, trains=trains, optimiser=Optimiser("adamw", 0.01, weight_decay=0.1))
    main = dataclasses.replace(phase, name="main")
    method = DyTox(build_network(structure, Key(0)), main, phase, DyToxOptions())  # type: ignore[arg-type]
    for task in TASKS[:2]:
        method.grow(task, Key(1), None)  # type: ignore[arg-type]
    before = {part: [p.detach().clone() for p in ps] for part, ps in method.network.parts().items()}
    teacher = copy.deepcopy(method.teacher)
    bench.fit(method, TASKS[1], phase)
    for part, parameters in method.network.parts().items():
        for old, new in zip(before[part], parameters, strict=True):
            assert torch.equal(old, new) == (part not in trains), part
            assert new.requires_grad == (part in trains), "frozen parts build no graph"
            assert (new.grad is None) == (part not in trains), part
    assert teacher is not None
    assert method.teacher is not None
    assert torch.equal(flat(teacher), flat(method.teacher))


def test_a_later_phase_thaws_what_an_earlier_one_froze(bench: Bench) -> None:
    method = toy(2)
    bench.fit(method, TASKS[0], dataclasses.replace(PHASE, trains=("classifier",)))
    before = flat(method.network)
    bench.fit(method, TASKS[0], dataclasses.replace(PHASE, name="second", trains=("backbone",)))
    classifier = sum(p.numel() for p in method.network.parts()["classifier"])
    assert torch.equal(flat(method.network)[-classifier:], before[-classifier:])
    assert not torch.equal(flat(method.network)[:-classifier], before[:-classifier])


def test_rates_follow_the_schedule(bench: Bench) -> None:
    schedule = Schedule("cosine", warmup_epochs=2, warmup_lr=0.0, min_lr=1e-3, lag=True)
    optimiser = Optimiser("sgd", 0.1, momentum=0.0, reference_batch=16)
    phase = dataclasses.replace(PHASE, epochs=5, optimiser=optimiser, schedule=schedule, sampling=LIST)
    method = toy(2)
    before = flat(method.network)
    _, draws = bench.fit(method, TASKS[0], phase, rows=[TASKS[0].train[:8], TASKS[0].train[8:16]])
    assert draws.steps_per_epoch == 2
    expected = [learning_rate(schedule, 0.1 * 8 / 16, epoch, 5) for epoch in range(5) for _ in range(2)]
    assert [point["lr"] for point in bench.curves.points] == pytest.approx(expected)
    assert [point["step"] for point in bench.curves.points] == list(range(1, 11))
    assert expected[:4] == [0.0] * 4
    assert all(torch.equal(w, before) for w in method.weights[:4]), "the optimiser uses the rate"
    assert not any(torch.equal(a, b) for a, b in pairwise(method.weights[3:]))


# ---- noise, sharpness, mixing, replicas ----------------------------------------------------------------------------


def test_sharpness_sees_other_noise_on_the_same_batch(bench: Bench) -> None:
    method = toy(2, drop_path=0.5)
    phase = dataclasses.replace(PHASE, sharpness=Sharpness(0.05), mixing=Mixing(0.8))
    _, draws = bench.fit(method, TASKS[0], phase, batch=8)
    assert len(method.batches) == 2 * draws.total_steps
    assert len(method.progress) == draws.total_steps, "two passes are one step"
    for first, second in zip(method.batches[::2], method.batches[1::2], strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.targets, second.targets)
    drawn = [scales for scales in method.scales if scales is not None]
    assert len(drawn) == len(method.scales)
    assert len({tuple(scales.flatten().tolist()) for scales in drawn}) == len(drawn), "each pass has its own noise"


def test_a_sharpness_aware_step_equals_its_equations(bench: Bench) -> None:
    """w - lr g(w + rho w^2 g(w) / || |w| g(w) ||), the rate and the gradient taken from where w was."""
    method = toy(2)
    network, rows = copy.deepcopy(method.network), TASKS[0].train[:4]

    def gradients(at: list[Tensor]) -> list[Tensor]:
        for p, value in zip(network.parameters(), at, strict=True):
            p.data = value
        loss = cross_entropy(network.logits(network(IMAGES[rows])), one_hot(LABELS[rows], 2))
        return list(torch.autograd.grad(loss, list(network.parameters())))

    start = [p.detach().clone() for p in network.parameters()]
    pairs = list(zip(start, gradients(start), strict=True))
    length = torch.cat([(w * g).flatten() for w, g in pairs]).norm()
    uphill = [w + 0.5 * w**2 * g / length for w, g in pairs]
    expected = [w - 0.1 * g for w, g in zip(start, gradients(uphill), strict=True)]
    phase = dataclasses.replace(PHASE, epochs=1, sampling=LIST, sharpness=Sharpness(0.5))
    bench.fit(method, TASKS[0], phase, rows=[rows])
    torch.testing.assert_close(flat(method.network), torch.cat([w.flatten() for w in expected]), atol=1e-6, rtol=1e-5)


def test_frozen_parts_keep_stochastic_depth_only_as_published(bench: Bench) -> None:
    phase = dataclasses.replace(PHASE, trains=("classifier",))
    for published in (False, True):
        method = toy(2, drop_path=0.5)
        bench.fit(method, TASKS[0], dataclasses.replace(phase, drop_path_in_frozen=published))
        assert all((scales is not None) == published for scales in method.scales)


def test_each_replica_has_a_mixing_ratio_of_its_own(bench: Bench) -> None:
    method, rows = toy(2), TASKS[0].train
    phase = dataclasses.replace(PHASE, sampling=LIST, mixing=Mixing(0.8, smoothing=0.1))
    _, draws = bench.fit(method, TASKS[0], phase, rows=[rows[:12], rows[12:]])
    ratios = []
    for step, batch in enumerate(method.batches):
        for part, (images, targets) in zip(
            draws.step(step).rows.chunk(2),
            zip(batch.images.chunk(2), batch.targets.chunk(2), strict=True),
            strict=True,
        ):
            own, other = IMAGES[part].flatten(1), IMAGES[part.flip(0)].flatten(1)
            towards = own - other
            ratio = ((images.flatten(1) - other) * towards).sum(1) / towards.square().sum(1)
            assert (ratio - ratio[0]).abs().max() < 1e-4, "one ratio a replica and step"
            smooth = one_hot(LABELS[part], 2, 0.1)
            torch.testing.assert_close(targets, ratio[0] * smooth + (1 - ratio[0]) * smooth.flip(0), atol=1e-4, rtol=0)
            ratios.append(round(ratio[0].item(), 3))
    assert len(set(ratios)) == 2 * draws.total_steps
    assert all(0 <= ratio <= 1 for ratio in ratios)


def test_two_replicas_are_two_processes_that_average_their_gradients(bench: Bench) -> None:
    method = toy(2, resnet=True)
    halves = [TASKS[0].train[[0, 3, 15, 17]], TASKS[0].train[[5, 12, 20, 9]]]

    def gradient(rows: Tensor) -> Tensor:
        network = copy.deepcopy(method.network).train()
        cross_entropy(network.logits(network(IMAGES[rows])), one_hot(LABELS[rows], 2)).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    before, separate, together = flat(method.network), [gradient(rows) for rows in halves], gradient(torch.cat(halves))
    phase = dataclasses.replace(PHASE, epochs=1, optimiser=Optimiser("sgd", 1.0, momentum=0.0), sampling=LIST)
    fitted, _ = bench.fit(method, TASKS[0], phase, rows=halves)
    assert (fitted.steps, fitted.images) == (1, 8)
    step = before - flat(method.network)
    torch.testing.assert_close(step, (separate[0] + separate[1]) / 2, atol=1e-5, rtol=1e-4)
    assert (step - together).abs().max() > 1e-3, "batch norm sees each half alone"


# ---- replayed steps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_replayed_steps_are_the_steps(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, optimiser: str, sharp: bool
) -> None:
    """Noise, mixing, a rate that changes, and a last batch that is smaller."""
    schedule = Schedule("steps", milestones=(0.5,), gamma=0.5)
    phase = dataclasses.replace(
        PHASE, optimiser=Optimiser(optimiser, 0.125), schedule=schedule,
        mixing=Mixing(0.8), sharpness=Sharpness(0.05) if sharp else None, sampling=Sampling(drop_last=False),
    )  # fmt: skip
    plain = toy(2, drop_path=0.5)
    _, draws = bench.fit(plain, TASKS[0], phase, batch=10)
    points, recorder = list(bench.curves.points), ByHand()
    bench.curves.points.clear()
    monkeypatch.setattr(Learner, "_replayable", lambda self: True)
    monkeypatch.setattr(learner, "CudaRecorder", lambda: recorder)
    replayed = toy(2, drop_path=0.5)
    bench.fit(replayed, TASKS[0], phase, batch=10)
    assert recorder.records == 1
    assert recorder.runs + recorder.replays == draws.total_steps
    assert recorder.runs > 3, "the smaller batches run"
    torch.testing.assert_close(flat(replayed.network), flat(plain.network), atol=1e-7, rtol=1e-6)
    assert [point["step"] for point in points] == [point["step"] for point in bench.curves.points]
    for ours, theirs in zip(bench.curves.points, points, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.slow
def test_the_trunk_is_compiled_once_and_never_while_a_step_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of batches that lie otherwise in memory: the noise of several steps is drawn together."""
    found, trunk = [], CompileCounter()

    class Counts(ByHand):
        def record(self, work: Work, inputs: Sequence[Tensor]) -> tuple[Callable[[], object], Tensor]:
            found.append(trunk.frame_count)
            return super().record(work, inputs)

    quieten_lightning()
    monkeypatch.setattr(learner, "CudaRecorder", Counts)
    monkeypatch.setitem(module._LEVELS_TOGETHER, "cpu", 64 * 8)
    for replayed in (False, True):
        torch._dynamo.reset()
        trunk.clear()
        monkeypatch.setattr(Learner, "_replayable", lambda self, yes=replayed: yes)
        method = dytox()
        Bench(tmp_path, trunks=Trunks(True, trunk)).fit(method, TASKS[1], method._main)
        found.append(trunk.frame_count)
    assert found == [2, 2, 2], "student and teacher"


def test_what_is_left_of_replayed_steps_is_what_is_left_of_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Left] = []

    class Keeps(Bystander):
        def after_step(self, steps: int, leave: Callable[[], Left]) -> None:
            if steps == 6:
                kept.append(leave())

    monkeypatch.setattr(bench.engine, "_leaving", Keeps())
    phase = dataclasses.replace(PHASE, optimiser=Optimiser("adamw", 0.125))
    bench.fit(toy(2), TASKS[0], phase)
    monkeypatch.setattr(Learner, "_replayable", lambda self: True)
    monkeypatch.setattr(learner, "CudaRecorder", ByHand)
    bench.fit(toy(2), TASKS[0], phase)
    plain, replayed = (left.optimiser["param_groups"] for left in kept)  # type: ignore[index,call-overload]
    assert plain == replayed


# ---- on a GPU ------------------------------------------------------------------------------------------------------


def dytox() -> DyTox:
    """At its second task: with a teacher, and something frozen."""
    encoder = {**CONVIT, "image_size": 8, "dim": 32, "drop_path": 0.5}
    structure = {"kind": "token_network", "encoder": encoder, "diverge": True, "classes": []}
    main = dataclasses.replace(PHASE, trains=MAIN_PARTS, epochs=8, optimiser=Optimiser("adamw", 0.01))
    method = DyTox(build_network(structure, Key(0)), main, None, DyToxOptions())  # type: ignore[arg-type]
    for task in TASKS[:2]:
        method.grow(task, Key(1), None)  # type: ignore[arg-type]
    return method


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_replayed_steps_are_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiled: bool
) -> None:
    """Main phase, then a phase with a frozen encoder and a rate that changes; bits and all."""
    quieten_lightning()
    weights, points = [], []
    for replayed in (False, True):
        with monkeypatch.context() as patch:
            if not replayed:
                patch.setattr(Learner, "_replayable", lambda self: False)
            bench, method = Bench(tmp_path, on_gpu=True, trunks=Trunks(compiled)), dytox()
            bench.fit(method, TASKS[1], method._main)
            schedule = Schedule("steps", milestones=(0.5,), gamma=0.5)
            second = dataclasses.replace(method._main, name="second", trains=FINETUNING_PARTS, schedule=schedule)
            bench.fit(method, TASKS[1], second)
            weights.append(flat(method.network).cpu())
            points.append(bench.curves.points)
    assert not [record for record in caplog.records if record.name.startswith("cl_lightning")], "nothing was given up"
    assert weights[0].isfinite().all()
    torch.testing.assert_close(weights[1], weights[0], atol=1e-6, rtol=1e-5)
    assert len(points[0]) == len(points[1]) == 2 * 8 * 3
    for ours, theirs in zip(points[1], points[0], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_a_phase_goes_on_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quieten_lightning()
    left: list[tuple[Left, Method]] = []

    class Keeps(Bystander):
        def after_step(self, steps: int, leave: Callable[[], Left]) -> None:
            if steps == 10:
                left.append((copy.deepcopy(leave()), copy.deepcopy(method)))

    bench, method = Bench(tmp_path, on_gpu=True), dytox()
    monkeypatch.setattr(bench.engine, "_leaving", Keeps())
    _, draws = bench.fit(method, TASKS[1], method._main)
    ((where, again),) = left
    monkeypatch.setattr(bench.engine, "_leaving", Bystander())
    bench.display.start(Leg(1, 1, "main", 8, draws.steps_per_epoch, 0), 10)
    bench.engine.fit(again, TASKS[1], method._main, draws, Key(0).fold(1, "main"), where)
    torch.testing.assert_close(flat(again.network), flat(method.network), atol=1e-6, rtol=1e-5)


@pytest.mark.gpu
def test_on_a_gpu_a_step_that_waits_runs_unrecorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quieten_lightning()

    class Waits(Toy):
        steps_alike = True

        def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
            terms = super().losses(task, phase, batch, outputs)
            assert terms["classification"].item() > 0
            return terms

    method = Waits(toy(2).network)
    fitted, draws = Bench(tmp_path, on_gpu=True).fit(method, TASKS[0], PHASE)
    assert fitted.steps == draws.total_steps
    assert flat(method.network).isfinite().all()
    assert any("trainer.cuda_graphs=false" in record.getMessage() for record in caplog.records)


@pytest.mark.gpu
def test_on_a_gpu_a_loss_that_is_no_number_ends_the_run_some_steps_later(tmp_path: Path) -> None:
    quieten_lightning()
    method = dytox()
    method.network.encoder.pos_embed.data[..., 0] = torch.nan  # type: ignore[union-attr,index,operator]
    with pytest.raises(FloatingPointError, match=r"classification loss is nan at task 2, phase main, step 1"):
        Bench(tmp_path, on_gpu=True).fit(method, TASKS[1], method._main)
