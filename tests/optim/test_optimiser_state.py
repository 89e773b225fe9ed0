"""An optimiser's kept state goes into the optimiser of the same phase, and into no other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cl_lightning.core.errors import UserError
from cl_lightning.optim.optimiser_state import load_optimiser


def stepped(make: Callable[..., torch.optim.Optimizer], out: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    layer = nn.Linear(2, out)
    optimiser = make(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return layer, optimiser


def momentum(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


@pytest.mark.parametrize("make", [torch.optim.AdamW, momentum])
def test_a_state_comes_back(make: Callable[..., torch.optim.Optimizer]) -> None:
    layer, optimiser = stepped(make)
    again = make(layer.parameters(), lr=0.1)
    load_optimiser(again, optimiser.state_dict())
    for parameter in layer.parameters():
        for name, value in optimiser.state[parameter].items():
            assert torch.equal(torch.as_tensor(again.state[parameter][name]), torch.as_tensor(value))


def of_another_network(plain: dict[str, Any]) -> dict[str, Any]:
    return stepped(torch.optim.AdamW, out=4)[1].state_dict()


def without_a_group(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "param_groups": []}


def of_a_parameter_more(plain: dict[str, Any]) -> dict[str, Any]:
    plain["state"][9] = plain["state"][0]
    return plain


def with_a_text_for_a_rate(plain: dict[str, Any]) -> dict[str, Any]:
    plain["param_groups"][0]["lr"] = "0.1"
    return plain


@pytest.mark.parametrize("change", [of_another_network, without_a_group, of_a_parameter_more, with_a_text_for_a_rate])
def test_another_state_is_refused_before_anything_is_changed(change: Callable[[Any], Any]) -> None:
    layer, optimiser = stepped(torch.optim.AdamW)
    plain = change(copy.deepcopy(optimiser.state_dict()))
    again = torch.optim.AdamW(layer.parameters(), lr=0.1)
    with pytest.raises(UserError, match=r"the checkpoint's optimiser is not that of its run \(.*\): delete the"):
        load_optimiser(again, plain)
    assert not again.state
