"""A transformer that is masked for each task: what is drawn for a step, and what is kept of a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models import masks
from cl_lightning.models.build import build_network
from cl_lightning.models.masked_network import MaskedNetwork
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.vit_weights import timm_sizes

SIZES: dict[str, Any] = {
    "image_size": 8, "channels": 1, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0
}  # fmt: skip
DEIT_TINY = {"image_size": 224, "channels": 3, "patch_size": 16, "dim": 192, "depth": 12, "num_heads": 3}
IMAGES = rng.normal(Key(0), torch.arange(3)[:, None], torch.arange(64)).view(3, 1, 8, 8)
POSITIONS = torch.arange(3)


def normal(seed: int, *shape: int) -> Tensor:
    return rng.normal(Key(seed), torch.arange(math.prod(shape))).view(shape)


def network(*classes: int, packed: int | None = None, **options: Any) -> MaskedNetwork:
    structure = {
        "kind": "masked_network", "vit": {"kind": "plain_vit", **SIZES}, "token_mask_blocks": [0, 1], **options,
        "classes": list(classes), "packed": len(classes) if packed is None else packed,
    }  # fmt: skip
    made = build_network(structure, Key(1))
    assert isinstance(made, MaskedNetwork)
    return made


@torch.no_grad()
def shuffle_masks(net: MaskedNetwork, seed: int) -> None:
    """Logits that drop about a third."""
    assert net.token_logits is not None
    assert net.ffn_logits is not None
    for place, logits in enumerate([net.token_logits, *net.ffn_logits]):
        logits.copy_(normal(100 * seed + place, *logits.shape) + 0.4)


# ---- the transformer ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sizes_come_from_timm_by_name_and_other_transformers_are_refused() -> None:
    expected = {**DEIT_TINY, "mlp_ratio": 4.0}
    assert timm_sizes("deit_tiny_patch16_224", 224, 3, None) == expected
    assert timm_sizes("vit_tiny_patch16_224", 8, 1, 2) == {
        **expected, "image_size": 8, "channels": 1, "patch_size": 2
    }  # fmt: skip
    for name in ("deit_tiny_distilled_patch16_224", "deit3_small_patch16_224", "resnet18"):
        with pytest.raises(ValueError, match=r"pass name=\S*vit_tiny|pass name=deit_tiny"):
            timm_sizes(name, 224, 3, None)


# ---- attention under a mask --------------------------------------------------------------------------------------


def test_a_dropped_patch_has_a_gradient_and_can_come_back() -> None:
    net = network(3, packed=0)
    assert net.token_logits is not None
    with torch.no_grad():
        net.token_logits[1] = -9.0
    features = net.newest(IMAGES)
    assert (features.maps[0][:, 1] == 0).all()
    net.newest_logits(features).square().sum().backward()
    assert net.token_logits.grad is not None
    assert net.token_logits.grad.isfinite().all()
    assert net.token_logits.grad[1] != 0


# ---- drawn masks -------------------------------------------------------------------------------------------------


def test_noise_is_of_the_image_or_of_the_step_and_of_nothing_else() -> None:
    net = network(3, packed=0)
    shuffle_masks(net, 1)
    frozen = frozenset({"backbone"})
    steps = torch.tensor([0, 0, 1])
    together = net.noise(Key(1), POSITIONS, steps, frozen)
    assert together is not None
    alone = [net.noise(Key(1), POSITIONS[k : k + 1], steps[k : k + 1], frozen) for k in range(3)]
    assert torch.equal(torch.cat(alone, dim=1), together)  # type: ignore[arg-type]
    assert len(together[0].unique()) == 3, "each image has its own token masks"
    assert together[1, 0] == together[1, 1] != together[1, 2], "a step has one draw for the weights"
    whole = torch.stack(net.newest(IMAGES, together).maps)
    single = torch.stack(net.newest(IMAGES[1:2], alone[1]).maps)
    assert torch.equal(whole[:, 1:2], single)
    assert not torch.equal(whole[0, 0], whole[1, 0]), "each block has its own"
    other = net.noise(Key(2), POSITIONS, steps, frozen)
    assert not torch.equal(torch.stack(net.newest(IMAGES, other).maps), whole)


def test_stochastic_depth_is_drawn_with_the_masks() -> None:
    net = build_network(
        {**network().structure(), "vit": {"kind": "plain_vit", **SIZES, "drop_path": 0.5}, "classes": [2]}, Key(0)
    )
    many = torch.arange(2000)
    noise = net.noise(Key(1), many, many, frozenset())
    assert isinstance(net, MaskedNetwork)
    given: list[Tensor | None] = []
    net.vit.register_forward_pre_hook(lambda _, arguments: given.append(arguments[2]))
    images = torch.zeros(2000, 1, 8, 8)
    with torch.no_grad():
        net.newest(images, noise)
        net.newest(images, net.noise(Key(1), many, many, frozenset({"backbone"})))
    scales, of_frozen = given
    assert of_frozen is None
    assert scales is not None
    assert scales.shape == (4, 2000)
    assert scales[3].unique().tolist() == [0.0, 2.0]
    assert scales.mean(dim=1).tolist() == pytest.approx([1, 1, 1, 1], abs=0.1)


# ---- what is kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wider", "blocks", "token_bytes", "ffn_bits"),
    [(1, range(12), 294, 3_538_944), (1, (3, 6, 9), 74, 3_538_944), (2, range(12), 294, 14_155_776)],
)
def test_published_sizes_of_a_task(wider: int, blocks: Sequence[int], token_bytes: int, ffn_bits: int) -> None:
    """DeiT-Ti and DeiT-S: bits and a head are all that is kept."""
    with torch.device("meta"):
        net = MaskedNetwork(PlainViT(**{**DEIT_TINY, "dim": 192 * wider}), token_mask_blocks=blocks)
        net.grow(10, Key(0))
        net.pack()
    kept = dict(net.kept.named_buffers())
    assert {name: (len(bits), bits.dtype) for name, bits in kept.items()} == {
        "0.token_bits": (token_bytes, torch.uint8),
        "0.ffn_bits": (ffn_bits // 8, torch.uint8),
    }
    assert not any(name.startswith("kept") for name, _ in net.named_parameters())
    assert sum(p.numel() for p in net.heads.parameters()) == (192 * wider + 1) * 10


def test_a_packed_task_s_masks_are_those_of_its_logits_and_close_to_how_they_were_trained() -> None:
    net = network(3, packed=0)
    shuffle_masks(net, 1)
    with torch.no_grad():
        trained = net.newest(IMAGES).embeddings
        net.eval()
        unpacked = net(IMAGES).embeddings
        torch.testing.assert_close(unpacked, trained, atol=1e-5, rtol=1e-4)
        dropped = net.dropped()
        counts = [net.token_logits.numel(), sum(each.numel() for each in net.ffn_logits)]  # type: ignore[union-attr]
        net.pack()
        packed = net(IMAGES).embeddings
    assert torch.equal(packed, unpacked)
    assert (packed[:, 0] - net.plain(IMAGES)).abs().max() > 0.01, "masks matter"
    assert list(dropped) == ["tokens", "weights"]
    for share, bits, count in zip(dropped.values(), net.kept[0].buffers(), counts, strict=True):
        mask = masks.unpack(bits, count)
        assert 0.2 < share.item() < 0.5
        assert share.item() == pytest.approx((~mask).double().mean().item(), abs=1e-6)
    assert net.dropped() == {}


def test_folded_weights_are_kept_for_an_evaluation_and_no_longer() -> None:
    net = network(3, packed=0)
    shuffle_masks(net, 1)
    net.pack()
    net.eval()
    with torch.no_grad():
        first = net(IMAGES).embeddings
        assert net.folded(0) is net.folded(0)
        assert torch.equal(net(IMAGES).embeddings, first)
        net.vit.layers()[0].mlp.fc1.weight.mul_(2)
        net.eval()
        assert not torch.equal(net(IMAGES).embeddings, first)
        before = net.folded(0)
        net.load_state_dict(net.state_dict())
        assert net.folded(0) is not before
    net.eval()
    assert net.folded(0) is not net.folded(0), "nothing is kept that would have gradients"
    with torch.inference_mode():
        net(IMAGES)
    net(IMAGES.clone().requires_grad_()).embeddings.sum().backward()  # what inference mode kept would refuse


def test_tasks_without_masks_share_a_pass() -> None:
    net = network(2, 3, token_mask_blocks=[], ffn_masks=False).eval()
    assert net.parts()["token_masks"] == net.parts()["ffn_masks"] == []
    passes = []
    net.vit.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        assert net.logits(net(IMAGES)).shape == (3, 5)
    assert len(passes) == 1


def test_new_masks_start_from_nothing_that_another_task_has_learnt() -> None:
    net = network(3, packed=0)
    shuffle_masks(net, 1)
    net.grow(2, Key(5))
    assert net.token_logits is not None
    assert (net.token_logits == 8).all()
    assert len(net.kept) == 1
    again = build_network(net.structure(), Key(9))
    again.load_state_dict(net.state_dict(), strict=True)
    net.eval()
    again.eval()
    assert torch.equal(net.logits(net(IMAGES)), again.logits(again(IMAGES)))
