"""A ResNet that loses channels: DER's extractor with pruning (Yan, Xie & He, CVPR 2021), rebuilt from its formulae.

It is dense while it is trained, and afterwards narrower for good. Which channels go is either learnt, by masks on the
input channels of each convolution but the first (``channel_masks.py``), or read from batch norm's scales.

What the paper does not say of residual networks is ours: each convolution masks *its own copy* of the residual stream,
so that no shortcut ties one convolution to another. A block's first convolution, and a shortcut's, then read some
channels of the stream; the channels between the two convolutions of a block vanish altogether; a block goes on writing
all channels of the stream, and the last features stay as many as they were.

A mask on an input channel is a factor of that channel's weights: they are multiplied, not the images' maps.

Legend: B batch, D width, M masked channels of all convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.channel_masks import LARGEST_LOGIT, annealed_mask, open_channels, sharpness_of
from cl_lightning.models.narrowed import Kept, narrow
from cl_lightning.models.resnet import BasicBlock
from cl_lightning.models.tensor_types import Images, Maps, Scales

CHANNEL_MASKS = "channel_masks"
"""Part of the network that the masks' logits are."""


class PrunableResNet(Backbone):
    """A ResNet, dense and perhaps masked, or pruned."""

    sharpness: Float[Tensor, ""]

    def __init__(self, make: Callable[[], Backbone], *, s_max: float | None = None, kept: Kept | None = None) -> None:
        """Build from ``make``, which draws a dense ResNet from torch's current stream, as the masks are drawn.

        Args:
            make: makes the dense network, again for each further task.
            s_max: largest sharpness of the masks, > 1; None for a network without masks.
            kept: the channels that a pruned network has, see :meth:`structure`; None for one that is dense.
        """
        dense = make()
        super().__init__(dim=dense.dim)
        self._make, self._s_max, self._kept = make, s_max, kept
        self._dense_structure = dense.structure()
        self.backbone = dense
        self.masked: dict[str, int] = {name: conv.in_channels for name, conv in _masked_convolutions(dense).items()}
        """Convolution -> input channels that it has in the dense network; the order of the logits."""
        self.logits: nn.Parameter | None = None
        if kept is not None:
            narrow(dense, kept)
        elif s_max is not None:
            start = torch.randn(sum(self.masked.values())).clamp_(-LARGEST_LOGIT, LARGEST_LOGIT)
            self.logits = nn.Parameter(start)  # half of the channels are open, as HAT's units
            self.register_buffer("sharpness", torch.tensor(1 / s_max))

    @property
    def pruned(self) -> bool:
        """True once channels have been removed."""
        return self._kept is not None

    def start(self) -> Backbone:
        """Return the ResNet: weights from elsewhere know no masks."""
        return self.backbone

    def successor(self) -> Backbone:
        """Return a new dense network with new masks: what is pruned has not the shapes to start from."""
        fresh = PrunableResNet(self._make, s_max=self._s_max)
        return fresh.to(next(self.parameters()).device)

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return vectors and maps; through masks as sharp as ``sharpness`` in training, as s_max in evaluation."""
        if self.logits is None:
            return self.backbone(images, scales)
        convolutions = _masked_convolutions(self.backbone)
        weights = {
            f"{name}.weight": convolutions[name].weight * mask[:, None, None] for name, mask in self.masks().items()
        }
        return functional_call(self.backbone, weights, (images, scales))

    def masks(self) -> dict[str, Float[Tensor, " channels"]]:
        """Return the mask of each masked convolution's input channels, as sharp as :meth:`forward` has them."""
        assert self.logits is not None
        assert self._s_max is not None
        sharpness = self.sharpness if self.training else torch.full_like(self.sharpness, self._s_max)
        parts = annealed_mask(self.logits, sharpness).split(list(self.masked.values()))
        return dict(zip(self.masked, parts, strict=True))

    def links(self, *, area: bool) -> list[tuple[int, Tensor, Tensor]]:
        """Return for each convolution its kernel (``area``: k^2, else k), and the masks before and behind it.

        Behind a convolution are the channels that the next one reads: within a block the second's, then the next
        block's first; behind the last block all of them.
        """
        masks, blocks = self.masks(), _blocks(self.backbone)
        stem = self.backbone.get_submodule("conv")
        assert isinstance(stem, nn.Conv2d)
        ones = torch.ones_like
        last = ones(masks[f"{next(reversed(blocks))}.conv2"])
        readers = [*(masks[f"{name}.conv1"] for name in blocks), last]
        found = [(stem, ones(stem.weight[0, :, 0, 0]), readers[0])]
        for (name, block), reader in zip(blocks.items(), readers[1:], strict=True):
            found.append((block.conv1, masks[f"{name}.conv1"], masks[f"{name}.conv2"]))
            found.append((block.conv2, masks[f"{name}.conv2"], reader))
            if f"{name}.shortcut.0" in masks:
                found.append((block.shortcut[0], masks[f"{name}.shortcut.0"], reader))  # type: ignore[index]
        return [(conv.kernel_size[0] ** (2 if area else 1), before, behind) for conv, before, behind in found]

    @torch.no_grad()
    def anneal(self, batch: int, batches: int) -> None:
        """Set the sharpness for batch ``batch`` (from 0) of an epoch, and hold the logits within their bounds."""
        if self.logits is None:
            return
        assert self._s_max is not None
        self.sharpness.fill_(sharpness_of(batch, batches, self._s_max))
        self.logits.clamp_(-LARGEST_LOGIT, LARGEST_LOGIT)

    @torch.no_grad()
    def open_share(self) -> Float[Tensor, ""] | None:
        """Return the share of masked channels that are open, in [0, 1]; None without masks."""
        return None if self.logits is None else (self.logits >= 0).float().mean()

    # ---- pruning -----------------------------------------------------------------------------------------------------

    def dense_weights(self) -> dict[str, Tensor]:
        """Return a copy of the dense network's weights, without masks, on the CPU, for a next network."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.backbone.state_dict().items()}

    def fits(self, weights: Mapping[str, Tensor]) -> bool:
        """Return whether ``weights`` have the names and shapes of :meth:`dense_weights`."""
        with torch.device("meta"):
            dense = self._make().state_dict()
        return {name: value.shape for name, value in dense.items()} == {name: v.shape for name, v in weights.items()}

    def load_dense(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of :meth:`dense_weights`. Raises ``RuntimeError`` where they are of another network."""
        self.backbone.load_state_dict(weights, strict=True)

    @torch.no_grad()
    def prune(self, share: float | None = None) -> None:
        """Remove channels: those whose masks are closed, or all but the largest scales.

        Open channels' weights keep the factor that their masks are at s_max; a convolution keeps one channel at least.

        Args:
            share: share of the parameters to leave at most, by batch norm's scales; None for closed masks.
        """
        assert self._kept is None, "a network is pruned once"
        if self.logits is None:
            assert share is not None
            kept = largest_scales(_blocks(self.backbone), share, sum(p.numel() for p in self.backbone.parameters()))
        else:
            kept = self._close(self.logits)
        narrow(self.backbone, kept)
        self._kept = kept

    def _close(self, logits: Tensor) -> dict[str, list[int]]:
        """Put the masks at s_max into the weights, and drop them; return the open channels."""
        assert self._s_max is not None
        masks = annealed_mask(logits, torch.full_like(self.sharpness, self._s_max))
        parts = [each.split(list(self.masked.values())) for each in (masks, logits)]
        kept = {}
        for (name, convolution), mask, part in zip(_masked_convolutions(self.backbone).items(), *parts, strict=True):
            convolution.weight.mul_(mask[:, None, None])
            kept[name] = open_channels(part)
        self.logits = None
        del self.sharpness
        return kept

    # ---- description -------------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the ResNet's parameters, and the logits of its masks."""
        masks = [] if self.logits is None else [self.logits]
        return {"backbone": list(self.backbone.parameters()), CHANNEL_MASKS: masks}

    def structure(self) -> dict[str, Any]:
        """Return the dense network's sizes, the sharpness, and the input channels that convolutions have kept."""
        kept = None if self._kept is None else {name: list(channels) for name, channels in self._kept.items()}
        return {"kind": "prunable_resnet", "backbone": self._dense_structure, "s_max": self._s_max, "kept": kept}


def _blocks(resnet: nn.Module) -> dict[str, BasicBlock]:
    """Return the blocks by name, from the input side on."""
    return {name: module for name, module in resnet.named_modules() if isinstance(module, BasicBlock)}


def _masked_convolutions(resnet: nn.Module) -> dict[str, nn.Conv2d]:
    """Return all convolutions but the first, by name. Raises ``ValueError`` for another network than a ResNet."""
    blocks = _blocks(resnet)
    if not blocks:
        raise InvalidSettingError("backbone", type(resnet).__name__, "has no residual blocks to prune", "a ResNet")
    return {
        f"{name}.{inner}": module
        for name, block in blocks.items()
        for inner, module in block.named_modules()
        if isinstance(module, nn.Conv2d)
    }


def largest_scales(blocks: Mapping[str, BasicBlock], share: float, parameters: int) -> dict[str, list[int]]:
    """Return the channels within blocks to keep, such that at most ``share`` of ``parameters`` is left.

    Channels go by the size of the scale of the batch norm between a block's two convolutions, smallest first over all
    blocks, after Liu et al., Network slimming (ICCV 2017); the largest of a block stays.
    """
    left, limit = parameters, share * parameters
    scales = {f"{name}.conv2": block.norm1.weight.detach().abs().tolist() for name, block in blocks.items()}
    costs = {f"{name}.conv2": _cost_of_a_channel(block) for name, block in blocks.items()}
    kept = {name: set(range(len(of_block))) for name, of_block in scales.items()}
    ranked = sorted((scale, name, index) for name, row in scales.items() for index, scale in enumerate(row))
    for _, name, index in ranked:
        if left <= limit:
            break
        if len(kept[name]) > 1:
            kept[name].remove(index)
            left -= costs[name]
    return {name: sorted(channels) for name, channels in kept.items()}


def _cost_of_a_channel(block: BasicBlock) -> int:
    """Return the parameters of a row of the first convolution, of its norm, and of a column of the second."""
    return block.conv1.weight[0].numel() + 2 + block.conv2.weight[:, 0].numel()
