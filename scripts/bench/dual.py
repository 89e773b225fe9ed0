"""DAFormer's evaluation: all tasks together against one task after the other, as published."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_network
from cl_lightning.models.dual_attention import DualAttentionBlock, KeyBank
from cl_lightning.models.layers import split_heads
from cl_lightning.models.task_network import TaskNetwork
from scripts.bench.measure import Row, paired
from scripts.bench.steps import CIFAR


def evaluation(
    tasks: int, batch: int, pairs: int, device: str, at_least: float | None, encoder: dict[str, object] | None
) -> Row:
    """Measure the speedup of DAFormer-M's scores of ``batch`` images over the plain form; the same scores."""
    structure = {
        "kind": "task_network", "encoder": encoder or CIFAR, "decoder": {"kind": "dual_attention"}, "diverge": False,
        "independent_heads": True, "classes": [10] * tasks,
    }  # fmt: skip
    network = build_network(structure, Key(0))
    assert isinstance(network, TaskNetwork)
    for index, parameter in enumerate(network.decoder.parts()["old_banks"]):
        torch.manual_seed(index)
        torch.nn.init.normal_(parameter, std=0.5)  # a bank as it was appended is zero
    network = network.to(device).eval()
    images = torch.randn(batch, 3, *[int(str((encoder or CIFAR)["image_size"]))] * 2, device=device)
    with torch.no_grad():
        difference = (_plain(network, images) - network.logits(network(images))).abs().max().item()
        assert difference < 1e-5, f"the two forms differ by {difference}"
        timed = paired(lambda: _plain(network, images), lambda: network.logits(network(images)), pairs, device)
    detail = f"{timed.milliseconds()}, {batch} images, largest difference {difference:.0e}"
    return Row(f"DAFormer-M, scores of {tasks} tasks, plain / ours", timed.ratio, at_least=at_least, detail=detail)


def _plain(network: TaskNetwork, images: Tensor) -> Tensor:
    block = network.decoder
    assert isinstance(block, DualAttentionBlock)
    patches, _ = network.encoder(images)
    embeddings = [_through(block, bank, patches) for bank in block.banks]  # type: ignore[arg-type]
    return network.classifier(torch.stack(embeddings, dim=1))


def _through(block: DualAttentionBlock, bank: KeyBank, x_BND: Tensor) -> Tensor:
    """Return the mean of all patches after the whole block for one bank."""
    attn, y_BND = block.attn, block.norm1(x_BND)
    q, k, v = (split_heads(linear(y_BND), attn.num_heads) for linear in (attn.q, attn.k, attn.v))
    q = q * q.shape[-1] ** -0.5
    to_patches = (q @ k.transpose(-1, -2)).softmax(-1)
    to_keys = F.linear(q, bank.weight, bank.bias).softmax(-1)
    x_BND = x_BND + (to_patches @ v + to_keys @ v).transpose(1, 2).flatten(2)
    return (x_BND + block.mlp(block.norm2(x_BND))).mean(dim=1)
