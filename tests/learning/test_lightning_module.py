"""A phase through the real Trainer: as many steps as were drawn, on what was drawn, of what is trained."""

from __future__ import annotations

import copy
import dataclasses
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Mixing,
    Optimiser,
    Schedule,
    Sharpness,
)
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.learning.lightning_module import Learner
from cl_lightning.learning.trainer import quieten_lightning
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods.dytox import FINETUNING_PARTS, MAIN_PARTS, DyTox
from cl_lightning.models.build import build_network
from cl_lightning.optim.schedule import learning_rate
from tests.learning.a_phase import (
    CONVIT,
    IMAGES,
    LABELS,
    LIST,
    PHASE,
    TASKS,
    Bench,
    Toy,
    flat,
    toy,
)
from tests.methods.options import dytox_options

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
        epochs = [epoch for epoch in range(3) for _ in range(draws.steps_per_epoch)]
        assert [p.epoch for p in method.progress] == epochs
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
    seen: list[list[int]] = []
    bench.engine.visit_test(method.network, rows, lambda batch: seen.append(batch.rows.tolist()))
    assert seen == [rows[:7].tolist(), rows[7:].tolist()]
    assert not any(training), "features are taken in evaluation mode"
    assert all(method.training), "phases train in training mode, whatever was looked at before"


def test_what_is_trained_in_half_precision_is_looked_at_in_single(tmp_path: Path) -> None:
    """Scores in half precision tie, and herding would go by rounding."""
    quieten_lightning()  # as a run does; pytest undoes it
    bench, method, rows = Bench(tmp_path, half=True), toy(2), torch.arange(9)
    trained: list[torch.dtype] = []

    def note(module: torch.nn.Module, inputs: object, scores: Tensor) -> None:
        if module.training:
            trained.append(scores.dtype)

    method.network.classifier.register_forward_hook(note)
    bench.fit(method, TASKS[0], PHASE)
    assert set(trained) == {torch.bfloat16}
    scores: list[Tensor] = []
    bench.engine.visit_test(method.network, rows, lambda batch: scores.append(method.predict(batch.images)["linear"]))
    assert {each.dtype for each in scores} == {torch.float32}
    method.network.float()
    with torch.no_grad():
        assert torch.equal(torch.cat(scores), method.predict(IMAGES[rows])["linear"])


def test_a_phase_that_fails_gives_back_what_its_recorded_step_holds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    monkeypatch.setattr(Learner, "close", lambda self: closed.append(self.steps_done))
    method = toy(2)
    monkeypatch.setattr(method, "losses", lambda *_: pytest.fail("no memory", pytrace=False))
    with pytest.raises(pytest.fail.Exception, match="no memory"):
        bench.fit(method, TASKS[0], PHASE)
    assert closed == [0]


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
    structure = {
        "kind": "task_network", "encoder": CONVIT, "decoder": {"kind": "task_attention"}, "diverge": True,
        "independent_heads": True, "classes": [],
    }  # fmt: skip
    phase = dataclasses.replace(PHASE, name=name, trains=trains, optimiser=Optimiser("adamw", 0.01, weight_decay=0.1))
    main = dataclasses.replace(phase, name="main")
    method = DyTox(build_network(structure, Key(0)), main, phase, dytox_options())  # type: ignore[arg-type]
    for task in TASKS[:2]:
        method.grow(task, Key(1), None)  # type: ignore[arg-type]
    before = {part: [p.detach().clone() for p in ps] for part, ps in method.network.parts().items()}
    teacher = copy.deepcopy(method.teacher)
    bench.fit(method, TASKS[1], phase)
    for part, parameters in method.network.parts().items():
        for old, new in zip(before[part], parameters, strict=True):
            assert torch.equal(old, new) == (part not in trains), part
            assert new.requires_grad == (part in trains), "frozen parts build no graph"
            assert new.grad is None or part in trains, part
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


def test_each_epoch_has_the_points_of_its_own_steps(bench: Bench) -> None:
    """The last step of an epoch too: its row carries the number of the epoch that it was taken in."""
    _, draws = bench.fit(toy(2), TASKS[0], dataclasses.replace(PHASE, epochs=4))
    assert draws.steps_per_epoch == 6
    assert [point["epoch"] for point in bench.curves.points] == [epoch for epoch in range(4) for _ in range(6)]


def test_gauges_are_drawn_beside_the_losses_and_are_no_part_of_them(bench: Bench) -> None:
    class Gauged(Toy):
        def monitored_scalars(self) -> dict[str, Tensor]:
            return {"toy/half": torch.tensor(len(self.batches) / 2)}

    plain, gauged = toy(2), Gauged(toy(2).network)
    for method in (plain, gauged):
        bench.fit(method, TASKS[0], PHASE)
    both = bench.curves.points
    without, points = both[: len(both) // 2], both[len(both) // 2 :]
    assert [point.pop("toy/half") for point in points] == [step / 2 for step in range(1, len(points) + 1)]
    assert points == without


def test_a_part_has_a_rate_of_its_own_and_the_schedule_s_ends(bench: Bench) -> None:
    """Before warm-up all parts learn alike, after it the classifier four times as fast."""
    schedule = Schedule("constant", warmup_epochs=1, warmup_lr=0.0)
    moved = []
    for factor in (1.0, 4.0):
        method = toy(2)
        phase = dataclasses.replace(
            PHASE, epochs=2, optimiser=Optimiser("sgd", 0.001, momentum=0.0), schedule=schedule,
            rates={"classifier": factor}, sampling=LIST,
        )  # fmt: skip
        classifier = method.network.classifier.weight.detach().clone()  # type: ignore[union-attr]
        backbone = torch.cat([p.detach().flatten() for p in method.network.backbone.parameters()])  # type: ignore[union-attr]
        bench.fit(method, TASKS[0], phase, rows=[TASKS[0].train[:4]])
        assert torch.equal(method.weights[0][: len(backbone)], backbone), "warm-up starts at 0"
        after = torch.cat([p.detach().flatten() for p in method.network.backbone.parameters()])  # type: ignore[union-attr]
        moved.append((method.network.classifier.weight.detach() - classifier, after - backbone))  # type: ignore[union-attr]
    torch.testing.assert_close(moved[1][0], 4 * moved[0][0], atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(moved[1][1], moved[0][1])


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


CLASS_WEIGHTS = torch.tensor([0.5, 1.5])


def test_images_weigh_as_their_classes(bench: Bench) -> None:
    method, unweighted = toy(2), toy(2)
    bench.fit(method, TASKS[0], PHASE, class_weights=CLASS_WEIGHTS)
    bench.fit(unweighted, TASKS[0], PHASE)
    for batch in method.batches:
        assert batch.weights is not None
        assert torch.equal(batch.weights, CLASS_WEIGHTS[batch.labels])
    assert all(batch.weights is None for batch in unweighted.batches)
    assert not torch.equal(flat(method.network), flat(unweighted.network))


def test_weights_are_mixed_with_the_images(bench: Bench) -> None:
    method, rows = toy(2), TASKS[0].train
    phase = dataclasses.replace(PHASE, sampling=LIST, mixing=Mixing(0.8, smoothing=0.0))
    bench.fit(method, TASKS[0], phase, rows=[rows[:12], rows[12:]], class_weights=CLASS_WEIGHTS)
    for batch in method.batches:
        assert batch.weights is not None
        torch.testing.assert_close(batch.weights, batch.targets @ CLASS_WEIGHTS)


def test_a_callback_sees_every_step_and_may_put_ratios_in(tmp_path: Path) -> None:
    class Half(Callback):
        steps: ClassVar[list[tuple[int, list[int]]]] = []

        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
            assert isinstance(pl_module, Learner)
            pl_module.mix_ratio = lambda key, alpha: 0.5

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
            assert isinstance(pl_module, Learner)
            self.steps.append((pl_module.steps_done, args[1].rows.tolist()))

    quieten_lightning()
    method, phase = toy(2), dataclasses.replace(PHASE, mixing=Mixing(0.8))
    _, draws = Bench(tmp_path, callbacks=[Half()]).fit(method, TASKS[0], phase)
    assert Half.steps == [(step + 1, draws.step(step).rows.tolist()) for step in range(draws.total_steps)]
    for batch in method.batches:
        assert torch.equal(batch.images, batch.images.flip(0)), "half of each, and half of its partner"
        assert torch.equal(batch.targets, batch.targets.flip(0))


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
