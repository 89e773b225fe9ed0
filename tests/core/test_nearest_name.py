"""The name that is meant: words first, then letters."""

from __future__ import annotations

import pytest

from cl_lightning.core.nearest_name import nearest_name

SETS = ["aircraft", "cars", "cifar100", "cifar100_10steps", "cub200", "digits", "flowers102", "imagenet_r",
        "stanford_dogs", "tiny_imagenet"]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("stanford_cars", "cars"),
        ("dogs", "stanford_dogs"),
        ("oxford-flowers", "flowers102"),
        ("CUB200", "cub200"),
        ("CUB_200_2011", "cub200"),
        ("fgvc-aircraft-2013b", "aircraft"),
        ("tinyimagenet", "tiny_imagenet"),
        ("tiny-imagenet-200", "tiny_imagenet"),
        ("imagenet-r", "imagenet_r"),
        ("cifar10", "cifar100"),
        ("cifar100_", "cifar100_10steps"),
        ("Cub", "cub200"),
        ("digit", "digits"),
        ("100", None),
        ("mnist", None),
        ("", None),
    ],
)
def test_the_name_that_is_meant(typed: str, meant: str | None) -> None:
    assert nearest_name(typed, SETS) == meant


def test_among_no_names_there_is_none() -> None:
    assert nearest_name("dogs", []) is None
