"""The branch that reconstructs patches: its size, what it reaches, and that nothing but training knows of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.losses.reconstruction import reconstruction_errors
from cl_lightning.methods.base import frozen_copy
from cl_lightning.models.build import build_encoder, build_network
from cl_lightning.models.conv_vit import ConvViT
from cl_lightning.models.convit import ConViT
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.reconstruction import Reconstruction, masked_patches, sine_positions, visible_rows
from cl_lightning.models.task_network import TaskNetwork

CONVIT = {
    "kind": "convit", "image_size": 16, "channels": 1, "patch_size": 4, "dim": 16, "num_heads": 4, "depth": 2,
    "drop_path": 0.3,
}  # fmt: skip
TIMM = {"kind": "timm_vit", "name": "vit_tiny_patch16_224", "image_size": 16, "channels": 1, "patch_size": 4}
BRANCH = {"mask": 0.75, "ffn_ratio": 2.0}
IMAGES = rng.normal(Key(0), torch.arange(3 * 256)).view(3, 1, 16, 16)
POSITIONS = torch.tensor([5, 0, 9])
ROWS = torch.tensor([[0, 5, 7, 15], [1, 2, 3, 4], [3, 8, 9, 12]])


def network(*, branch: bool = True, encoder: dict[str, Any] | None = None, tasks: int = 2) -> TaskNetwork:
    structure = {
        "kind": "task_network", "encoder": encoder or CONVIT, "diverge": True, "classes": [2, 3][:tasks],
        "decoder": {"kind": "task_attention", "expansion": True}, "classifier": {"kind": "independent"},
        **({"reconstruction": BRANCH} if branch else {}),
    }  # fmt: skip
    made = build_network(structure, Key(4))
    assert isinstance(made, TaskNetwork)
    return made


def moved(encoder: Encoder) -> Encoder:
    """Weights that are no longer special: gates and positions differ from head to head."""
    with torch.no_grad(), rng.torch_seeded(Key(8)):
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.double().eval()


def noise(made: TaskNetwork, frozen: frozenset[str] = frozenset()) -> Tensor:
    drawn = made.noise(Key(3), POSITIONS, torch.zeros(3, dtype=torch.int64), frozen)
    assert drawn is not None
    return drawn


def test_published_size() -> None:
    branch = Reconstruction(dim=384, num_heads=12, num_patches=64, values=48)
    assert sum(parameter.numel() for parameter in branch.parameters()) == 1_202_352
    assert branch.visible == 16
    assert [masked_patches(n, 0.75) for n in (64, 196, 2)] == [48, 147, 1]
    assert (masked_patches(4, 0.999), masked_patches(4, 0.001)) == (3, 1), "never all and never none"


def whole_with_masked_keys(encoder: ConViT, images: Tensor, rows: Tensor) -> Tensor:
    """All patches of one image pass; keys that are not seen have the score -inf, of content and of position."""
    x = encoder.embed_patches(images) + encoder.pos_embed
    seen = torch.zeros(x.shape[1], dtype=torch.bool).index_fill(0, rows, True)
    for module in encoder.blocks:
        block: Any = module
        attn = block.attn
        z = block.norm1(x)
        q, k = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in attn.qk(z).chunk(2, dim=-1))
        v = attn.v(z).unflatten(-1, (4, -1)).transpose(1, 2)
        content = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).masked_fill(~seen, float("-inf")).softmax(-1)
        position = attn.position_attention().log().masked_fill(~seen, float("-inf")).softmax(-1)
        gate = torch.sigmoid(attn.gating_param).view(-1, 1, 1)
        read = ((1 - gate) * content + gate * position) @ v
        x = x + attn.proj(read.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    return x[:, rows]


def test_visible_patches_of_convit_are_a_whole_pass_with_masked_keys() -> None:
    encoder: Any = moved(build_encoder(CONVIT))
    found = encoder.visible(IMAGES.double(), ROWS)
    for image, rows in enumerate(ROWS):
        expected = whole_with_masked_keys(encoder, IMAGES[image : image + 1].double(), rows)
        torch.testing.assert_close(found[image : image + 1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("structure", [CONVIT, TIMM])
def test_all_patches_visible_are_the_encoder(structure: dict[str, Any]) -> None:
    encoder = moved(build_encoder(structure))
    every = torch.arange(16).expand(3, 16).contiguous()
    torch.testing.assert_close(encoder.visible(IMAGES.double(), every), encoder(IMAGES.double())[0])
    turned = encoder.visible(IMAGES.double(), ROWS.flip(1))
    torch.testing.assert_close(turned.flip(1), encoder.visible(IMAGES.double(), ROWS)), "the order says nothing"


def test_an_encoder_with_convolutions_cannot() -> None:
    encoder = ConvViT(image_size=16, channels=1, patch_size=4, dim=16, num_heads=4, depth=2)
    assert encoder.patch_size == 0 or encoder.structure()["patch_size"] == 4
    with pytest.raises(NotImplementedError, match="ConvViT cannot leave patches out"):
        encoder.visible(IMAGES, ROWS)


def test_its_gradient_reaches_the_encoder_and_itself_alone() -> None:
    made = network()
    made.train()
    found = made.reconstructed(IMAGES, noise(made))
    assert found is not None
    reconstruction_errors(*found, IMAGES).mean().backward()
    reached = {name for name, part in made.parts().items() if any(p.grad is not None and p.grad.any() for p in part)}
    assert reached == {"encoder", "reconstruction"}
    assert all(
        p.grad is None for name in ("decoder", "new_token", "new_head", "divergence") for p in made.parts()[name]
    )


def test_scores_do_not_know_of_it() -> None:
    with_it, without = network(), network(branch=False)
    drawn = noise(with_it)
    branches = len(with_it.branches())
    assert torch.equal(drawn[:branches], noise(without)), "stochastic depth is drawn as without it"
    assert drawn.shape == (branches + 16, 3)
    for given, alone in ((None, None), (drawn, drawn[:branches])):
        assert torch.equal(with_it.logits(with_it(IMAGES, given)), without.logits(without(IMAGES, alone)))
    kept = {key: value for key, value in with_it.state_dict().items() if not key.startswith("reconstruction.")}
    assert all(torch.equal(value, kept[key]) for key, value in without.state_dict().items())
    assert kept.keys() == without.state_dict().keys()


def test_without_stochastic_depth_scores_are_the_same_to_the_bit() -> None:
    still = {**CONVIT, "drop_path": 0.0}
    with_it, without = network(encoder=still), network(encoder=still, branch=False)
    assert without.noise(Key(3), POSITIONS, POSITIONS, frozenset()) is None
    assert torch.equal(with_it(IMAGES, noise(with_it)).embeddings, without(IMAGES).embeddings)


def test_masks_are_drawn_for_each_image_by_itself() -> None:
    made = network()
    drawn, branches = noise(made), len(made.branches())
    rows = visible_rows(drawn[branches:], 4)
    assert all(sorted(set(each)) == each for each in rows.tolist()), "rising, none twice"
    for image in range(3):
        alone = made.noise(Key(3), POSITIONS[image : image + 1], POSITIONS[:1], frozenset())
        assert alone is not None
        assert torch.equal(visible_rows(alone[branches:], 4)[0], rows[image])
    again = made.noise(Key(4), POSITIONS, POSITIONS, frozenset())
    assert again is not None
    assert not torch.equal(visible_rows(again[branches:], 4), rows), "another pass, another mask"


def test_fine_tuning_has_no_draws_of_it() -> None:
    made = network()
    drawn = noise(made, frozenset({"encoder", "reconstruction"}))
    assert len(drawn) == len(made.branches())
    assert made.reconstructed(IMAGES, drawn) is None
    assert made.reconstructed(IMAGES, None) is None


def test_neither_a_teacher_nor_a_model_has_it() -> None:
    made = network()
    teacher: Any = frozen_copy(made)
    assert teacher.reconstruction is None
    assert made.reconstruction is not None
    assert "reconstruction" not in teacher.structure()
    assert len(made.training_only()) == len(list(made.reconstruction.parameters()))
    assert teacher.training_only() == []


def test_it_is_built_again_from_its_description() -> None:
    made = network()
    again = build_network(made.structure(), Key(9))
    again.load_state_dict(made.state_dict(), strict=True)
    assert again.structure() == made.structure()
    assert "reconstruction" not in network(branch=False).structure(), "as before there was any"


def test_positions_are_sines_of_columns_then_rows() -> None:
    table = sine_positions(3, 8)
    assert table.shape == (9, 8)
    expected = torch.tensor([torch.sin(torch.tensor(2.0)), torch.sin(torch.tensor(0.02))])
    torch.testing.assert_close(table[2, :2], expected), "column 2"
    torch.testing.assert_close(table[6, 4:6], expected), "row 2"
    assert torch.equal(sine_positions(2, 6)[:, 4:], torch.zeros(4, 2))
