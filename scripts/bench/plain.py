"""DyTox's network as it is written down: the baseline of the benchmark.

The same weights and the same values (:func:`largest_difference` is printed with the timings), in the order of the
papers' formulae and of the published code: a loop over task tokens, each passing the decoder together with all patches;
attention maps that exist; the positional softmax for every image; one head after the other. Per batch, not per image:
no straw man.

Legend: B batch, N patches, T tokens, D width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.models.convit import ConViT, GatedPositionalAttention
from cl_lightning.models.heads import IndependentHeads
from cl_lightning.models.task_attention import TaskAttention, TaskAttentionBlock
from cl_lightning.models.task_network import TaskNetwork


class PlainNetwork(nn.Module):
    """``network`` again, its parameters shared, evaluated plainly."""

    def __init__(self, network: TaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, scales: Tensor | None = None) -> Tensor:
        """Return scores (B, C); ``scales`` as in ``Network.forward``."""
        network = self.network
        x_BND, rest = _encode(network.encoder, images, scales)
        embeddings = []
        decoder = network.decoder
        assert isinstance(decoder, TaskAttentionBlock)
        for t, token in enumerate(decoder.tokens):
            pair = (None, None) if rest is None else (rest[2 * t], rest[2 * t + 1])
            embeddings.append(_ask(decoder, token, x_BND, *pair))
        classifier = network.classifier
        assert isinstance(classifier, IndependentHeads)
        self.newest = embeddings[-1]
        return torch.cat([head(e) for head, e in zip(classifier.heads, embeddings, strict=True)], dim=1)

    def divergence(self) -> Tensor | None:
        """Return the divergence head's scores for the images of the last call."""
        return None if self.network.divergence is None else self.network.divergence(self.newest)


def _scaled(branch: Tensor, scale_B: Tensor | None) -> Tensor:
    return branch if scale_B is None else branch * scale_B.view(-1, 1, 1)


def _encode(encoder: nn.Module, images: Tensor, scales: Tensor | None) -> tuple[Tensor, Tensor | None]:
    assert isinstance(encoder, ConViT)
    x = encoder.patch_embed(images).flatten(2).transpose(1, 2) + encoder.pos_embed
    for k, block in enumerate(encoder.blocks):
        first, second = (None, None) if scales is None else (scales[2 * k], scales[2 * k + 1])
        x = x + _scaled(_gated_attention(block.attn, block.norm1(x)), first)  # type: ignore[arg-type,operator]
        x = x + _scaled(block.mlp(block.norm2(x)), second)  # type: ignore[operator]
    return x, None if scales is None else scales[2 * len(encoder.blocks) :]


def _gated_attention(attn: GatedPositionalAttention, z_BND: Tensor) -> Tensor:
    size, patches, width = z_BND.shape
    heads = attn.num_heads
    q, k = attn.qk(z_BND).reshape(size, patches, 2, heads, width // heads).permute(2, 0, 3, 1, 4)
    v = attn.v(z_BND).reshape(size, patches, heads, width // heads).permute(0, 2, 1, 3)
    content = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(dim=-1)
    relative: Tensor = attn.relative.expand(size, -1, -1, -1)  # type: ignore[operator]
    position = attn.pos_proj(relative).permute(0, 3, 1, 2).softmax(dim=-1)
    gate = torch.sigmoid(attn.gating_param).view(1, -1, 1, 1)
    weights = (1.0 - gate) * content + gate * position
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return attn.proj((weights @ v).transpose(1, 2).reshape(size, patches, width))


def _ask(
    block: TaskAttentionBlock, token: Tensor, x_BND: Tensor, first: Tensor | None, second: Tensor | None
) -> Tensor:
    """Return one task's embedding, (B, D)."""
    e_B1D = token.expand(len(x_BND), -1, -1)
    e_B1D = e_B1D + _scaled(_class_attention(block.attn, block.norm1(torch.cat([e_B1D, x_BND], dim=1))), first)
    return (e_B1D + _scaled(block.mlp(block.norm2(e_B1D)), second))[:, 0]


def _class_attention(attn: TaskAttention, z_BMD: Tensor) -> Tensor:
    """Attend from the first of the M = N + 1 vectors to all."""
    size, vectors, width = z_BMD.shape
    heads = attn.num_heads
    q = attn.q(z_BMD[:, 0]).unsqueeze(1).reshape(size, 1, heads, width // heads).permute(0, 2, 1, 3)
    k, v = (f(z_BMD).reshape(size, vectors, heads, width // heads).permute(0, 2, 1, 3) for f in (attn.k, attn.v))
    weights = (q * (width // heads) ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
    return attn.proj((weights @ v).transpose(1, 2).reshape(size, 1, width))


def plain_losses(
    scores: Tensor, divergence: Tensor | None, teacher: Tensor | None, targets: Tensor, num_old: int
) -> Tensor:
    """Return DyTox's loss (section 3.3), written out."""
    classification = F.binary_cross_entropy_with_logits(scores, targets)
    if teacher is None:
        return classification
    share = num_old / scores.shape[1]
    old_log, new_log = teacher.log_softmax(-1), scores[:, :num_old].log_softmax(-1)
    distilled = (old_log.exp() * (old_log - new_log)).mean()
    total = (1 - share) * classification + share * distilled
    if divergence is not None:
        old = targets[:, :num_old].sum(1, keepdim=True).clamp(0, 1)
        total = total + 0.1 * F.binary_cross_entropy_with_logits(divergence, torch.cat([old, targets[:, num_old:]], 1))
    return total
