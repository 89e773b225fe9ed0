"""Parts other than the network: herding, augmentation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, RandAugment, augment
from cl_lightning.memory.herding import herd
from scripts.bench.measure import Row, paired, seconds

_TURNS = 1000
_Rows = NDArray[np.float64]


def _normalised(features: Tensor) -> _Rows:
    rows = features.double().numpy()
    normalised: _Rows = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-8)
    return normalised


def _published(features: Tensor, count: int, pick: Callable[[_Rows, _Rows], int]) -> list[int]:
    """Herd by the published rule: a row may win again, which fills no rank."""
    rows = _normalised(features)
    mean = rows.mean(axis=0)
    wish, ranked = mean.copy(), dict[int, None]()
    for _ in range(_TURNS):
        if len(ranked) == min(count, len(rows)):
            break
        best = pick(rows, wish)
        ranked.setdefault(best)
        wish = wish + mean - rows[best]
    return list(ranked)


def herd_by_products(features: Tensor, count: int) -> list[int]:
    """Herd with one matrix-vector product a pick, in float64."""
    return _published(features, count, lambda rows, wish: int((rows @ wish).argmax()))


def herd_by_differences(features: Tensor, count: int) -> list[int]:
    """Herd with all differences a pick: rows have norm one, so the nearest to the target has the largest product."""
    return _published(features, count, lambda rows, wish: int(np.square(wish[None] - rows).sum(axis=1).argmin()))


def herding(images: int, width: int, classes: int, count: int, pairs: int) -> list[Row]:
    """Measure our herding of all classes against both loops; the ranks must be the same."""
    draws = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, 1, width, generator=draws)
    groups = list(centres + torch.randn(classes, images // classes, width, generator=draws))

    def by_us() -> list[Tensor]:
        return [herd(group, count) for group in groups]

    def by(loop: Callable[[Tensor, int], list[int]]) -> list[list[int]]:
        return [loop(group, count) for group in groups]

    ours = [ranks.tolist() for ranks in by_us()]
    assert ours == by(herd_by_products), "herding ranks otherwise than one product a pick"
    assert ours == by(herd_by_differences), "herding ranks otherwise than all differences"
    size = f"{images} x {width}, {classes} classes, {count} each"
    rows = []
    for name, loop, at_least in (
        ("all differences", herd_by_differences, 30.0), ("a product a pick", herd_by_products, 2.0)
    ):  # fmt: skip
        timed = paired(lambda loop=loop: by(loop), by_us, pairs)  # type: ignore[misc]
        rows.append(Row(f"herding, {name} / ours", timed.ratio, at_least, None, f"{timed.milliseconds()}; {size}"))
    return rows


def augmentation(batch: int, pairs: int, device: str, at_least: float | None) -> Row:
    """Measure crop, flip and RandAugment in batch on the device, against timm and torchvision image by image."""
    from PIL import Image
    from timm.data.auto_augment import rand_augment_transform
    from torchvision import transforms

    pixels = torch.randint(256, (batch, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    single = transforms.Compose([
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        rand_augment_transform("rand-m9-inc1", {"translate_const": 14, "img_mean": (124, 116, 104)}),
        transforms.PILToTensor(),
    ])  # fmt: skip
    # Without the published spread of strengths: at strength 10 timm asks Pillow for 0 bits, which it now refuses.
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    policy = Augmentation(crop_padding=4, flip=True, randaugment=RandAugment())
    on_device, positions = pixels.to(device), torch.arange(batch)
    timed = paired(
        lambda: torch.stack([single(picture) for picture in pictures]),
        lambda: augment(on_device, policy, Key(0), positions),
        pairs,
        device,
    )
    images = batch / seconds(lambda: augment(on_device, policy, Key(1), positions), device)
    detail = f"{timed.milliseconds()}, {images:.0f} images/s on {device}, batch {batch}"
    return Row("augmentation, one by one / ours", timed.ratio, at_least, None, detail)
