"""Phases that end early: where, with which network, and after an interruption the same."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.core.types import TASK_INCREMENTAL, Optimiser, Phase, PhaseCheckpoint, Readout, Sharpness
from cl_lightning.data.loading import Images
from cl_lightning.learning import lightning_module
from cl_lightning.learning.early_stopping import judged
from cl_lightning.learning.engine import Fitted, Judges
from cl_lightning.learning.lightning_module import Learner
from cl_lightning.learning.stopping_rule import StoppingRule
from cl_lightning.learning.trainer import quieten_lightning
from tests.learning.a_phase import IMAGES, LABELS, PHASE, TASKS, Bench, Toy, flat, toy
from tests.learning.recorder import ByHand

pytestmark = pytest.mark.usefixtures("unchecked_shapes")
ASIDE = TASKS[0].train[::3]
TRAINED = TASKS[0].train[torch.arange(24) % 3 > 0]
JUDGES = Judges(StoppingRule("accuracy", 2), ASIDE)
LONG = dataclasses.replace(PHASE, epochs=12, optimiser=Optimiser("adamw", 0.02))


class Keeps(NoCheckpoints):
    """Keeps the state after every step."""

    def __init__(self, at: set[int]) -> None:
        self.at = at
        self.kept: dict[int, PhaseCheckpoint] = {}
        self.networks: dict[int, dict[str, Tensor]] = {}
        self.method: Toy | None = None

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        if steps in self.at:
            self.kept[steps] = copy.deepcopy(leave())  # as a file would
            assert self.method is not None
            self.networks[steps] = {k: v.clone() for k, v in self.method.network.state_dict().items()}


@pytest.fixture
def judged_bench(tmp_path: Path) -> Bench:
    quieten_lightning()
    return Bench(tmp_path, set_aside=ASIDE)


def fit(
    bench: Bench, method: Toy, phase: Phase = LONG, judges: Judges = JUDGES, checkpoint: PhaseCheckpoint | None = None
) -> Fitted:
    return bench.fit(method, TASKS[0], phase, rows=[TRAINED], checkpoint=checkpoint, judges=judges)[0]


def test_a_phase_ends_after_so_many_epochs_without_an_improvement(judged_bench: Bench) -> None:
    method = toy(2)
    fitted = fit(judged_bench, method)
    assert fitted.stopping is not None
    checks = fitted.stopping.checks
    assert fitted.stopping.waited == 2
    assert checks < 12, "else this test shows nothing"
    assert (fitted.steps, fitted.images) == (4 * checks, 16 * checks)
    assert len(method.weights) == 4 * checks
    best = method.weights[4 * fitted.stopping.best_check - 1]
    assert torch.equal(flat(method.network), best), "the network of the best epoch's end"
    assert not torch.equal(best, method.weights[-1])
    with torch.no_grad():
        method.network.eval()
        answers = method.predict(IMAGES[ASIDE])["linear"].argmax(dim=1)
    assert fitted.stopping.best == pytest.approx((answers == LABELS[ASIDE]).double().mean().item())


def test_a_phase_that_gets_better_takes_all_its_epochs(judged_bench: Bench) -> None:
    patient = Judges(StoppingRule("loss", 100), ASIDE)
    fitted = fit(judged_bench, toy(2), judges=patient)
    assert fitted.stopping is not None
    assert (fitted.steps, fitted.stopping.checks) == (48, 12)


def test_judging_changes_no_step(judged_bench: Bench) -> None:
    """Batch norm's statistics, random numbers, gradients: all are as if nobody had looked."""
    plain, method = toy(2, resnet=True), toy(2, resnet=True)
    judged_bench.fit(plain, TASKS[0], PHASE, rows=[TRAINED])
    fit(judged_bench, method, PHASE)
    assert all(torch.equal(*pair) for pair in zip(plain.weights, method.weights, strict=False))


@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("replayed", [False, True])
def test_from_any_step_a_phase_goes_on_to_the_same_bits(
    judged_bench: Bench, monkeypatch: pytest.MonkeyPatch, replayed: bool, sharp: bool
) -> None:
    """In the middle of an epoch, and right after a check, best epoch or not."""
    monkeypatch.setattr(Learner, "replayable", lambda self: replayed)
    monkeypatch.setattr(lightning_module, "CudaRecorder", ByHand)
    phase = dataclasses.replace(LONG, sharpness=Sharpness(0.05) if sharp else None)
    keeps, whole = Keeps({2, 4, 7, 8, 12}), toy(2)
    keeps.method = whole
    observers = judged_bench.engine.observers
    monkeypatch.setattr(judged_bench.engine, "observers", dataclasses.replace(observers, leaving=keeps))
    expected = fit(judged_bench, whole, phase)
    points = list(judged_bench.curves.points)
    monkeypatch.setattr(judged_bench.engine, "observers", observers)
    assert len(keeps.kept) >= 3
    for steps, checkpoint in keeps.kept.items():
        judged_bench.curves.points.clear()
        resumed = toy(2)
        resumed.network.load_state_dict(keeps.networks[steps])
        fitted = fit(judged_bench, resumed, phase, checkpoint=checkpoint)
        assert torch.equal(flat(resumed.network), flat(whole.network)), steps
        assert fitted.steps == expected.steps
        assert fitted.stopping is not None
        assert expected.stopping is not None
        assert (fitted.stopping.checks, fitted.stopping.best) == (expected.stopping.checks, expected.stopping.best)
        assert judged_bench.curves.points == [point for point in points if point["step"] > steps]


def test_the_curve_shows_the_last_check(judged_bench: Bench) -> None:
    fitted = fit(judged_bench, toy(2))
    shown = [point.get("validation/accuracy") for point in judged_bench.curves.points]
    assert shown[:4] == [None] * 4, "before the first check there is nothing to show"
    assert all(0 <= value <= 1 for value in shown[4:] if value is not None)
    assert None not in shown[4:]
    assert fitted.stopping is not None
    assert max(value for value in shown if value is not None) <= (fitted.stopping.best or 0)


def test_scores_that_are_not_finite_end_the_run(judged_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    method = toy(2)
    monkeypatch.setattr(method, "predict", lambda images: {"linear": torch.full((len(images), 2), torch.nan)})
    with pytest.raises(FloatingPointError, match="the loss of a validation image is nan at task 1, phase main, step 4"):
        fit(judged_bench, method)


def test_a_best_network_of_another_form_is_refused(judged_bench: Bench) -> None:
    optimiser = torch.optim.AdamW(toy(2).network.parameters()).state_dict()
    stopping = {"checks": 1, "best": 0.5, "best_check": 1, "latest": 0.5, "weights": {"weight": torch.zeros(2)}}
    with pytest.raises(ValueError, match="the best network in the checkpoint is not of the form of its run's"):
        fit(judged_bench, toy(2), checkpoint=PhaseCheckpoint(4, optimiser, {}, stopping))


# ---- what an image counts --------------------------------------------------------------------------------------------


class Reads(Toy):
    """Scores as they are put in."""

    scores: Tensor
    found: Readout = Readout()
    pending: frozenset[str] = frozenset()

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return {"nme": torch.full_like(self.scores, -torch.inf), "linear": self.scores}

    def readouts(self) -> dict[str, Readout]:
        return {"nme": Readout(), "linear": self.found}

    def pending_readouts(self) -> frozenset[str]:
        return frozenset({"nme"})


def reads(scores: list[list[float]], **readout: object) -> Reads:
    method = Reads(toy(2).network)
    method.scores, method.found = torch.tensor(scores), Readout(**readout)  # type: ignore[arg-type]
    return method


def of_labels(*labels: int) -> Images:
    rows = torch.arange(len(labels))
    return Images(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels), rows, 0, rows)


def test_all_classes_seen_compete_by_the_first_readout_that_is_ready() -> None:
    scores = [[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    right, loss, images = judged(reads(scores), TASKS[1], of_labels(2, 2)).tolist()
    expected = -torch.tensor(scores).log_softmax(dim=1)[:, 2].sum().item()
    assert (right, images) == (1, 2)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_temperature_and_sigmoids_are_those_of_training() -> None:
    scores = [[3.0, 1.0, 0.0]]
    warm = judged(reads(scores, temperature=2.0), TASKS[1], of_labels(1))[1]
    assert warm.item() == pytest.approx(-torch.tensor([1.5, 0.5, 0.0]).log_softmax(dim=0)[1].item(), rel=1e-5)
    sigmoid = judged(reads(scores, probability="sigmoid"), TASKS[1], of_labels(1))[1]
    each = torch.tensor([-3.0, 1.0, 0.0]).sigmoid().log().mean()
    assert sigmoid.item() == pytest.approx(-each.item(), rel=1e-5)


def test_where_the_task_is_given_its_own_classes_compete() -> None:
    method = reads([[9.0, 9.0, 0.0, 0.5, 1.0]])
    method.protocol = TASK_INCREMENTAL  # type: ignore[misc]
    right, loss, _ = judged(method, TASKS[2], of_labels(4)).tolist()
    assert right == 1
    assert loss == pytest.approx(-torch.tensor([0.5, 1.0]).log_softmax(dim=0)[1].item(), rel=1e-5)
