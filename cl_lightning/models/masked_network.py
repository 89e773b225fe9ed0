"""The network of MEAT: a frozen transformer and, for each task, masks and a head (Xue et al., CVPR 2022).

The newest task's masks are learnt as logits (``models/masks.py``); :meth:`MaskedNetwork.pack` turns them into bits, and
only bits and head of a task are stored. A task embeds an image through its own masks, so T tasks are T passes. Tasks
without masks (the one that trains the transformer itself, or all tasks where only heads are learnt) embed it through
the transformer as it is: one pass for all of them.

Legend: B batch, T tasks, L token-masked blocks, N patches, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features
from cl_lightning.models import masks
from cl_lightning.models.heads import only_newest, task_head
from cl_lightning.models.network import Branch, Network, branch_scales
from cl_lightning.models.plain_vit import BlockMasks, PlainViT
from cl_lightning.models.tensor_types import Images, Noise, Scales, Vectors

BACKBONE = "backbone"
_STREAMS = 2
"""Rows of the noise that are streams, before those of stochastic depth."""

TokenMask = Bool[Tensor, " tokens"]
"""Mask of the N patches in all L token-masked blocks, L N bits."""
WeightMask = Bool[Tensor, " weights"]
"""Mask of the weights of all MLPs."""


class TaskBits(nn.Module):
    """A packed task's masks as bits; ``None`` for a task without masks."""

    token_bits: UInt8[Tensor, " bytes"] | None
    ffn_bits: UInt8[Tensor, " bytes"] | None

    def __init__(self, token_mask: TokenMask | None, ffn_mask: WeightMask | None) -> None:
        super().__init__()
        self.register_buffer("token_bits", None if token_mask is None else masks.pack(token_mask))
        self.register_buffer("ffn_bits", None if ffn_mask is None else masks.pack(ffn_mask))


class MaskedNetwork(Network):
    """A network of one transformer, and masks and a head for each task."""

    def __init__(
        self,
        vit: PlainViT,
        *,
        token_mask_blocks: Sequence[int],
        ffn_masks: bool = True,
        plain_first: bool = False,
        temperature: float = 1.0,
        gap: float = 8.0,
    ) -> None:
        """Build without any class; :meth:`grow` adds tasks.

        Args:
            vit: the shared transformer.
            token_mask_blocks: blocks whose patches a task masks, ascending from 0; empty: none.
            ffn_masks: a task masks each weight of all MLPs.
            plain_first: the first task has no masks: it trains the transformer.
            temperature: of the relaxation, > 0.
            gap: keep logit minus drop logit before anything is learnt (two gamma; 8: keep probability 0.99966).
        """
        super().__init__()
        self.vit = vit
        self.heads = nn.ModuleList()
        self.kept = nn.ModuleList()
        self.token_logits: nn.Parameter | None = None
        self.ffn_logits: nn.ParameterList | None = None
        self._options = {
            "token_mask_blocks": list(token_mask_blocks), "ffn_masks": ffn_masks, "plain_first": plain_first,
            "temperature": temperature, "gap": gap,
        }  # fmt: skip
        self._masked_blocks = list(token_mask_blocks)
        self._ffn_masks = ffn_masks
        self._plain_first = plain_first
        self._temperature = temperature
        self._gap = gap
        self._folded: dict[int, list[BlockMasks]] = {}
        self.register_load_state_dict_pre_hook(_forget)

    # ---- what grows --------------------------------------------------------------------------------------------------

    def grow(self, num_new: int, key: Key) -> None:
        """Pack a task that is still open, add a head and masks that keep everything: no task starts from another's."""
        if len(self.kept) < len(self.heads):
            self.pack()
        task, device = len(self.heads), self.vit.cls_token.device
        self.heads.append(task_head(self.vit.dim, num_new, key, task).to(device))
        if self._has_masks(task):
            self._open_masks(device)

    def _has_masks(self, task: int) -> bool:
        return bool(self._masked_blocks or self._ffn_masks) and not (self._plain_first and task == 0)

    def _open_masks(self, device: torch.device) -> None:
        """Make logits as vectors, not matrices: the optimiser shall not decay them."""

        def logits(count: int) -> nn.Parameter:
            return nn.Parameter(torch.full((count,), self._gap, device=device))

        if self._masked_blocks:
            self.token_logits = logits(len(self._masked_blocks) * self.vit.num_patches)
        if self._ffn_masks:
            self.ffn_logits = nn.ParameterList(logits(weight.numel()) for weight in self._ffn_weights())

    def _ffn_weights(self) -> list[Float[Tensor, "out in"]]:
        return [linear.weight for block in self.vit.layers() for linear in (block.mlp.fc1, block.mlp.fc2)]

    @torch.no_grad()
    def pack(self) -> None:
        """Turn the newest task's logits into bits."""
        self.kept.append(TaskBits(*self._learnt()).to(self.vit.cls_token.device))
        self.token_logits, self.ffn_logits = None, None
        self._folded.clear()

    @torch.no_grad()
    def dropped(self) -> dict[str, Float[Tensor, ""]]:
        """Return the share of the newest task's masks that drops something, by kind, on the device: in [0, 1]; empty
        for a task without masks, or one that is packed.
        """
        logits = {} if self.token_logits is None else {"tokens": [self.token_logits]}
        logits |= {} if self.ffn_logits is None else {"weights": list(self.ffn_logits)}
        return {
            kind: 1
            - torch.stack([masks.hard_mask(each).sum() for each in these]).sum() / sum(each.numel() for each in these)
            for kind, these in logits.items()
        }

    def _learnt(self) -> tuple[TokenMask | None, WeightMask | None]:
        """Return the newest task's masks."""
        tokens = None if self.token_logits is None else masks.hard_mask(self.token_logits.detach())
        ffn = (
            None if self.ffn_logits is None else torch.cat([masks.hard_mask(each.detach()) for each in self.ffn_logits])
        )
        return tokens, ffn

    def sizes(self) -> list[int]:
        """Return the number of classes of each task."""
        return [head.out_features for head in self.heads]  # type: ignore[misc]

    # ---- training ----------------------------------------------------------------------------------------------------

    def branches(self) -> list[Branch]:
        """Return two branches for each block."""
        return [Branch(BACKBONE, rate) for rate in self.vit.drop_rates()]

    def noise(
        self, key: Key, positions: Int64[Tensor, " B"], steps: Int64[Tensor, " B"], frozen: frozenset[str]
    ) -> Int64[Tensor, "slots B"] | None:
        """Return each image's stream, from which its token masks are drawn in each layer; its step's stream, the same
        for all images, from which the weights' masks are drawn; and, where there is stochastic depth, 1 for each branch
        that is taken, else 0.
        """
        scales = branch_scales(self.branches(), key, positions, frozen)
        taken = [] if scales is None else [(scales > 0).to(torch.int64)]
        if not taken and self.token_logits is None and self.ffn_logits is None:
            return None
        drawn = [rng.streams(key.fold("token masks"), positions), rng.streams(key.fold("weight masks"), steps)]
        return torch.cat([torch.stack(drawn), *taken])

    def newest(self, images: Images | Vectors, noise: Noise | None = None) -> Features:
        """Embed images through the newest task's masks as they are learnt (T = 1); maps are the token masks (B, N) of
        each masked block. Without ``noise`` masks are those of :func:`masks.hard_mask`, and still learn.
        """
        tokens_LBN = self._token_masks(len(images), noise)
        open_blocks = self._block_masks(dict(zip(self._masked_blocks, tokens_LBN, strict=False)), self._weights(noise))
        embedding_BD = images if images.ndim == 2 else self.vit(images, open_blocks, self._scales(noise))
        return Features(embedding_BD[:, None], tuple(tokens_LBN))

    def newest_logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Return the scores of the newest task's classes; the others are minus infinity."""
        return only_newest(self.heads[-1](features.embeddings[:, 0]), sum(self.sizes()[:-1]))

    def _token_masks(self, count: int, noise: Noise | None) -> list[Float[Tensor, "{count} N"]]:
        if self.token_logits is None:
            return []
        logits_LN = self.token_logits.view(len(self._masked_blocks), -1)
        if noise is None:
            drawn = masks.sample(logits_LN[:, None], _no_noise(logits_LN), self._temperature).expand(-1, count, -1)
        else:
            drawn = masks.token_masks(logits_LN, noise[0], self._temperature)
        return list(drawn.unbind())

    def _weights(self, noise: Noise | None) -> list[Float[Tensor, "out in"]]:
        if self.ffn_logits is None:
            return []
        masked, first = [], 0
        for weight, logits in zip(self._ffn_weights(), self.ffn_logits, strict=True):
            if noise is None:
                mask = masks.sample(logits, _no_noise(logits), self._temperature)
                masked.append(weight * mask.view_as(weight))
            else:
                masked.append(masks.masked_weight(weight, logits, noise[1, 0], first, self._temperature))
            first += (logits.numel() + 1) // 2
        return masked

    def _scales(self, noise: Noise | None) -> Scales | None:
        if noise is None or len(noise) == _STREAMS:
            return None
        # Rates as numbers of the host: a recorded step may not copy them to the device.
        pairs = zip(noise[_STREAMS:], self.vit.drop_rates(), strict=True)
        return torch.stack([taken_B / (1 - rate) for taken_B, rate in pairs])

    def _block_masks(
        self, tokens: dict[int, Float[Tensor, "B N"]], weights: Sequence[Float[Tensor, "_out _in"]]
    ) -> list[BlockMasks]:
        pairs = zip(weights[::2], weights[1::2], strict=True) if weights else [(None, None)] * len(self.vit.blocks)
        return [BlockMasks(tokens=tokens.get(k), fc1=fc1, fc2=fc2) for k, (fc1, fc2) in enumerate(pairs)]

    # ---- evaluation --------------------------------------------------------------------------------------------------

    def forward(self, images: Images | Vectors, scales: Scales | None = None) -> Features:
        """Return one embedding a task, each through its own masks without noise."""
        plain = None if all(map(self._has_masks, range(len(self.heads)))) else self.plain(images)
        tasks = [self.through(images, task) if self._has_masks(task) else plain for task in range(len(self.heads))]
        return Features(torch.stack(tasks, dim=1))  # type: ignore[arg-type]

    def plain(self, images: Images | Vectors) -> Float[Tensor, "B D"]:
        """Embed images through the transformer as it is, without masks."""
        return images if images.ndim == 2 else self.vit(images)

    def frozen_trunk(self) -> nn.Module | None:
        """Return the transformer where no task masks it, once the first task has trained it if it has to."""
        masked = bool(self._masked_blocks or self._ffn_masks)
        return None if masked or (self._plain_first and not self.kept) else self.vit

    def settled(self) -> list[str]:
        """Return the transformer, once the first task has trained it if it has to: masks lie beside it."""
        return [] if self._plain_first and not self.kept else ["vit"]

    def through(self, images: Images, task: int) -> Float[Tensor, "B D"]:
        """Embed images through the masks of ``task``."""
        return self.vit(images, self.folded(task))

    def folded(self, task: int) -> list[BlockMasks]:
        """Return the masks of ``task``, its weights multiplied with them.

        Those of packed tasks are cached from one batch to the next (a copy of all MLP weights for each task), until
        mode, device or weights change.
        """
        cached = task < len(self.kept) and not (
            self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        )
        if not cached:
            return self._fold(*self._masks_of(task))
        if task not in self._folded:
            self._folded[task] = self._fold(*self._masks_of(task))
        return self._folded[task]

    def _masks_of(self, task: int) -> tuple[TokenMask | None, WeightMask | None]:
        if task >= len(self.kept):
            return self._learnt()
        bits, tokens, ffn = self.kept[task], None, None
        if bits.token_bits is not None:
            tokens = masks.unpack(bits.token_bits, len(self._masked_blocks) * self.vit.num_patches)  # type: ignore[arg-type]
        if bits.ffn_bits is not None:
            ffn = masks.unpack(bits.ffn_bits, sum(weight.numel() for weight in self._ffn_weights()))  # type: ignore[arg-type]
        return tokens, ffn

    def _fold(self, tokens: TokenMask | None, ffn: WeightMask | None) -> list[BlockMasks]:
        weights, seen = self._ffn_weights(), {}
        if tokens is not None:
            rows = tokens.float().view(len(self._masked_blocks), -1)
            seen = {k: _seen(row_N) for k, row_N in zip(self._masked_blocks, rows, strict=True)}
        folded = []
        if ffn is not None:
            parts = ffn.split([weight.numel() for weight in weights])
            folded = [w.detach() * part.view_as(w) for w, part in zip(weights, parts, strict=True)]
        of_blocks = self._block_masks({}, folded)
        return [BlockMasks(seen=seen.get(k), fc1=of.fc1, fc2=of.fc2) for k, of in enumerate(of_blocks)]

    def logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Concatenate the scores of all heads: head t reads embedding t."""
        return torch.cat([head(features.embeddings[:, t]) for t, head in enumerate(self.heads)], dim=-1)

    # ---- description -------------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the transformer, the newest task's masks and head, and the heads before it; bits are no parameters."""
        return {
            BACKBONE: list(self.vit.parameters()),
            "token_masks": [] if self.token_logits is None else [self.token_logits],
            "ffn_masks": [] if self.ffn_logits is None else list(self.ffn_logits),
            "old_heads": [p for head in list(self.heads)[:-1] for p in head.parameters()],
            "head": [p for head in list(self.heads)[-1:] for p in head.parameters()],
        }

    def structure(self) -> dict[str, Any]:
        """Return the transformer's sizes, the options, the classes of each task, and the number of packed tasks."""
        return {
            "kind": "masked_network",
            "vit": self.vit.structure(),
            **self._options,
            "classes": self.sizes(),
            "packed": len(self.kept),
        }

    def train(self, mode: bool = True) -> MaskedNetwork:
        """Set the mode, and forget folded weights: each evaluation folds anew."""
        self._folded.clear()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> MaskedNetwork:
        self._folded.clear()
        return super()._apply(*args, **kwargs)


def _forget(network: MaskedNetwork, *_: object) -> None:
    network._folded.clear()


def _no_noise(like: Tensor) -> Float[Tensor, ""]:
    return torch.full((), 0.5, device=like.device)


def _seen(mask_N: Float[Tensor, " N"]) -> Bool[Tensor, "1+N 1+N"] | None:
    """Return the mask of attention; ``None`` where all are seen, which attention computes faster."""
    if not torch.compiler.is_compiling() and bool(mask_N.all()):
        return None
    return masks.open_with_self(mask_N[None])[0].bool()
