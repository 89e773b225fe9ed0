"""RPS-Net's layers: sums of modules, paths that come and go, sizes, and its description."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_backbone
from cl_lightning.models.path_network import FIRST, LAYERS, PathBackbone, described

SECOND = (0, 1, 2, 0, 1, 0, 3, 0, 1)
IMAGES = rng.normal(Key(1), torch.arange(2 * 3 * 256)).view(2, 3, 16, 16)


def made(*paths: tuple[int, ...], width: int = 2, stem: str = "small", layer7_residual: bool = True) -> PathBackbone:
    with rng.torch_seeded(Key(0)):
        texts = [described(path) for path in paths or (FIRST,)]
        backbone = PathBackbone(width=width, stem=stem, layer7_residual=layer7_residual, modules=4, paths=texts)
    backbone.eval()
    return backbone


def by_hand(backbone: PathBackbone, *, layer7: bool = True) -> Tensor:
    """Apply the layers one after another; ReLUs are in place, so the modules get copies."""
    x = IMAGES
    for number, layer in enumerate(backbone.layers, start=1):
        total = torch.zeros(())
        for module in layer.choices.values():  # type: ignore[union-attr]
            total = total + module(x.clone())
        if number in (4, 6, 8):
            total = total + layer.link(x.clone())  # type: ignore[operator]
        if number in (2, 3, 5, 9) or (number == 7 and layer7):
            total = total + x
        x = total.relu()
        if number in (5, 7):
            x = F.max_pool2d(x, 2)
    return x.mean(dim=(2, 3))


@pytest.mark.parametrize("layer7", [True, False])
def test_a_layer_adds_up_its_modules_with_link_or_input(layer7: bool) -> None:
    backbone = made(FIRST, SECOND, layer7_residual=layer7)
    vectors, maps = backbone(IMAGES)
    torch.testing.assert_close(vectors, by_hand(backbone, layer7=layer7))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (2, 16, 16), (2, 16, 16), (2, 16, 16), (4, 16, 16), (4, 8, 8), (8, 8, 8), (8, 4, 4), (16, 4, 4), (16, 4, 4),
    ]  # fmt: skip


def test_sizes_are_the_published_ones() -> None:
    """12.60 M on one path, 89.59 M in all with 100 classes; five paths that share nothing are 56.60 M."""
    with torch.device("meta"):
        counts = [
            sum(
                p.numel()
                for p in PathBackbone(modules=n, paths=[described((k,) * LAYERS) for k in range(n)]).parameters()
            )
            for n in (1, 5, 8)
        ]
    assert [count + 51300 for count in counts] == [12_601_188, 56_596_836, 89_593_572]


def test_the_large_stem_halves_five_times() -> None:
    backbone = made(stem="large")
    assert backbone.layers[0].choices["0"][0].kernel_size == (7, 7)  # type: ignore[union-attr,index]
    maps = backbone(torch.zeros(1, 3, 64, 64))[1]
    assert [each.shape[-1] for each in maps] == [32, 32, 16, 16, 8, 8, 4, 4, 2]


def test_a_new_path_builds_what_is_new_and_can_be_taken_away() -> None:
    backbone = made(FIRST)
    before, alone = backbone(IMAGES)[0], {name: value.clone() for name, value in backbone.state_dict().items()}
    with rng.torch_seeded(Key(3)):
        backbone.add_path(SECOND)
    links = [f"layers.{layer}.link" for layer in (3, 5, 7)]
    brought = [f"layers.{layer}.choices.{SECOND[layer]}" for layer in range(LAYERS) if SECOND[layer]]
    assert sorted(backbone.trained_modules()) == sorted(links + brought)
    assert not torch.allclose(backbone(IMAGES)[0], before), "they count at once"
    backbone.remove_path()
    assert backbone.paths == (FIRST,)
    assert list(backbone.state_dict()) == list(alone)
    assert torch.equal(backbone(IMAGES)[0], before)


def test_parts_hold_each_parameter_once() -> None:
    backbone = made(FIRST, SECOND)
    parts = backbone.parts()
    listed = [id(p) for parameters in parts.values() for p in parameters]
    assert sorted(listed) == sorted(id(p) for p in backbone.parameters())
    offsets = {id(p) for p in parts["offsets"]}
    biases = [name for name, p in backbone.named_parameters() if id(p) in offsets]
    convolutions = [name for name, each in backbone.named_modules() if isinstance(each, torch.nn.Conv2d)]
    assert biases == [f"{name}.bias" for name in convolutions]
    assert parts["old_paths"], "the first path's"
    assert not made(FIRST).parts()["old_paths"]


def test_a_bias_in_front_of_batch_norm_moves_no_output_in_training() -> None:
    """Hence it is in a part of its own, which nothing trains."""
    backbone = made(FIRST).train()
    before = backbone(IMAGES)[0]
    for bias in backbone.parts()["offsets"]:
        bias.data += 1
    torch.testing.assert_close(backbone(IMAGES)[0], before, atol=1e-4, rtol=1e-4)


def test_it_is_built_again_from_its_description() -> None:
    backbone = made(FIRST, SECOND, FIRST)
    again = build_backbone(backbone.structure())
    again.load_state_dict(backbone.state_dict(), strict=True)
    assert list(again.state_dict()) == list(backbone.state_dict())
    assert again.structure() == backbone.structure()
    assert torch.equal(again.eval()(IMAGES)[0], backbone(IMAGES)[0])


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_images_may_be_small(side: int) -> None:
    assert made()(torch.zeros(2, 3, side, side))[0].shape == (2, 16)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"width": 0}, "width=0"),
        ({"stem": "huge"}, "stem=huge"),
        ({"paths": ["0-1"]}, "paths=0-1 is no path of 9 modules from 0 to 0"),
        ({"modules": 2, "paths": ["0-0-0-2-0-0-0-0-0"]}, "no path of 9 modules from 0 to 1"),
        ({"paths": ["x"]}, "no path of 9 modules"),
    ],
)
def test_other_sizes_are_refused(changed: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidSettingError, match=told):
        PathBackbone(**changed)  # type: ignore[arg-type]
