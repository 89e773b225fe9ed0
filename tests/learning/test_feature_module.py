"""Functions of images without training: what they look at is as it was afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cl_lightning.data.loading import Images
from cl_lightning.learning.feature_module import FeatureModule, evaluation_mode_restored


def test_each_module_has_its_own_mode_again() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    network[0].eval()
    before = [module.training for module in network.modules()]
    assert before == [True, False, True, True, True]
    with evaluation_mode_restored(network):
        network.eval()
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before


def test_torch_s_own_stream_goes_on_where_it_was() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        first = torch.rand(1)
        with evaluation_mode_restored(nn.Identity()):
            torch.rand(100)
        assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_a_step_is_the_function_of_its_batch() -> None:
    module = FeatureModule(nn.Identity(), lambda images: images.labels * 2)  # type: ignore[attr-defined]
    labels = torch.tensor([1, 2])
    batch = Images(torch.zeros(2, 1, 1, 1), labels, labels, 0, labels)
    assert module.predict_step(batch, 0).tolist() == [2, 4]


def test_an_error_within_is_the_caller_s() -> None:
    with pytest.raises(ZeroDivisionError), evaluation_mode_restored(nn.Identity()):
        raise ZeroDivisionError
