"""DyTox's network: equal to the published implementation, to a loop over tokens, and of the published size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.build import build_network
from cl_lightning.models.convit import ConViT, GatedPositionalAttention
from cl_lightning.models.heads import IndependentHeads
from cl_lightning.models.network import branch_scales
from cl_lightning.models.task_attention import TaskAttentionBlock
from cl_lightning.models.task_network import TaskNetwork
from scripts.reference.vectors import VectorFile, rebuild
from tests.golden import GOLDEN


@pytest.fixture(scope="module")
def golden() -> VectorFile:
    return VectorFile(GOLDEN / "dytox_small.npz")


def network(classes: list[int], growth: dict[str, Any] | None = None, **sizes: int) -> TaskNetwork:
    options = {"image_size": 16, "patch_size": 4, "dim": 24, "num_heads": 4, "depth": 2} | sizes
    structure = {
        "kind": "task_network", "encoder": {"kind": "convit", **options}, "decoder": {"kind": "task_attention"},
        "diverge": True, "independent_heads": True, "classes": classes,
    }  # fmt: skip
    return build_network({**structure, **(growth or {})}, Key(0))  # type: ignore[return-value]


ONE_TOKEN = {"kind": "task_attention", "expansion": False}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("task", [0, 1, 2])
def test_forward_equals_the_published_implementation(golden: VectorFile, task: int) -> None:
    ours = rebuild(golden, task)
    with torch.no_grad():
        features = ours(golden.images)
        torch.testing.assert_close(features.maps[-1], golden[f"task{task}/tokens"], atol=1e-5, rtol=0)
        torch.testing.assert_close(features.embeddings, golden[f"task{task}/embeddings"], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.logits(features), golden[f"task{task}/logits"], atol=1e-5, rtol=0)
        if task:
            expected = golden[f"task{task}/divergence_logits"]
            torch.testing.assert_close(ours.auxiliary(features), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("classes", "without_divergence", "with_divergence"),
    [
        ([100], 10_723_216, None),
        ([10] * 10, 10_733_584, 10_738_587),
        ([5] * 20, 10_745_104, 10_748_182),
        ([2] * 50, 10_779_664, 10_781_587),
    ],
)  # fmt: skip
def test_cifar_parameter_counts_are_the_published_ones(
    classes: list[int], without_divergence: int, with_divergence: int | None
) -> None:
    net = network(classes, image_size=32, dim=384, num_heads=12, depth=5)
    divergence = 0 if net.divergence is None else count(net.divergence)
    assert count(net) - divergence == without_divergence
    assert with_divergence is None or count(net) == with_divergence


def test_imagenet_parameter_counts_are_the_published_ones() -> None:
    sizes = {"image_size": 224, "patch_size": 16, "dim": 384, "num_heads": 12, "depth": 5}
    assert count(network([100], **sizes)) == 11_050_384
    assert count(network([100] * 10, **sizes)) == 11_446_905


def one_token_at_a_time(
    block: TaskAttentionBlock, tokens_TD: Tensor, x_BND: Tensor, scales_TKB: Tensor | None
) -> Tensor:
    """The published formulation: each token is put before the patches and passes the block alone."""
    embeddings = []
    for t, token_D in enumerate(tokens_TD):
        e_B1D = token_D.expand(len(x_BND), 1, -1)
        z = block.norm1(torch.cat([e_B1D, x_BND], dim=1))
        heads, width = block.attn.num_heads, z.shape[-1] // block.attn.num_heads
        q = block.attn.q(z[:, :1]).view(len(z), 1, heads, width).transpose(1, 2) * width**-0.5
        k = block.attn.k(z).view(len(z), -1, heads, width).transpose(1, 2)
        v = block.attn.v(z).view(len(z), -1, heads, width).transpose(1, 2)
        attended = ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).reshape(len(z), 1, -1)
        first, second = (1.0, 1.0) if scales_TKB is None else (s[:, None, None] for s in scales_TKB[t])
        e_B1D = e_B1D + block.attn.proj(attended) * first
        embeddings.append(e_B1D + block.mlp(block.norm2(e_B1D)) * second)
    return torch.cat(embeddings, dim=1)


@pytest.mark.parametrize("num_tasks", [1, 7])
@pytest.mark.parametrize("stochastic_depth", [False, True])
def test_all_tokens_at_once_equal_the_loop_over_tokens(num_tasks: int, stochastic_depth: bool) -> None:
    with torch_seeded(Key(1)):
        block = TaskAttentionBlock(24, 4)
        for _ in range(num_tasks):
            block.append()
        for parameter in block.double().tokens:
            nn.init.normal_(parameter)
        patches = torch.randn(5, 16, 24, dtype=torch.double, requires_grad=True)
        scales = torch.rand(num_tasks, 2, 5, dtype=torch.double) if stochastic_depth else None
    ours, loop = block(patches, scales), one_token_at_a_time(block, block.tokens_TD(), patches, scales)
    torch.testing.assert_close(ours, loop, atol=1e-12, rtol=1e-12)
    inputs = [patches, *block.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours.sin().sum(), inputs), torch.autograd.grad(loop.sin().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_gated_attention_equals_the_materialised_form() -> None:
    """A = (1 - g) softmax(q k) + g softmax(position), divided by its row sums, times v: all per image, as published."""
    with torch_seeded(Key(2)):
        attention = GatedPositionalAttention(24, 4, 16).double()
        z = torch.randn(3, 16, 24, dtype=torch.double)
        attention.gating_param.data = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.double)
    q, k = (t.view(3, 16, 4, 6).transpose(1, 2) for t in attention.qk(z).split(24, dim=-1))
    v = attention.v(z).view(3, 16, 4, 6).transpose(1, 2)
    content = (q @ k.transpose(-1, -2) / 6**0.5).softmax(-1)
    relative = torch.zeros(16, 16, 3, dtype=torch.double)
    for n in range(16):
        for m in range(16):
            dx, dy = m % 4 - n % 4, m // 4 - n // 4
            relative[n, m] = torch.tensor([dx, dy, dx * dx + dy * dy])
    position = attention.pos_proj(relative).permute(2, 0, 1).softmax(-1).expand(3, -1, -1, -1)
    gate = attention.gating_param.sigmoid().view(1, -1, 1, 1)
    mixed = (1 - gate) * content + gate * position
    mixed = mixed / mixed.sum(-1, keepdim=True)
    expected = attention.proj((mixed @ v).transpose(1, 2).reshape(3, 16, 24))
    torch.testing.assert_close(attention(z), expected, atol=1e-12, rtol=1e-12)


def test_heads_together_equal_heads_one_by_one() -> None:
    with torch_seeded(Key(3)):
        heads = IndependentHeads(8)
        for size in (3, 1, 4):
            heads.grow(size)
        for parameter in heads.parameters():
            nn.init.normal_(parameter)
        e = torch.randn(5, 3, 8)
    one_by_one = torch.cat([head(e[:, t]) for t, head in enumerate(heads.heads)], dim=-1)
    torch.testing.assert_close(heads(e), one_by_one, atol=1e-5, rtol=1e-5)
    heads.grow(4)
    equal = IndependentHeads(8)
    for _ in range(3):
        equal.grow(2)
    torch.testing.assert_close(equal(e), torch.cat([h(e[:, t]) for t, h in enumerate(equal.heads)], dim=-1))


def test_initial_weights_follow_the_published_rules() -> None:
    net = network([10, 10], image_size=32, dim=384, num_heads=12, depth=2)
    attention = net.encoder.blocks[0].attn  # type: ignore[union-attr,index]
    assert torch.equal(attention.v.weight, torch.eye(384))
    assert torch.equal(attention.gating_param, torch.ones(12))
    for h1 in range(3):
        for h2 in range(3):
            assert attention.pos_proj.weight[h1 + 3 * h2].tolist() == [2.0 * (h2 - 1), 2.0 * (h1 - 1), -1.0]
    assert attention.pos_proj.weight[9:].abs().max() < 0.1
    assert attention.qk.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert net.decoder.tokens[1].std().item() == pytest.approx(0.02, rel=0.2)
    bound = 384**-0.5
    head = net.classifier.heads[0].head  # type: ignore[union-attr]
    assert bound * 0.9 < head.weight.abs().max() <= bound


def test_growth_adds_a_token_and_a_head_and_moves_no_old_score() -> None:
    net = network([3, 2])
    with torch_seeded(Key(5)):
        images = torch.randn(4, 3, 16, 16)
    before, old = net.logits(net(images)), count(net) - count(net.divergence)  # type: ignore[arg-type]
    first_divergence = net.divergence
    net.grow(4, Key(0))
    after = net.logits(net(images))
    assert after.shape == (4, 9)
    torch.testing.assert_close(after[:, :5], before, atol=1e-6, rtol=1e-6)
    assert count(net) - count(net.divergence) == old + 24 + 2 * 24 + 4 * 24 + 4  # type: ignore[arg-type]
    assert net.divergence is not first_divergence
    assert net.divergence.head.out_features == 5  # type: ignore[union-attr]


def test_growth_draws_from_its_key_and_task() -> None:
    a, b, c = network([2, 2]), network([2, 2]), network([2])
    c.grow(2, Key(99))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.decoder.tokens[0], a.decoder.tokens[1])
    assert not torch.equal(a.decoder.tokens[1], c.decoder.tokens[1])


def test_parts_are_disjoint_and_cover_every_parameter() -> None:
    net = network([3, 2, 4])
    listed = [id(p) for parameters in net.parts().values() for p in parameters]
    assert sorted(listed) == sorted(id(p) for p in net.parameters())
    assert len(net.parts()["old_tokens"]) == 2
    assert len(net.parts()["new_head"]) == 4


def test_structure_rebuilds_the_same_network() -> None:
    net = network([3, 2, 4])
    again = build_network(net.structure(), Key(123))
    again.load_state_dict(net.state_dict(), strict=True)
    with torch_seeded(Key(5)):
        images = torch.randn(2, 3, 16, 16)
    assert torch.equal(net.logits(net(images)), again.logits(again(images)))


def test_stochastic_depth_is_per_image_scaled_and_silent_in_frozen_parts() -> None:
    net = network([3, 2], depth=5)
    rates = [branch.rate for branch in net.branches()]
    assert rates == pytest.approx([0, 0, 0.02, 0.02, 0.04, 0.04, 0.06, 0.06, 0.08, 0.08] + [0.1] * 4)
    scales = branch_scales(net.branches(), Key(0), torch.arange(4000), frozenset())
    assert scales is not None
    assert scales.shape == (14, 4000)
    dropped = (scales == 0).float().mean(dim=1)
    assert (dropped - torch.tensor(rates)).abs().max() < 0.025
    assert scales[-1].unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert scales.mean(dim=1) == pytest.approx(torch.ones(14), abs=0.03)
    frozen = branch_scales(net.branches(), Key(0), torch.arange(4000), frozenset({"encoder"}))
    assert frozen is not None
    assert torch.equal(frozen[:10], torch.ones(10, 4000))
    assert (frozen[10:] == 0).any()
    assert branch_scales(net.branches(), Key(0), torch.arange(4), frozenset({"encoder", "decoder"})) is None


def test_dropping_both_branches_of_all_blocks_leaves_the_input_of_the_encoder() -> None:
    encoder = ConViT(image_size=16, dim=24, num_heads=4, depth=2)
    with torch_seeded(Key(5)):
        images = torch.randn(2, 3, 16, 16)
    tokens, _ = encoder(images, torch.zeros(4, 2))
    embedded = F.conv2d(images, encoder.patch_embed.weight, encoder.patch_embed.bias, stride=4)
    torch.testing.assert_close(tokens, embedded.flatten(2).transpose(1, 2) + encoder.pos_embed)


# ---- what the ablation takes away --------------------------------------------------------------------------------

KINDS = [
    {"decoder": {"kind": "task_attention", "expansion": tokens}, "independent_heads": heads, "diverge": diverge}
    for tokens in (True, False)
    for heads in (True, False)
    for diverge in (True, False)
]
IMAGES = rng.normal(Key(5), torch.arange(4 * 3 * 16 * 16)).view(4, 3, 16, 16)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_network_has_the_parts_of_the_published_one(kind: dict[str, Any]) -> None:
    for tasks in (1, 2, 3):
        net = network([3, 2, 4][:tasks], kind)
        tokens = tasks if kind["decoder"]["expansion"] else 1
        features = net(IMAGES, torch.ones(len(net.branches()), 4))
        assert features.embeddings.shape == (4, tokens, 24)
        assert net.logits(features).shape == (4, sum([3, 2, 4][:tasks]))
        auxiliary = net.auxiliary(features)
        assert (auxiliary is not None) == (kind["diverge"] and tasks > 1)
        assert auxiliary is None or auxiliary.shape == (4, [3, 2, 4][tasks - 1] + 1)
        parts = net.parts()
        assert list(parts) == [
            "encoder", "decoder", "old_tokens", "new_token", "old_heads", "new_head", "divergence"
        ]  # fmt: skip
        assert sorted(id(p) for part in parts.values() for p in part) == sorted(id(p) for p in net.parameters())
        assert (len(parts["old_tokens"]), len(parts["new_token"])) == (tokens - 1, 1)
        assert len(parts["old_heads"]) == (4 * (tasks - 1) if kind["independent_heads"] else 0)
        assert len(parts["new_head"]) == 4


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_network_is_rebuilt_from_its_structure(kind: dict[str, Any]) -> None:
    net = network([3, 2, 4], kind)
    again = build_network(net.structure(), Key(123))
    again.load_state_dict(net.state_dict(), strict=True)
    assert again.structure() == net.structure()
    assert torch.equal(net.logits(net(IMAGES)), again.logits(again(IMAGES)))
    for grown in (net, again):
        grown.grow(2, Key(7))
    assert again.structure()["classes"] == [3, 2, 4, 2]
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


@pytest.mark.parametrize("expansion", [True, False])
def test_checkpoints_of_before_there_were_other_decoders_are_read(expansion: bool) -> None:
    """Then the tokens stood beside the decoder, and a still older structure did not say what grows."""
    net = network([3, 2], None if expansion else {"decoder": ONE_TOKEN})
    older = {**net.structure(), "kind": "token_network", **({} if expansion else {"independent_heads": True})}
    for name in ("decoder", "classifier"):
        del older[name]
    read = build_network(older if expansion else older | {"token_expansion": False}, Key(9))
    assert read.structure() == net.structure()
    weights = {name.replace("decoder.tokens.", "tokens."): value for name, value in net.state_dict().items()}
    assert "tokens.0" in weights
    read.load_state_dict(weights, strict=True)
    assert torch.equal(read.logits(read(IMAGES)), net.logits(net(IMAGES)))


def test_names_of_weights_stay_what_they_are() -> None:
    assert [name for name in network([3, 2]).state_dict() if not name.startswith(("encoder.", "decoder.norm"))] == [
        *(f"decoder.attn.{name}" for name in ("q.weight", "k.weight", "v.weight", "proj.weight", "proj.bias")),
        *(f"decoder.mlp.{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")),
        "decoder.tokens.0", "decoder.tokens.1",
        "classifier.heads.0.norm.weight", "classifier.heads.0.norm.bias",
        "classifier.heads.0.head.weight", "classifier.heads.0.head.bias",
        "classifier.heads.1.norm.weight", "classifier.heads.1.norm.bias",
        "classifier.heads.1.head.weight", "classifier.heads.1.head.bias",
        "divergence.norm.weight", "divergence.norm.bias", "divergence.head.weight", "divergence.head.bias",
    ]  # fmt: skip


@pytest.mark.parametrize("independent_heads", [True, False])
def test_without_token_expansion_growth_leaves_the_token_and_moves_no_old_score(independent_heads: bool) -> None:
    net = network([3], {"decoder": ONE_TOKEN, "independent_heads": independent_heads})
    with torch.no_grad():
        net.decoder.tokens[0] += 0.3
    token, scores = net.decoder.tokens[0].detach().clone(), net.logits(net(IMAGES))
    for size in (2, 4):
        net.grow(size, Key(1))
    assert len(net.decoder.tokens) == 1
    assert torch.equal(net.decoder.tokens[0], token)
    torch.testing.assert_close(net.logits(net(IMAGES))[:, :3], scores, atol=1e-6, rtol=1e-6)


def test_a_joint_head_on_all_tokens_is_of_the_size_that_follows() -> None:
    """LayerNorm of T D scales and shifts, C rows of T D weights, C biases."""
    net = network([3, 2, 4], {"independent_heads": False})
    assert count(net.classifier) == 2 * 72 + 9 * 72 + 9
