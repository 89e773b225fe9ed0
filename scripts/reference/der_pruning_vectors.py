"""Comparison of golden vectors of DER's pruning with ours, in float64: masks, their sharpness, the sparsity loss,
gradients, compensated ones, and which channels are open. No public code computes any of them: all are derived.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cl_lightning.losses.sparsity import Link, sparsity_loss
from cl_lightning.models.channel_masks import annealed_mask, open_channels, sharpness_of
from scripts.reference.difference import Row, difference, lacking
from scripts.reference.vectors import VectorFile

_RELATIVE = 1e-9
_INPUTS = ("channels", "kernel_sizes", "s_max", "batches_per_epoch", "e1", "upstream_grad_mask1")
_OTHERS = ("grad_e", "compensation", "compensated_hat")
"""Further entries, which nobody computes so: the gradient that is compensated, its factor, and that of HAT's rule."""


def matches(file: VectorFile) -> bool:
    """Return whether it has masks of channels that are annealed."""
    return "s_of_batch" in file and "kernel_sizes" in file


def is_input(entry: str) -> bool:
    """Return whether others are computed from it, or it is a step on the way to others."""
    name = entry.rpartition("/")[2].rstrip("0123456789")
    return entry in _INPUTS or name in ("e", "upstream_grad_mask") or entry.endswith("_hat") or name in _OTHERS


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare whatever of the format is there."""
    missing = [name for name in _INPUTS if name not in file]
    if missing:
        yield from map(lacking, missing)
        return
    batches, s_max = int(file["batches_per_epoch"]), float(file["s_max"])
    sharpness = torch.tensor([sharpness_of(b, batches, s_max) for b in range(batches)], dtype=torch.float64)
    yield _same("s_of_batch", sharpness, file)
    layers = range(1, len(file["channels"]))
    for layer in layers:
        logits = file[f"e{layer}"]
        is_open = torch.zeros(len(logits), dtype=torch.bool)
        is_open[open_channels(logits)] = True
        yield difference(f"open_channels{layer}", is_open, file[f"open_channels{layer}"], 0)
    for batch in sorted({int(name.split("/")[0].removeprefix("batch")) for name in file.names() if "/" in name}):
        yield from _of_batch(f"batch{batch}", sharpness[batch], file)


def _of_batch(prefix: str, sharpness: Tensor, file: VectorFile) -> Iterator[Row]:
    sizes, layers = file["kernel_sizes"].tolist(), range(1, len(file["channels"]))
    logits = [file[f"e{layer}"].clone().requires_grad_() for layer in layers]
    masks = [annealed_mask(each, sharpness) for each in logits]
    image = torch.ones(int(file["channels"][0]), dtype=torch.float64)
    losses = {}
    for form, power in (("size", 1), ("area", 2)):
        links: list[Link] = [
            (size**power, before, behind) for size, before, behind in zip(sizes, [image, *masks], masks, strict=False)
        ]
        losses[form] = sparsity_loss(links)
        yield _same(f"{prefix}/sparsity_loss_K_as_kernel_{form}", losses[form], file)
    upstream = [(file[f"upstream_grad_mask{layer}"] * mask).sum() for layer, mask in zip(layers, masks, strict=True)]
    of_masks = torch.autograd.grad(losses["size"], masks, retain_graph=True)
    of_logits = torch.autograd.grad(losses["size"] + torch.stack(upstream).sum(), logits)
    for layer, mask, of_mask, of_logit in zip(layers, masks, of_masks, of_logits, strict=True):
        yield _same(f"{prefix}/mask{layer}", mask, file)
        yield _same(f"{prefix}/grad_sparsity_mask{layer}", of_mask, file)
        yield _same(f"{prefix}/grad_e{layer}_compensated", of_logit, file)


def _same(entry: str, ours: Tensor, file: VectorFile) -> Row:
    theirs = file[entry]
    return difference(entry, ours.detach(), theirs, _RELATIVE * max(1e-3, theirs.abs().max().item()))
