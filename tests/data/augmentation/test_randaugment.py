"""The policy's draws: how often, how strong, how independent; timm's policy is the yardstick."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import torch
from scipy import stats

from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.operations import Operation
from cl_lightning.data.augmentation.randaugment import SCALES, Choices, RandAugment, draw
from scripts.check_augmentation import TIMM_NAMES, our_arguments, timm_arguments

COUNT = 20_000


@pytest.fixture(scope="module")
def choices() -> Choices:
    return draw(RandAugment(), Key(11), torch.arange(COUNT))


@pytest.fixture(scope="module")
def applied() -> Choices:
    """As the published policy, but nothing is left out: every draw's operation and argument can be seen."""
    return draw(RandAugment(probability=1.0), Key(11), torch.arange(COUNT))


def chi_square(observed: torch.Tensor) -> float:
    """Probability of counts at least this uneven if all cells are equally likely."""
    return p_value(stats.chisquare(observed.flatten().numpy()))


def p_value(test: Any) -> float:
    return test.pvalue


def test_every_other_operation_is_carried_out(choices: Choices) -> None:
    carried_out = choices.operations >= 0
    both = torch.bincount(carried_out[0].long() * 2 + carried_out[1].long(), minlength=4)
    assert chi_square(both) > 1e-3


def test_operations_are_equally_likely_and_independent(choices: Choices, applied: Choices) -> None:
    pairs = torch.bincount(
        applied.operations[0] * len(Operation) + applied.operations[1], minlength=len(Operation) ** 2
    )
    assert len(pairs) == 225
    assert chi_square(pairs) > 1e-3
    for operations in choices.operations:
        assert chi_square(torch.bincount(operations[operations >= 0], minlength=len(Operation))) > 1e-3


def test_what_is_carried_out_does_not_depend_on_the_probability(choices: Choices, applied: Choices) -> None:
    carried_out = choices.operations >= 0
    assert torch.equal(choices.operations[carried_out], applied.operations[carried_out])
    assert torch.equal(choices.arguments, applied.arguments)
    assert (draw(RandAugment(probability=0.0), Key(11), torch.arange(COUNT)).operations == -1).all()


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_signs_are_fair_and_independent_of_the_operation(probability: float) -> None:
    drawn = draw(RandAugment(probability=probability), Key(11), torch.arange(COUNT))
    signed = [operation for operation in Operation if SCALES[operation].signed]
    assert len(signed) == 9
    counts = torch.tensor([_signs(drawn, operation) for operation in signed])
    assert chi_square(counts.sum(0)) > 1e-3
    assert p_value(stats.chi2_contingency(counts.numpy())) > 1e-3


def _signs(drawn: Choices, operation: Operation) -> list[int]:
    above = drawn.arguments[drawn.operations == operation] > SCALES[operation].rest
    return [int(above.sum()), int((~above).sum())]


def test_magnitudes_are_normal_and_clipped(applied: Choices) -> None:
    turned = applied.operations == Operation.ROTATE
    magnitudes = applied.arguments[turned].abs() / 3
    assert magnitudes.max() == 10
    clipped = magnitudes == 10
    assert clipped.double().mean().item() == pytest.approx(stats.norm(9, 0.5).sf(10), abs=0.01)
    below = stats.truncnorm(-18, 2, 9, 0.5)
    assert p_value(stats.kstest(magnitudes[~clipped].numpy(), below.cdf)) > 1e-3


def test_magnitudes_of_the_two_rounds_are_independent(applied: Choices) -> None:
    """Among images that are turned twice."""
    twice = (applied.operations == Operation.ROTATE).all(0)
    first, second = applied.arguments[:, twice].abs()
    assert len(first) > 60
    assert p_value(stats.spearmanr(first.numpy(), second.numpy())) > 1e-3


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.name.lower())
@pytest.mark.parametrize("magnitude", [0.0, 1.3, 5.0, 9.0, 9.7, 10.0])
def test_arguments_are_timms(operation: Operation, magnitude: float) -> None:
    assert our_arguments(operation, magnitude) == pytest.approx(timm_arguments(operation, magnitude), abs=1e-12)


def test_arguments_are_distributed_as_timms(applied: Choices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples of the signed angle, of the brightness and of the bits: ours and the library's."""
    from timm.data import auto_augment

    monkeypatch.setattr(auto_augment, "random", random.Random(0))
    for operation in (Operation.ROTATE, Operation.BRIGHTNESS, Operation.SOLARISE):
        op = auto_augment.AugmentOp(TIMM_NAMES[operation], prob=1.0, magnitude=9, hparams={"magnitude_std": 0.5})
        seen: list[float] = []
        op.aug_fn = lambda _, argument, seen=seen, **__: seen.append(argument)
        for _ in range(4000):
            op(None)
        mine = applied.arguments[applied.operations == operation].numpy()
        assert p_value(stats.ks_2samp(mine, seen)) > 1e-3, operation


def test_draws_are_the_positions_alone() -> None:
    positions = torch.tensor([5, 900, 5, 3])
    some = draw(RandAugment(), Key(2), positions)
    many = draw(RandAugment(), Key(2), torch.arange(1000))
    assert torch.equal(some.operations, many.operations[:, positions])
    assert torch.equal(some.arguments, many.arguments[:, positions])
    other = draw(RandAugment(), Key(3), torch.arange(1000))
    assert (other.operations != many.operations).float().mean() > 0.5


def test_more_rounds() -> None:
    choices = draw(RandAugment(num_ops=4), Key(2), torch.arange(2000))
    assert choices.operations.shape == choices.arguments.shape == (4, 2000)
    assert all(chi_square(torch.bincount(o[o >= 0], minlength=15)) > 1e-3 for o in choices.operations)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_ops", 0),
        ("num_ops", 1.5),
        ("magnitude", -0.1),
        ("magnitude", 10.5),
        ("magnitude", float("nan")),
        ("magnitude_std", -1.0),
        ("magnitude_std", float("inf")),
        ("probability", 1.01),
        ("fill", (0, 0)),
        ("fill", (0, 0, 256)),
        ("fill", (0.5, 0, 0)),
    ],
)
def test_wrong_policies_are_refused_in_one_line(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}=.* must be ") as caught:
        dataclasses.replace(RandAugment(), **{field: value})
    assert "\n" not in str(caught.value)
