"""Images that timm's trained weights expect, without a download."""

from __future__ import annotations

import pytest

from cl_lightning.models.timm_weights import ExpectedPreprocessing, expected_preprocessing

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet10t", ExpectedPreprocessing(176, 0.875, "bicubic", *IMAGENET)),
        ("resnet50.tv_in1k", ExpectedPreprocessing(224, 0.875, "bilinear", *IMAGENET)),
        ("vit_tiny_patch16_224", ExpectedPreprocessing(224, 0.9, "bicubic", *HALVES)),
        ("deit_tiny_patch16_224", ExpectedPreprocessing(224, 0.9, "bicubic", *IMAGENET)),
        ("swin_tiny_patch4_window7_224", ExpectedPreprocessing(224, 0.9, "bicubic", *IMAGENET)),
    ],
)
def test_it_is_what_the_names_weights_were_evaluated_with(name: str, expected: ExpectedPreprocessing) -> None:
    assert expected_preprocessing(name) == expected


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("resnett50", "name=resnett50 is not a timm model: pass name=resnet50"),
        ("hf-hub:timm/resnet50.a1_in1k", "is not a timm model"),
        ("resnet50.a1_in2k", "a tag that timm's resnet50 does not: pass name=resnet50, or name=resnet50.a1_in1k"),
        ("vit_base_patch16_sapiens2", "is for images of 1024 x 768 pixels, not for squares"),
    ],
)
def test_other_names_are_refused_in_one_line(name: str, line: str) -> None:
    with pytest.raises(ValueError, match="name=") as caught:
        expected_preprocessing(name)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
