"""What the last step of a phase, an item or an evaluation leaves behind is looked at before it counts as done."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Optimiser, Progress
from cl_lightning.learning.finite_check import ScoresCheck, broken_network, broken_state
from cl_lightning.learning.lightning_module import Learner, PhaseLength
from cl_lightning.learning.trainer import quieten_lightning
from tests.learning.a_phase import PHASE, TASKS, Bench, Toy, flat, toy

ONE_STEP = dataclasses.replace(PHASE, epochs=1)
ALL_ROWS = len(TASKS[0].train)


class Made(nn.Module):
    """Weights, running statistics, a mask of infinities, and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.map = nn.Linear(2, 2)
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("bits", torch.zeros(3, dtype=torch.uint8))
        self.empty = nn.Parameter(torch.empty(0))


def test_a_network_that_is_well_is_left_alone() -> None:
    assert broken_network(Made()) is None
    assert broken_network(Made().bfloat16()) is None
    assert broken_network(nn.ReLU()) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e37])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("map.weight", "the weight map.weight"),
        ("norm.bias", "the weight norm.bias"),
        ("norm.running_mean", "the statistic norm.running_mean"),
        ("norm.running_var", "the statistic norm.running_var"),
        ("mask", "the buffer mask"),
    ],
)
def test_the_first_broken_tensor_is_named(name: str, what: str, value: float) -> None:
    network = Made()
    network.state_dict()[name].view(-1)[1] = value
    broken = broken_network(network)
    if name == "mask" and not math.isnan(value):
        assert broken is None, "a mask may be made of infinities"
    else:
        assert broken is not None
        assert broken.what == what
        assert str(broken) == f"{what} is {value:g}"


def test_a_state_is_looked_at_however_it_is_built() -> None:
    state = {"learnt": 3, "class_means": torch.ones(2), "parts": [torch.zeros(2), (torch.tensor([math.nan]),)]}
    assert str(broken_state(state, "state")) == "the parts 1 0 is nan"
    del state["parts"]
    assert broken_state(state, "state") is None
    assert str(broken_state({"class_means": torch.tensor([1.0, math.inf])}, "")) == "the class means is inf"


def test_scores_of_any_batch_count() -> None:
    watch = ScoresCheck()
    for value in (1.0, math.nan, 2.0):
        watch.look({"nme": torch.tensor([[0.0, value]]), "linear": torch.ones(1, 2)})
    assert watch.broken() == ["nme"]
    assert ScoresCheck().broken() == []


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("resnet", [False, True])
@pytest.mark.parametrize("optimiser", [Optimiser("sgd", 1e38, momentum=0.0), Optimiser("adamw", 1e36)])
def test_a_last_step_that_breaks_the_weights_ends_the_phase(
    tmp_path: Path, optimiser: Optimiser, half: bool, resnet: bool
) -> None:
    quieten_lightning()
    bench, method = Bench(tmp_path, half=half), toy(2, resnet=resnet)
    line = r"the (weight|statistic) [\w.]+ is \S+ at task 1, phase main, step 1: lower method.main.lr=1e\+3\d or lr_"
    with pytest.raises(FloatingPointError, match=line):
        bench.fit(method, TASKS[0], dataclasses.replace(ONE_STEP, optimiser=optimiser), batch=ALL_ROWS)
    assert len(method.weights) == 1, "it was the only step"


class Grown(Toy):
    """Its last step makes weights that are finite, and answers that are not."""

    def after_step(self, progress: Progress) -> None:
        super().after_step(progress)
        if progress.step == progress.total_steps:
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.mul_(1e18)


def test_answers_that_are_not_finite_end_the_phase_though_the_weights_are(bench: Bench) -> None:
    method = Grown(toy(2).network)
    with pytest.raises(FloatingPointError, match="one of the .* is nan at task 1, phase main, step"):
        bench.fit(method, TASKS[0], PHASE)
    assert broken_network(method.network) is None


class Pending(Toy):
    """A read-out that cannot know all classes yet."""

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        scores = super().predict(images)["linear"]
        return {"nme": torch.full_like(scores, -torch.inf), "linear": scores}

    def pending_readouts(self) -> frozenset[str]:
        return frozenset({"nme"})


def test_a_phase_that_is_well_computes_what_it_did(bench: Bench) -> None:
    """The look takes no random number, no step and no mode."""
    method = Pending(toy(2, resnet=True).network)
    before = torch.random.get_rng_state()
    bench.fit(method, TASKS[0], PHASE)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(flat(method.network), method.weights[-1])
    assert method.network.training


def test_a_place_with_broken_weights_is_no_place_to_go_on_from() -> None:
    method = toy(2)
    learner = Learner(method, TASKS[0], PHASE, PhaseLength(3, 1, 4), 1, Key(0))
    learner.steps_done = 2
    with torch.no_grad():
        method.network.classifier.weight[0, 0] = math.inf  # type: ignore[union-attr, operator, index]
    with pytest.raises(FloatingPointError, match="the weight classifier.weight is inf at task 1, phase main, step 2"):
        learner.leave()
