"""Rules for gradients: each element is clamped, all together are shortened, an overflow in half precision stays
visible; noise that is a function of the step; weight decay by the norm, as recorded.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from cl_lightning.core import rng
from cl_lightning.core.gradient_noise import GradientNoise
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Optimiser, Phase, Schedule, View
from cl_lightning.optim.gradients import add_noise, change_gradients, clamp_gradients, clip_gradients, decay_by_norm
from cl_lightning.optim.optimiser import Factors
from tests.golden import GOLDEN

STREAM = rng.streams(Key(8), torch.tensor([3]))
"""Of the fourth step."""


def parameters(*gradients: list[float] | None) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(3)) for _ in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    return made


@pytest.mark.parametrize("scale", [None, torch.tensor(1.0)])
def test_each_element_is_clamped_by_itself(scale: torch.Tensor | None) -> None:
    first, none, second = parameters([-9.0, 4.9, 5.1], None, [0.0, -5.0, 7.0])
    clamp_gradients([first, none, second], 5.0, scale)
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad.tolist() == pytest.approx([-5.0, 4.9, 5.0])
    assert second.grad.tolist() == [0.0, -5.0, 5.0]
    assert none.grad is None


def test_in_half_precision_the_bound_has_the_gradients_scale() -> None:
    (parameter,) = parameters([600.0, -100.0, 400.0])
    clamp_gradients([parameter], 5.0, torch.tensor(100.0))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [500.0, -100.0, 400.0]


def test_an_overflow_stays_one() -> None:
    (parameter,) = parameters([math.inf, math.nan, -math.inf])
    clamp_gradients([parameter], 5.0, torch.tensor(2.0))
    assert parameter.grad is not None
    assert not parameter.grad.isfinite().any()


def test_a_long_gradient_is_shortened_as_a_whole() -> None:
    first, none, second = parameters([3.0, 0.0, 0.0], None, [0.0, 4.0, 0.0])
    again = parameters([3.0, 0.0, 0.0], [0.0, 4.0, 0.0])
    clip_gradients([first, none, second], 1.0)
    torch.nn.utils.clip_grad_norm_(again, 1.0)
    assert [p.grad.tolist() for p in (first, second)] == [p.grad.tolist() for p in again]  # type: ignore[union-attr]
    assert none.grad is None
    clip_gradients([none], 1.0)


@pytest.mark.parametrize("scale", [None, torch.tensor(64.0)])
def test_a_short_gradient_stays_as_it_is(scale: torch.Tensor | None) -> None:
    (parameter,) = parameters([3.0, -4.0, 0.0])
    clip_gradients([parameter], 6.0, scale)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3.0, -4.0, 0.0]


def test_in_half_precision_the_norm_has_the_gradients_scale() -> None:
    (parameter,) = parameters([300.0, -400.0, 0.0])
    clip_gradients([parameter], 1.0, torch.tensor(100.0))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == pytest.approx([60.0, -80.0, 0.0], rel=1e-5)


def test_an_overflow_is_not_shortened_to_nothing() -> None:
    (parameter,) = parameters([math.inf, 1.0, 2.0])
    clip_gradients([parameter], 1.0, torch.tensor(2.0))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [math.inf, 1.0, 2.0]


# ---- noise -------------------------------------------------------------------------------------------------------


def test_noise_by_hand() -> None:
    """The k-th element of all that is trained has the k-th number of the step."""
    first, none, second = parameters([1.0, 2.0, 3.0], None, [0.0, 0.0, 0.0])
    add_noise([first, none, second], STREAM, torch.tensor(0.5))
    expected = []
    for k in (0, 1, 2, 6, 7, 8):  # the one without a gradient keeps its numbers
        word = int(rng.bits(Key(8), torch.tensor([3]), k)) >> 12 & ((1 << 52) - 1)
        expected.append(0.5 * NormalDist().inv_cdf((word + 0.5) / 2**52))
    assert first.grad is not None
    assert second.grad is not None
    noise = [*(first.grad - torch.tensor([1.0, 2.0, 3.0])).tolist(), *second.grad.tolist()]
    assert noise == pytest.approx(expected, abs=1e-6)
    assert none.grad is None


def test_noise_is_normal_and_its_own_in_every_step() -> None:
    drawn = []
    for step in (0, 1):
        parameter = nn.Parameter(torch.zeros(200, 100))
        parameter.grad = torch.zeros(200, 100)
        add_noise([parameter], rng.streams(Key(1), torch.tensor([step])), torch.tensor(0.25))
        drawn.append(parameter.grad.flatten().numpy() / 0.25)
    for noise in drawn:
        assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.03


def test_noise_has_the_scale_of_gradients_in_half_precision() -> None:
    (plain,), (scaled,) = parameters([0.0, 0.0, 0.0]), parameters([0.0, 0.0, 0.0])
    add_noise([plain], STREAM, torch.tensor(0.5))
    add_noise([scaled], STREAM, torch.tensor(0.5), torch.tensor(1024.0))
    assert plain.grad is not None
    assert scaled.grad is not None
    torch.testing.assert_close(scaled.grad, 1024 * plain.grad)


def test_deviations_as_recorded() -> None:
    """Of the sum and of the mean over 128 images, in epochs 1 to 40 and 41 to 70."""
    main, balanced = GradientNoise(0.3, 0.55), GradientNoise(0.3, 0.55, first_epoch=41)
    with np.load(GOLDEN / "e2e.npz", allow_pickle=False) as file:
        for images, name in ((1, "summed_gradient"), (128, "mean_gradient_batch128")):
            theirs = file[f"official_derived/noise_std_of_{name}_epoch1_to_70"].tolist()
            ours = [main.deviation(epoch, images) for epoch in range(40)]
            ours += [balanced.deviation(epoch, images) for epoch in range(30)]
            assert ours == pytest.approx(theirs, rel=1e-9)


# ---- decay by the norm -------------------------------------------------------------------------------------------


def test_decay_by_the_norm_by_hand() -> None:
    weights = [[3.0, 4.0], [1.0, -2.0], [5.0, 5.0]]
    made = [nn.Parameter(torch.tensor(each)) for each in weights]
    for parameter in made[:2]:
        parameter.grad = torch.tensor([0.5, 0.25])
    decay_by_norm(made, [0.01, 0.0, 0.01])
    assert made[0].grad is not None
    assert made[0].grad.tolist() == pytest.approx([0.5 + 0.01 * 25 * 3, 0.25 + 0.01 * 25 * 4])
    assert made[1].grad is not None
    assert made[1].grad.tolist() == [0.5, 0.25]
    assert made[2].grad is None
    decay_by_norm(made, [0.01, 0.0, 0.01], torch.tensor(2.0))
    assert made[0].grad.tolist() == pytest.approx([0.5 + 0.03 * 25 * 3, 0.25 + 0.03 * 25 * 4])


def test_the_rules_of_a_phase_follow_one_another() -> None:
    """Clamped, then noise, then decay: of matrices alone, times the factor of the part."""
    optimiser = Optimiser("sgd", 0.1, weight_decay=0.1, decay_vectors=False, decay_by_norm=True)
    phase = Phase("main", View.NEW, 1, optimiser, Schedule("constant"), ("all",), gradient_clamp=1.0)
    matrix, vector = nn.Parameter(torch.full((1, 2), 2.0)), nn.Parameter(torch.full((2,), 2.0))
    for parameter in (matrix, vector):
        parameter.grad = torch.full_like(parameter, 9.0)
    change_gradients(phase, [matrix, vector], [Factors(decay=0.5), Factors()], STREAM, torch.tensor(1e-3), None)
    noise = rng.normal_of(rng.bits_of(STREAM, torch.arange(4))) * 1e-3
    assert matrix.grad is not None
    assert vector.grad is not None
    torch.testing.assert_close(matrix.grad.flatten(), 1 + noise[:2] + 0.5 * 0.1 * 8 * 2)
    torch.testing.assert_close(vector.grad, 1 + noise[2:])
