"""MEAT: the cost of masks in inference, and where they are sampled to be learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models import masks
from cl_lightning.models.masked_network import MaskedNetwork
from cl_lightning.models.plain_vit import PlainViT
from scripts.bench.measure import Row, paired

DEIT_TINY = {"image_size": 224, "channels": 3, "patch_size": 16, "dim": 192, "depth": 12, "num_heads": 3}
_MEGABYTE = 2**20


def inference(batch: int, pairs: int, device: str, at_most: float, vit: dict[str, Any]) -> Row:
    """Measure a task's own masks, folded into the weights, over the transformer without any."""
    network = MaskedNetwork(PlainViT(**vit), token_mask_blocks=range(vit["depth"]))
    network.grow(10, Key(0))
    assert network.token_logits is not None
    assert network.ffn_logits is not None
    for index, logits in enumerate([network.token_logits, *network.ffn_logits]):
        logits.data -= 10.0 * (rng.uniform(Key(index), torch.arange(logits.numel())) < 0.1)  # a tenth is dropped
    network.pack()
    network = network.to(device).eval()
    side = vit["image_size"]
    images = torch.randn(batch, vit["channels"], side, side, device=device)
    with torch.inference_mode():
        timed = paired(lambda: network.through(images, 0), lambda: network.plain(images), pairs, device)
    name = "MEAT, a task's features, masks folded / bare transformer"
    return Row(name, timed.ratio, at_most=at_most, detail=f"{timed.milliseconds()}, {batch} images")


def sampling(pairs: int, device: str, at_least: float, vit: dict[str, Any]) -> Row:
    """Measure sampling and gradients of masks of all MLP weights: two logits a weight, as published, over ours."""
    hidden = 4 * vit["dim"]
    weights = [torch.randn(hidden, vit["dim"], device=device) * 0.02 for _ in range(2 * vit["depth"])]
    gradients = [torch.randn_like(weight) for weight in weights]
    stream = torch.tensor(12345, device=device)

    def pairs_of_logits() -> list[Tensor]:
        gap = torch.tensor([4.0, -4.0], device=device)
        return [gap.expand(*weight.shape, 2).clone().requires_grad_() for weight in weights]

    def published(weight: Tensor, logits: Tensor) -> Tensor:
        return weight * F.gumbel_softmax(logits, tau=1.0, hard=True)[..., 0]

    def ours(weight: Tensor, logits: Tensor) -> Tensor:
        return masks.masked_weight(weight, logits, stream, 0, 1.0)

    two, one = pairs_of_logits(), [torch.full((w.numel(),), 8.0, device=device, requires_grad=True) for w in weights]

    def step(mask: Callable[[Tensor, Tensor], Tensor], logits: list[Tensor]) -> list[Tensor]:
        for each in logits:
            each.grad = None
        masked = [mask(weight, each) for weight, each in zip(weights, logits, strict=True)]
        torch.autograd.backward(masked, gradients)
        return masked

    timed = paired(lambda: step(published, two), lambda: step(ours, one), pairs, device)
    stored = [
        _stored_for_backward(partial(step, mask, own), [*weights, *own])
        for mask, own in ((published, two), (ours, one))
    ]
    count = sum(weight.numel() for weight in weights)
    detail = (
        f"{timed.milliseconds()}, {count:,} weights, stored for backward "
        f"{stored[0] / _MEGABYTE:.0f} / {stored[1] / _MEGABYTE:.0f} MiB"
    )
    return Row("MEAT, masks drawn and learnt, two logits / ours", timed.ratio, at_least=at_least, detail=detail)


def _stored_for_backward(work: Callable[[], object], there: Sequence[Tensor]) -> int:
    """Return the bytes of all storages that autograd saves during ``work``, without those of ``there``."""
    storages: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        storages[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        outcome = work()
    own = {tensor.untyped_storage().data_ptr() for tensor in there}
    found = sum(size for storage, size in storages.items() if storage not in own)
    del outcome  # until here no address could be reused by another storage
    return found
