"""The check of networks in a bundle: kind and sizes are those of the run's configuration, weights have those shapes.

A description in a foreign file is not built before its sizes are known to be those of the configuration: no number in
it can exhaust the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from cl_lightning.config.schema import Config, TimmBackboneConfig, TimmConfig
from cl_lightning.core.json_schema import list_of, whole
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.factory.networks import encoder_structure
from cl_lightning.methods.base import Method
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network
from cl_lightning.models.timm_names import expected_size
from cl_lightning.resources.parameters import model_size

_GROWN = ("classes", "packed", "learnt", "kept", "paths", "outputs")
"""Keys of a description that grow with tasks, or tell what was pruned; all others are as before the first task."""
_MOST_TIMES = 8
"""Largest factor of the image size over that of a name of timm's."""
_MOST_FIXED = 16
"""Largest number of computed values for each weight stored, in a network of timm's; usual are less than one."""
_OLD_KIND = ("kind", "token_network")

Leaf = tuple[str, Any]
"""The last key of a path in a description, and the value there."""
_OLDER: dict[Leaf, Leaf] = {
    ("kind", "independent"): ("independent_heads", True),
    ("kind", "joint"): ("independent_heads", False),
}
"""Words of a description -> those that older ones have for it."""


def method_with_network(config: Config, scenario: Scenario, payload: Mapping[str, Any]) -> Method:
    """Return the configuration's method with the network of a bundle's state, its teacher checked too.

    Raises ``ValueError`` where they are of other sizes than the configuration says, or of other shapes than they say.
    """
    structure = encoder_structure(config, scenario)
    _check_size(structure, payload["network"]["weights"])
    if isinstance(config.model, TimmConfig | TimmBackboneConfig):
        _check_timm(config.model, scenario, payload["network"]["weights"])
    _check_sums(config, payload.get("extra", {}))
    method = build_method(config, scenario, Key(config.seed))
    method.network.grow(scenario.tasks[0].num_new, Key(0))  # some are described in full only then
    allowed = {*_leaves(structure), *_leaves(method.network.structure()), _OLD_KIND}
    allowed |= {("token_expansion", value) for key, value in allowed if key == "expansion"}
    allowed |= {(key, False) for key, _ in allowed if key == "linear"}  # a first task drops it at its end
    allowed |= {older for leaf, older in _OLDER.items() if leaf in allowed}
    tasks = [task.num_new for task in scenario.tasks]
    method.network = _rebuilt(payload["network"], allowed, tasks, "its network")
    if payload["teacher"] is not None:
        _rebuilt(payload["teacher"], allowed, tasks, "its teacher")
    method.network.eval()
    return method


def _check_size(structure: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` for a configuration whose network would be far larger than the weights stored."""
    total = sum(tensor.numel() for tensor in weights.values())
    dim, width = structure.get("dim") or 0, structure.get("width") or 0
    patches = (structure.get("image_size") or 0) // (structure.get("patch_size") or 1)
    needed = {
        "depth": structure.get("depth") or 0,
        "width": width**2,
        "hidden": (structure.get("hidden") or 0) ** 2,
        "dim": dim**2 * max(1, structure.get("mlp_ratio") or 1),
        "image_size": dim * patches**2,
    }
    for name, count in needed.items():
        if count > total:
            raise ValueError(f"model.{name}={structure.get(name)} is not that of its {total} weights")


def _check_timm(model: TimmConfig | TimmBackboneConfig, scenario: Scenario, weights: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` for a name that is none of timm's, or whose network is far larger than the weights stored.

    The network is counted without its memory. Some families list all pairs of positions even then, so that its images
    may not be far larger than those that the name was made for.
    """
    size, total = scenario.image_size, sum(tensor.numel() for tensor in weights.values())
    if isinstance(model, TimmBackboneConfig) and size > _MOST_TIMES * (made_for := expected_size(model.name)):
        raise ValueError(f"data.image_size={size} is far more than the {made_for} pixels of model.name={model.name}")
    weights_needed, fixed = model_size(model, size, scenario.channels)
    if weights_needed > total or fixed > _MOST_FIXED * total:
        raise ValueError(f"model.name={model.name} at {size} pixels is not that of its {total} weights")


def _check_sums(config: Config, extra: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for a projection whose sums would be far larger than those stored."""
    width = getattr(config.method, "projection", 0)
    total = sum(each.numel() for each in extra.values() if isinstance(each, Tensor))
    if width**2 > 2 * total:
        raise ValueError(f"method.projection={width} is not that of its {total} sums")


def _rebuilt(part: Mapping[str, Any], allowed: set[Leaf], tasks: Sequence[int], what: str) -> Network:
    structure, weights = part["structure"], part["weights"]
    for key, value in _leaves(structure):
        if (key, value) not in allowed:
            raise ValueError(f"{what} has {key}={value}, which is not what its config.yaml says"[:200])
    classes = structure.get("classes")
    list_of(whole(1))(classes, f"the classes of {what}")
    if list(classes) != list(tasks)[: len(classes)]:
        raise ValueError(f"{what} has learnt tasks of {classes} classes, the run of {list(tasks)}"[:200])
    for counted in ("packed", "learnt"):
        whole(0, len(classes))(structure.get(counted, 0), f"{counted} of {what}")
    whole(0, sum(tasks))(structure.get("outputs", 0), f"outputs of {what}")
    try:  # what the same constructors have just made of the configuration, they make of a description that is whole
        network = build_network(structure, Key(0))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the description of {what} is not whole ({type(error).__name__}: {error})") from error
    _load(network, weights, what)
    return network


def _load(network: Network, weights: Mapping[str, Tensor], what: str) -> None:
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    for name, tensor in weights.items():
        if tensor.dtype != kinds.get(name, tensor.dtype):
            raise ValueError(f"{name[:80]!a} of {what} is {tensor.dtype}, not {kinds[name]}")
    try:
        network.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:  # names or shapes: torch has no other word for it
        line = " ".join(str(error).split())[:120]
        raise ValueError(f"the weights of {what} are not those of its description ({line})") from error


def _leaves(plain: Any, name: str = "") -> Iterator[Leaf]:
    if isinstance(plain, Mapping):
        for key, value in plain.items():
            if key not in _GROWN:
                yield from _leaves(value, str(key))
    elif isinstance(plain, list | tuple):
        for value in plain:
            yield from _leaves(value, name)
    else:
        yield name, plain
