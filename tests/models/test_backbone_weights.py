"""Weights that a backbone starts from: files of timm, torchvision and ours; what does not fit is told in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.backbone_weights import backbone_file_weights, check_pretrained, timm_backbone_weights
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.resnet import CifarResNet, ResNet18
from cl_lightning.models.timm_backbone import TimmBackbone

SIZES: dict[str, Any] = {"name": "test_resnet", "image_size": 8, "channels": 1}


def small(seed: int = 0) -> Backbone:
    with torch_seeded(Key(seed)):
        return CifarResNet(depth=8, channels=1)


def of_timm(seed: int = 0) -> TimmBackbone:
    with torch_seeded(Key(seed)):
        return TimmBackbone(**SIZES)


def written(path: Path, weights: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("wrapped", ["bare", "checkpoint", "export", "safetensors", "parallel"])
def test_a_backbone_starts_from_a_file_of_its_own_kind(wrapped: str, tmp_path: Path) -> None:
    with torch_seeded(Key(1)):
        network = EmbeddingNetwork(small(1))
        network.grow(2, Key(0))
    whole, bare = network.state_dict(), network.backbone.state_dict()
    content: dict[str, Any] = {
        "bare": bare,
        "checkpoint": {"version": 3, "network": {"structure": {}, "weights": whole}},
        "export": {f"network.{key}": value for key, value in whole.items()} | {"class_means": torch.zeros(2, 64)},
        "safetensors": {f"network.{key}": value for key, value in whole.items()},
        "parallel": {"state_dict": {f"module.{key}": value for key, value in bare.items()}},
    }
    file = written(tmp_path / f"weights.{'safetensors' if wrapped == 'safetensors' else 'pth'}", content[wrapped])
    assert_same(backbone_file_weights(file, small()), bare)


def test_a_network_of_timm_starts_from_timms_file_without_its_classifier(tmp_path: Path) -> None:
    theirs = timm.create_model("test_resnet", in_chans=1, num_classes=7)
    file = written(tmp_path / "model.safetensors", theirs.state_dict())
    backbone = of_timm()
    backbone.load_state_dict(backbone_file_weights(file, backbone), strict=True)
    x = rng.normal(Key(0), torch.arange(128)).view(2, 1, 8, 8)
    with torch.no_grad():
        expected = theirs.eval().forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(backbone.eval()(x)[0], expected)


def test_a_norm_of_timms_classifier_is_part_of_the_features(tmp_path: Path) -> None:
    theirs = timm.create_model("test_convnext", num_classes=7)
    assert {"head.norm.weight", "head.fc.weight"} <= set(theirs.state_dict())
    with torch_seeded(Key(0)):
        backbone = TimmBackbone(name="test_convnext", image_size=32)
    found = backbone_file_weights(written(tmp_path / "w.pth", theirs.state_dict()), backbone)
    assert "net.head.norm.weight" in found
    assert "net.head.fc.weight" not in found


@pytest.mark.parametrize("counted", [True, False])
def test_resnet18_starts_from_torchvisions_names(counted: bool, tmp_path: Path) -> None:
    """timm's network of that name has the same ones; files of old have no counters of batch norm."""
    theirs = timm.create_model("resnet18", num_classes=3)
    with torch_seeded(Key(2)):
        ours = ResNet18(stem="large")
    weights = {k: v for k, v in theirs.state_dict().items() if counted or not k.endswith("num_batches_tracked")}
    ours.load_state_dict(backbone_file_weights(written(tmp_path / "w.pth", weights), ours), strict=True)
    x = rng.normal(Key(0), torch.arange(3 * 64 * 64)).view(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.eval().forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(ours.eval()(x)[0], expected, atol=1e-4, rtol=1e-4)


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("harm",)


def test_files_that_do_not_fit_are_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(name: str, content: Any = None) -> str:
        if content is not None:
            torch.save(content, tmp_path / name)
        with pytest.raises(InvalidSettingError) as refused:
            backbone_file_weights(tmp_path / name, small())
        assert "\n" not in str(refused.value)
        return str(refused.value).replace(str(tmp_path), "")

    assert refusal("none.pth") == "weights_file=/none.pth is no file: pass weights_file=FILE.safetensors or .pth"
    assert "cannot be read" in refusal("harm.pth", {"model": Harmful()})
    assert capsys.readouterr().out == ""
    assert "holds no weights by name" in refusal("list.pth", [1, 2])
    other = CifarResNet(depth=8, channels=3).state_dict()
    assert "conv.weight is [16, 3, 3, 3] there and [16, 1, 3, 3] here (1 differ)" in refusal("other.pth", other)


def test_timms_weights_are_put_under_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    create, trained = timm.create_model, of_timm(3)

    def downloaded(name: str, *, pretrained: bool, **options: Any) -> Any:
        net = create(name, pretrained=False, **options)
        if pretrained:
            net.load_state_dict(trained.net.state_dict())
        return net

    monkeypatch.setattr(timm, "create_model", downloaded)
    backbone, state = of_timm(), torch.get_rng_state()
    found = timm_backbone_weights(backbone, **SIZES, patch_size=None)
    assert_same(found, trained.state_dict())
    assert torch.equal(torch.get_rng_state(), state)


def test_timms_weights_without_a_network_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*given: Any, **options: Any) -> Any:
        raise OSError("no network\nand a second line")

    backbone = of_timm()
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InvalidSettingError) as refused:
        timm_backbone_weights(backbone, **SIZES, patch_size=None)
    assert str(refused.value) == (
        "pretrained=True: timm's weights of test_resnet are not to be had (no network): "
        "go on where there is a network, or pass weights_file=FILE"
    )


def test_names_without_weights_are_known_beforehand() -> None:
    check_pretrained("resnet10t")
    with pytest.raises(InvalidSettingError, match="pretrained=True: timm has no weights of convnext_atto_rms"):
        check_pretrained("convnext_atto_rms")
