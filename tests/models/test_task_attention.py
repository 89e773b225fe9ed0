"""DyTox's decoder against a loop over images, tasks and heads, written from the paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.task_attention import TaskAttentionBlock

DIM, HEADS, PATCHES, IMAGES = 8, 2, 5, 3
INPUT = rng.normal(Key(1), torch.arange(IMAGES * PATCHES * DIM)).view(IMAGES, PATCHES, DIM)


def block(tasks: int, *, expansion: bool = True) -> TaskAttentionBlock:
    with torch_seeded(Key(2)):
        made = TaskAttentionBlock(DIM, HEADS, 2.0, expansion=expansion)
        for _ in range(tasks):
            made.grow()
        for parameter in made.parameters():  # large enough to be told apart
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def slow_attention(made: TaskAttentionBlock, token: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
    """What one token reads of one image, and the share (patches) of each; the token is first among keys."""
    all_ND = made.norm1(torch.cat([token[None], patches]))
    attention, size = made.attn, DIM // HEADS
    read, shares = [], []
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        query = attention.q(all_ND[0])[own]
        keys, values = attention.k(all_ND)[:, own], attention.v(all_ND)[:, own]
        weights = torch.stack([(query * key).sum() / size**0.5 for key in keys]).softmax(dim=0)
        read.append((weights[:, None] * values).sum(dim=0))
        shares.append(weights[1:])
    return attention.proj(torch.cat(read)), torch.stack(shares).mean(dim=0)


def slow(made: TaskAttentionBlock, scales_TKB: Tensor | None = None) -> Tensor:
    rows = []
    for image, patches in enumerate(INPUT):
        for task, token in enumerate(made.tokens_TD()):
            first, second = (1.0, 1.0) if scales_TKB is None else scales_TKB[task, :, image].tolist()
            x = token + first * slow_attention(made, token, patches)[0]
            hidden = F.gelu(made.mlp.fc1(made.norm2(x)))
            rows.append(x + second * made.mlp.fc2(hidden))
    return torch.stack(rows).view(IMAGES, -1, DIM)


@pytest.mark.parametrize("tasks", [1, 2, 4])
def test_equals_a_loop_over_images_tasks_and_heads(tasks: int) -> None:
    made = block(tasks)
    with torch.no_grad():
        torch.testing.assert_close(made(INPUT), slow(made), atol=1e-5, rtol=1e-5)


def test_stochastic_depth_is_of_each_task_and_image() -> None:
    made = block(2)
    scales = torch.tensor([0.0, 1.0, 2.0, 0.5]).repeat(3).view(2, 2, IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(made(INPUT, scales), slow(made, scales), atol=1e-5, rtol=1e-5)


def test_pictures_show_the_share_of_each_patch() -> None:
    made = block(2)
    with torch.no_grad():
        found = made.attention(made.prepare(INPUT))
        expected = [[slow_attention(made, token, patches)[1] for token in made.tokens_TD()] for patches in INPUT]
    torch.testing.assert_close(found, torch.stack([torch.stack(of) for of in expected]), atol=1e-5, rtol=1e-5)
    assert (found.sum(dim=-1) < 1).all(), "the rest is what a token sees of itself"


def test_a_new_token_changes_no_old_answer() -> None:
    made = block(2)
    with torch.no_grad():
        before = made(INPUT)
        made.grow()
        after = made(INPUT)
    assert after.shape == (IMAGES, 3, DIM)
    torch.testing.assert_close(after[:, :2], before, atol=1e-6, rtol=1e-6)


def test_parts_of_old_tasks_the_newest_and_all() -> None:
    made = block(3)
    parts = made.parts()
    assert {name: len(of) for name, of in parts.items() if name != "decoder"} == {"old_tokens": 2, "new_token": 1}
    assert parts["new_token"][0] is made.tokens[2]
    together = [id(parameter) for of in parts.values() for parameter in of]
    assert sorted(together) == sorted(id(parameter) for parameter in made.parameters())
    assert block(0).parts()["new_token"] == []


def test_without_expansion_one_token_serves_all_and_goes_on_learning() -> None:
    made = block(3, expansion=False)
    assert made.count() == 1
    assert (len(made.parts()["old_tokens"]), len(made.parts()["new_token"])) == (0, 1)
    assert made.structure() == {"kind": "task_attention", "expansion": False}
