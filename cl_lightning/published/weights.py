"""Weights of the published DyTox and DAFormer in our network and back: their names, and sizes inferred from shapes.

Names and shapes of DyTox are those of the state dict of the authors' repository at its last public commit (30 June
2022). DAFormer is known by its files of golden vectors alone.
Nothing here reads files: ``published/checkpoint.py`` does.

Legend: D width, H heads, N patches, T tasks.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_network
from cl_lightning.models.convit import ConViT
from cl_lightning.models.task_network import TaskNetwork

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Names:
    """The published names of the parameters of our :class:`TaskNetwork`: a one-to-one change of prefixes."""

    model: str
    """Name of the published model."""
    prefixes: tuple[tuple[str, str], ...]
    """(theirs, ours), the longer ones first."""
    decoder: Mapping[str, Any]
    """Description of such a decoder in ``structure``."""
    grown: str
    """Our prefix of the parameters that a task adds to it."""
    uncalled: tuple[str, ...] = ()
    """Their prefixes of layers that are built and never called."""

    def ours(self, theirs: str) -> str | None:
        """Return our name, or ``None`` for what our network does not have."""
        return next((ours + theirs[len(start) :] for start, ours in self.prefixes if theirs.startswith(start)), None)

    def without_uncalled(self, state: State) -> dict[str, Tensor]:
        """Return the state without the layers that are never called."""
        return {name: value for name, value in state.items() if not name.startswith(self.uncalled or "\0")}

    def our_shape(self, ours: str, theirs: Tensor) -> Tensor:
        """Return a tensor of theirs in the shape of ours: a bank of keys is a convolution of size 1 there."""
        as_convolution = ours.startswith(self.grown) and theirs.ndim == 4 and theirs.shape[2:] == (1, 1)
        return theirs.flatten(1) if as_convolution else theirs

    def theirs(self, ours: str) -> str:
        """Return their name; all of our parameters have one."""
        return next(theirs + ours[len(start) :] for theirs, start in self.prefixes if ours.startswith(start))


_TASK_ATTENTION = {"kind": "task_attention", "expansion": True}

PUBLISHED = Names(
    "DyTox",
    (
        ("pos_embed", "encoder.pos_embed"),
        ("patch_embed.proj.", "encoder.patch_embed."),
        ("sabs.", "encoder.blocks."),
        ("task_tokens.", "decoder.tokens."),
        ("tabs.0.", "decoder."),
        ("head.", "classifier.heads."),
        ("head_div.", "divergence."),
    ),
    _TASK_ATTENTION,
    "decoder.tokens.",
)
"""Names in the state dict of a published checkpoint."""

GOLDEN = Names(
    "DyTox",
    (
        ("pos_embed", "encoder.pos_embed"),
        ("patch_embed.", "encoder.patch_embed."),
        ("encoder.", "encoder.blocks."),
        ("task_tokens.", "decoder.tokens."),
        ("decoder.", "decoder."),
        ("head.", "classifier.heads."),
        ("head_div.", "divergence."),
    ),
    _TASK_ATTENTION,
    "decoder.tokens.",
)
"""Names in DyTox's golden vectors (``scripts/reference/vectors.py``)."""

GOLDEN_DAFORMER = Names(
    "DAFormer",
    (
        ("pos_embed", "encoder.pos_embed"),
        ("patch_embed.", "encoder.patch_embed."),
        ("encoder.", "encoder.blocks."),
        ("key_banks.", "decoder.banks."),
        *((f"decoder.attn.to_{name}.", f"decoder.attn.{name}.") for name in "qkv"),
        ("decoder.", "decoder."),
        ("head.", "classifier.heads."),
        ("head_div.", "divergence."),
    ),
    {"kind": "dual_attention", "expansion": True, "out_proj": False},
    "decoder.banks.",
    uncalled=("decoder.attn.proj.",),
)
"""Names in DAFormer's golden vectors."""

_SAME_IN_FLOAT32 = (torch.float32, torch.float16, torch.bfloat16)
_ONLY_INDEPENDENT = "only independent heads, one a task (ind_clf 1-1), can be represented"


def structure_of(state: State, arguments: Mapping[str, Any] | None = None, names: Names = PUBLISHED) -> dict[str, Any]:
    """Infer the ``Network.structure`` of the network that these weights belong to.

    Args:
        state: weights by the names of ``names``; a leading ``module.`` on all of them is ignored.
        arguments: the options of the run that made them, where known. Weights do not hold ``drop_path``,
            ``locality_strength`` and, in the first task, whether a divergence head follows (``head_div``): without
            arguments these are the published defaults. ``ind_clf`` must be ``1-1``.
        names: the published names that ``state`` has.

    Raises:
        ValueError: weights that our network cannot represent; one line that names the entry.
    """
    return _structure(_renamed(_stripped(state), names), names, arguments or {})


def import_network(state: State, arguments: Mapping[str, Any] | None = None, names: Names = PUBLISHED) -> TaskNetwork:
    """Build our network with these weights: structure from :func:`structure_of`, loaded strictly.

    Weights are float32, or half precision, which float32 holds exactly. Arguments and errors are those of
    :func:`structure_of`; moreover ``ValueError`` names an entry that is missing, too much or of another shape.
    """
    renamed = _renamed(_stripped(state), names)
    network = build_network(_structure(renamed, names, arguments or {}), Key(0))
    assert isinstance(network, TaskNetwork)
    _check_entries({name: tuple(value.shape) for name, value in network.state_dict().items()}, renamed, names)
    network.load_state_dict(renamed, strict=True)
    return network


def export_dytox(network: TaskNetwork, names: Names = PUBLISHED) -> dict[str, Tensor]:
    """Return the weights of our network by the published names: copies on the CPU.

    Raises:
        ValueError: an encoder other than ConViT, or a network of the ablation (without a token and a head for each
            task): there are no such published weights.
    """
    if not isinstance(network.encoder, ConViT):
        kind = network.structure()["encoder"]["kind"]
        raise InvalidFileError("the encoder", f"is {kind}: only model=convit_* has published names")
    structure = network.structure()
    if structure["decoder"]["kind"] != "task_attention":
        raise InvalidFileError(
            "the decoder", f"is {structure['decoder']['kind']}: only method=dytox* has published names"
        )
    for name, exportable in (
        ("token_expansion", structure["decoder"]["expansion"]),
        ("independent_heads", structure["classifier"]["kind"] == "independent"),
    ):
        if not exportable:
            raise InvalidFileError(
                "the network", f"has {name}=false: only one token and one head a task have published names"
            )
    return {names.theirs(name): value.detach().cpu().clone() for name, value in network.state_dict().items()}


# ---- names -----------------------------------------------------------------------------------------------------------


def _stripped(state: State) -> dict[str, Tensor]:
    """Return the state without the prefix ``module.`` that DistributedDataParallel adds."""
    prefix = "module." if state and all(str(name).startswith("module.") for name in state) else ""
    return {str(name).removeprefix(prefix): value for name, value in state.items()}


def _renamed(state: State, names: Names) -> dict[str, Tensor]:
    renamed = {}
    for name, value in names.without_uncalled(state).items():
        _refuse_other_models(name)
        if not isinstance(value, Tensor):
            raise InvalidFileError(name, f"is of type {type(value).__name__}, not a tensor: these are no weights")
        if value.dtype not in _SAME_IN_FLOAT32:
            raise InvalidFileError(name, f"is {value.dtype}: weights must be float32, or float16 or bfloat16")
        ours = names.ours(name)
        if ours is None:
            raise InvalidFileError(name, f"has no place in {names.model}'s network as published")
        renamed[ours] = names.our_shape(ours, value)
    return renamed


def _refuse_other_models(name: str) -> None:
    """Raise ``ValueError`` for parts that the published code can build, and ours cannot."""
    if re.match(r"tabs\.[1-9]", name):
        raise InvalidFileError(name, ": several task-attention blocks in sequence cannot be represented, only tabs.0")
    if name.startswith("head.") and not re.match(r"head\.\d+\.", name):
        raise InvalidFileError(name, f": {_ONLY_INDEPENDENT}")


def _check_entries(expected: Mapping[str, tuple[int, ...]], state: State, names: Names) -> None:
    """Raise ``ValueError`` with their name of the first entry that is missing, too much or of another shape."""
    for ours, shape in expected.items():
        name = names.theirs(ours)
        if ours not in state:
            raise InvalidFileError(name, f"is missing: the other entries ask for it, of shape {shape}")
        if tuple(state[ours].shape) != shape:
            hint = f" ({_ONLY_INDEPENDENT})" if name.startswith("head") else ""
            raise InvalidFileError(
                name, f"is of shape {tuple(state[ours].shape)}, the other entries ask for {shape}{hint}"
            )
    for ours in state:
        if ours not in expected:
            raise InvalidFileError(names.theirs(ours), "has no place in the network that the other entries describe")


# ---- sizes -----------------------------------------------------------------------------------------------------------


def _structure(state: State, names: Names, arguments: Mapping[str, Any]) -> dict[str, Any]:
    classes = _classes(state, names)
    if (mode := arguments.get("ind_clf", "1-1")) != "1-1":
        raise InvalidFileError(f"ind_clf={mode!r}", f"in the checkpoint's arguments: {_ONLY_INDEPENDENT}")
    if any(name.startswith("divergence.") for name in state):
        diverge = True
        if len(classes) == 1:
            raise InvalidFileError("head_div.*", "beside a single head: there is no divergence head in the first task")
    else:
        diverge = len(classes) == 1 and _number(arguments, "head_div", 0.1) > 0
    encoder = {"kind": "convit", **_encoder_sizes(state, names), **_unseen(arguments)}
    shared = len(classes) > 1 and _count(state, names.grown, names) == 1
    return {
        "kind": "task_network", "encoder": encoder, "decoder": {**names.decoder, "expansion": not shared},
        "diverge": diverge, "classifier": {"kind": "independent"}, "classes": classes,
    }  # fmt: skip


def _classes(state: State, names: Names) -> list[int]:
    """Return the classes of each head; as many heads as tasks in the decoder, which may be shared by all heads."""
    heads, grown = _count(state, "classifier.heads.", names), _count(state, names.grown, names)
    serves_all = grown == 1 and names.decoder["kind"] != "task_attention"  # no such DyTox was published
    if heads != grown and not serves_all:
        raise InvalidFileError(f"{grown} {names.theirs(names.grown)}*", f"and {heads} head.*: {_ONLY_INDEPENDENT}")
    return [_shape(state, f"classifier.heads.{task}.head.weight", 2, names)[0] for task in range(heads)]


def _encoder_sizes(state: State, names: Names) -> dict[str, Any]:
    """Return the arguments of :class:`ConViT` that shapes determine."""
    dim, channels, patch, width = _shape(state, "encoder.patch_embed.weight", 4, names)
    _, num_patches, _ = _shape(state, "encoder.pos_embed", 3, names)
    depth = _count(state, "encoder.blocks.", names)
    (num_heads,) = _shape(state, "encoder.blocks.0.attn.gating_param", 1, names)
    hidden, _ = _shape(state, "encoder.blocks.0.mlp.fc1.weight", 2, names)
    if patch != width:
        raise InvalidFileError(
            names.theirs("encoder.patch_embed.weight"), f"has patches of {patch} x {width}: not square"
        )
    side = math.isqrt(num_patches)
    if side**2 != num_patches:
        raise InvalidFileError("pos_embed", f"has {num_patches} patches, which fill no square grid")
    if dim % num_heads:
        name = names.theirs("encoder.blocks.0.attn.gating_param")
        raise InvalidFileError(name, f"has {num_heads} heads, which do not divide the width of {dim}")
    return {
        "image_size": side * patch, "channels": channels, "patch_size": patch,
        "dim": dim, "num_heads": num_heads, "depth": depth, "mlp_ratio": exact_ratio(hidden, dim),
    }  # fmt: skip


def _unseen(arguments: Mapping[str, Any]) -> dict[str, float]:
    """Return the options of a run that weights do not hold."""
    defaults = inspect.signature(ConViT).parameters
    drop_path = _number(arguments, "drop_path", defaults["drop_path"].default)
    if not 0 <= drop_path < 1:
        raise InvalidFileError(
            f"drop_path={drop_path}", "in the checkpoint's arguments is not a share: it must be in [0, 1)"
        )
    return {"drop_path": drop_path, "locality": _number(arguments, "locality_strength", defaults["locality"].default)}


def _number(arguments: Mapping[str, Any], name: str, default: float) -> float:
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidFileError(f"{name}={value!r}", "in the checkpoint's arguments is not a number")
    return float(value)


def exact_ratio(hidden: int, dim: int) -> float:
    """Return a ratio whose product with ``dim``, truncated to a whole number, is ``hidden``."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def _shape(state: State, name: str, ndim: int, names: Names) -> tuple[int, ...]:
    """Return the shape of an entry from which a size is read."""
    if name not in state:
        raise InvalidFileError(names.theirs(name), f"is missing: these are no weights of {names.model} as published")
    shape = tuple(state[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise InvalidFileError(
            names.theirs(name), f"is of shape {shape}: it must have {ndim} dimensions, none of them 0"
        )
    return shape


def _count(state: State, prefix: str, names: Names) -> int:
    """Count the parts numbered under ``prefix``: 0, 1, 2 ... without a gap, at least one."""
    theirs = names.theirs(prefix)
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)}
    for number in map(str, range(max(1, len(numbers)))):
        if number not in numbers:
            strange = "".join(f", not {theirs}{other}" for other in sorted(numbers) if not other.isdecimal())
            raise InvalidFileError(
                f"{theirs}{number}", f"is missing: {theirs}* must be numbered from 0 without a gap{strange}"
            )
    return len(numbers)
