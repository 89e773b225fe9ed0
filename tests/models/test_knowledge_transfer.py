"""DKT's decoder against a loop over images and heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.knowledge_transfer import KnowledgeTransferBlock

DIM, HEADS, PATCHES, IMAGES = 8, 2, 5, 3
INPUT = rng.normal(Key(1), torch.arange(IMAGES * PATCHES * DIM)).view(IMAGES, PATCHES, DIM)


def block(tasks: int, *, expansion: bool = True, mlp: str = "conv", qkv_bias: bool = True) -> KnowledgeTransferBlock:
    with torch_seeded(Key(2)):
        made = KnowledgeTransferBlock(DIM, HEADS, 2.0, expansion=expansion, mlp=mlp, qkv_bias=qkv_bias)
        for _ in range(tasks):
            made.grow()
        for parameter in made.parameters():  # large enough to be told apart
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def slow_attention(made: KnowledgeTransferBlock, patches: Tensor) -> tuple[Tensor, Tensor]:
    """Compute what the newest token reads of one image, and the share (patches) of each."""
    tokens = list(reversed([token[0, 0] for token in made.tokens]))  # the newest first
    all_MD = made.norm1(torch.cat([torch.stack(tokens), patches]))
    read, shares = [], []
    for head in range(HEADS):
        own = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        query, keys, values = made.attn.q(all_MD[0])[own], made.attn.k(all_MD)[:, own], made.attn.v(all_MD)[:, own]
        weights = ((keys @ query) / (DIM // HEADS) ** 0.5).softmax(dim=0)
        read.append(weights @ values)
        shares.append(weights[len(tokens) :])
    return made.attn.proj(torch.cat(read)), torch.stack(shares).mean(dim=0)


def slow(made: KnowledgeTransferBlock, first: float = 1.0, second: float = 1.0) -> Tensor:
    newest = made.tokens[-1][0, 0]
    rows = torch.stack([newest + first * slow_attention(made, patches)[0] for patches in INPUT])[:, None]
    return rows + second * made.mlp(made.norm2(rows))


@pytest.mark.parametrize("options", [{}, {"mlp": "linear"}, {"qkv_bias": False}], ids=str)
@pytest.mark.parametrize("tasks", [1, 2, 4])
def test_equals_a_loop_over_images_and_heads(tasks: int, options: dict[str, Any]) -> None:
    made = block(tasks, **options)
    with torch.no_grad():
        torch.testing.assert_close(made(INPUT), slow(made), atol=1e-5, rtol=1e-5)


def test_stochastic_depth_is_of_the_one_embedding() -> None:
    made = block(3)
    scales = torch.tensor([0.5, 2.0])[None, :, None].expand(1, 2, IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(made(INPUT, scales), slow(made, 0.5, 2.0), atol=1e-5, rtol=1e-5)


def test_pictures_show_the_share_of_each_patch() -> None:
    made = block(2)
    with torch.no_grad():
        found = made.attention(made.prepare(INPUT))
        expected = torch.stack([slow_attention(made, patches)[1] for patches in INPUT])[:, None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found.sum(dim=-1) < 1).all(), "the rest is what the token sees of tokens"


def test_one_embedding_that_every_token_moves() -> None:
    made = block(2)
    with torch.no_grad():
        before = made(INPUT)
        made.tokens[0] *= -1
        assert not torch.allclose(made(INPUT), before, atol=1e-3)
        made.grow()
        after = made(INPUT)
    assert (made.count(), made.embeddings(), after.shape) == (3, 1, (IMAGES, 1, DIM))
    assert not torch.allclose(after, before, atol=1e-3)
    assert made.task_vectors().shape == (3, DIM)


def test_parts_and_description() -> None:
    made = block(3)
    parts = {name: len(of) for name, of in made.parts().items() if name != "decoder"}
    assert parts == {"old_tokens": 2, "new_token": 1}
    assert block(3, expansion=False).count() == 1
    assert made.structure() == {"kind": "knowledge_transfer", "expansion": True, "mlp": "conv", "qkv_bias": True}
