"""Residual blocks with fewer channels, cut out of whole ones: what pruning leaves.

Legend: B batch, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.replica_norm import ReplicaBatchNorm2d
from cl_lightning.models.resnet import BasicBlock

Kept = Mapping[str, Sequence[int]]
"""Name of a block's convolution -> the input channels that it keeps, ascending, one at least; absent: all."""
_SHORTCUT = "shortcut.0"


class ReadingConv2d(nn.Conv2d):
    """A convolution without bias that reads some channels of its input."""

    channels: Tensor

    def __init__(self, whole: nn.Conv2d, rows: Sequence[int], channels: Sequence[int]) -> None:
        """Cut ``rows``, the outputs, and ``channels``, of the inputs, out of ``whole``."""
        weight = _cut(whole.weight, rows, channels)
        super().__init__(
            len(channels),
            len(rows),
            (whole.kernel_size[0], whole.kernel_size[1]),
            stride=(whole.stride[0], whole.stride[1]),
            padding=(int(whole.padding[0]), int(whole.padding[1])),
            bias=False,
        )
        self.weight = nn.Parameter(weight)
        self.register_buffer("channels", torch.tensor(channels, device=weight.device), persistent=False)
        self.train(whole.training)

    def forward(self, input: Float[Tensor, "B all H W"]) -> Float[Tensor, "B out H_out W_out"]:  # noqa: A002 (torch's)
        """Convolve the channels that are read."""
        return super().forward(input.index_select(1, self.channels))


def narrow(resnet: nn.Module, kept: Kept) -> None:
    """Cut the blocks of a dense ResNet in place to the input channels ``kept`` of their convolutions.

    What a block's second convolution keeps is all that is left between the two; the first one, and that of a shortcut,
    read their channels of the stream. Raises ``ValueError`` for channels, or convolutions, that are not there.
    """
    left = dict(kept)
    for name, module in list(resnet.named_modules()):
        if isinstance(module, BasicBlock):
            _narrow_block(module, name, left)
    if left:
        raise InvalidSettingError("kept", min(left), "is no convolution of a block", "its own names")


def _narrow_block(block: BasicBlock, name: str, left: dict[str, Any]) -> None:
    """Cut a block; take its convolutions out of ``left``."""
    between = _channels(left, f"{name}.conv2", block.conv2)
    read = _channels(left, f"{name}.conv1", block.conv1)
    written = list(range(block.conv2.out_channels))
    block.conv1 = ReadingConv2d(block.conv1, between, read)
    block.norm1 = _cut_norm(block.norm1, between)
    block.conv2.weight = nn.Parameter(_cut(block.conv2.weight, written, between))
    block.conv2.in_channels = len(between)
    if isinstance(block.shortcut, nn.Sequential):
        convolution = block.shortcut[0]
        assert isinstance(convolution, nn.Conv2d)
        block.shortcut[0] = ReadingConv2d(convolution, written, _channels(left, f"{name}.{_SHORTCUT}", convolution))


def _channels(left: dict[str, Any], name: str, convolution: nn.Conv2d) -> list[int]:
    channels = left.pop(name, None)
    if channels is None:
        return list(range(convolution.in_channels))
    count = convolution.in_channels
    plain = isinstance(channels, list) and all(type(channel) is int for channel in channels)
    if not plain or not channels or sorted(set(channels)) != channels or channels[0] < 0 or channels[-1] >= count:
        allowed = f"a list of numbers below {count}, ascending"
        raise InvalidSettingError(name, str(channels)[:40], "are no channels of this convolution", allowed)
    return list(channels)


def _cut(weight: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Return some outputs and inputs of a convolution's weights, as a copy."""
    at = (torch.tensor(each, device=weight.device) for each in (rows, columns))
    return weight.detach().index_select(0, next(at)).index_select(1, next(at))


def _cut_norm(whole: ReplicaBatchNorm2d, channels: Sequence[int]) -> ReplicaBatchNorm2d:
    norm = ReplicaBatchNorm2d(len(channels)).to(whole.weight.device)
    norm.replicas = whole.replicas
    index = torch.tensor(channels, device=whole.weight.device)
    cut = {name: value[index] if value.ndim else value for name, value in whole.state_dict().items()}
    norm.load_state_dict(cut, strict=True)
    norm.train(whole.training)
    return norm
