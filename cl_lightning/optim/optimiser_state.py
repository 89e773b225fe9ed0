"""Loading of an optimiser's state from a checkpoint into a new optimiser of the same phase."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cl_lightning.core.errors import UserError
from cl_lightning.core.types import Plain


def load_optimiser(optimiser: torch.optim.Optimizer, plain: Mapping[str, Plain]) -> None:
    """Load a saved state into a new optimiser of the same phase.

    Raises:
        UserError: the state is that of another network, or none at all.
    """
    groups, own = plain["param_groups"], optimiser.param_groups
    try:
        _check_groups(groups, own)
        sizes = {
            index: parameter
            for group, mine in zip(groups, own, strict=True)
            for index, parameter in zip(group["params"], mine["params"], strict=True)
        }
        for index, moments in plain["state"].items():
            _check_moments(moments, sizes.get(index), index)
    except ValueError as error:
        raise UserError(
            f"the checkpoint's optimiser is not that of its run ({error}): delete the checkpoint to go on with the one "
            "before it"
        ) from error
    optimiser.load_state_dict(dict(plain))


def _check_groups(groups: list[Plain], own: list[dict[str, Plain]]) -> None:
    sizes = [len(group["params"]) if isinstance(group.get("params"), list) else None for group in groups]
    if sizes != [len(group["params"]) for group in own]:
        raise ValueError(f"groups of {sizes} parameters, not {[len(group['params']) for group in own]}"[:100])
    for group, mine in zip(groups, own, strict=True):
        for name, value in mine.items():
            if name in group and name != "params" and not _alike(group[name], value):
                raise ValueError(f"its {name} is a {type(group[name]).__name__}, not a {type(value).__name__}")


def _alike(kept: Plain, mine: Plain) -> bool:
    """Return true if two settings are of one kind: a rate may be a number or a tensor of one."""
    if isinstance(mine, bool) or mine is None:
        return isinstance(kept, bool) or kept is None
    if isinstance(mine, tuple | list):
        return isinstance(kept, tuple | list) and len(kept) == len(mine) and all(map(_is_number, kept))
    return _is_number(kept) or (isinstance(kept, Tensor) and kept.numel() == 1)


def _is_number(value: Plain) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_moments(moments: Mapping[str, Plain], parameter: Tensor | None, index: int) -> None:
    if parameter is None:
        raise ValueError(f"moments of parameter {index}, which it does not train")
    for name, value in moments.items():
        one = _is_number(value) or value is None or (isinstance(value, Tensor) and value.numel() == 1)
        if not one and not (isinstance(value, Tensor) and value.shape == parameter.shape):
            raise ValueError(f"its {name[:40]!a} of parameter {index} is of another shape")
