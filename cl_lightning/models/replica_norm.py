"""Batch norm within each virtual replica.

Published recipes depend on the number of processes because each process takes batch statistics over its own images.
Here the number of replicas is part of the recipe and the number of processes is not: a training batch is made of
``replicas`` equal consecutive parts, and in-batch statistics (Ioffe & Szegedy 2015) are taken within each part, however
many processes there are.

Legend: B batch, R replicas, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class ReplicaBatchNorm2d(nn.BatchNorm2d):
    """An ``nn.BatchNorm2d`` (default momentum and epsilon) with batch statistics of each replica's images alone.

    The running statistics, used in evaluation mode, move towards the mean over replicas of their batch means and
    (unbiased) batch variances. Separate processes would each have their own and save the first one's; the mean does not
    prefer a replica. With one replica, and in evaluation mode, it is ``nn.BatchNorm2d`` to the bit.

    One value of a channel (a single image of 1 x 1 positions: the last batch of an epoch may be one image, and tokens
    have no neighbours) has no variance, for which torch raises an error. It is normalised by the running statistics,
    and moves nothing.
    """

    replicas: int
    """Number of equal consecutive parts that a training batch is made of, >= 1; see :func:`set_replicas`."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.replicas = 1

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:  # noqa: A002 (the name in torch)
        """Normalise each channel; in training mode B is a multiple of ``replicas``."""
        if self.training and input[:, 0].numel() == self.replicas:
            mean, variance, affine = self.running_mean, self.running_var, (self.weight, self.bias)
            return F.batch_norm(input, mean, variance, *affine, training=False, eps=self.eps)
        if not self.training or self.replicas == 1:
            return super().forward(input)
        replicas = self.replicas
        assert len(input) % replicas == 0, f"a batch of {len(input)} images has no {replicas} equal parts"
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        # A replica's images become channels of their own, (B / R, R * C, H, W), so that one call normalises all parts.
        parts = input.unflatten(0, (replicas, -1)).transpose(0, 1).flatten(1, 2)
        means, variances = self.running_mean.repeat(replicas), self.running_var.repeat(replicas)
        weight, bias = self.weight.repeat(replicas), self.bias.repeat(replicas)
        normalised = F.batch_norm(parts, means, variances, weight, bias, True, self.momentum, self.eps)
        with torch.no_grad():
            self.running_mean.copy_(means.unflatten(0, (replicas, -1)).mean(dim=0))
            self.running_var.copy_(variances.unflatten(0, (replicas, -1)).mean(dim=0))
            self.num_batches_tracked.add_(1)
        return normalised.unflatten(1, (replicas, -1)).transpose(0, 1).flatten(0, 1)


class ReplicaStatistics(_BatchNorm):
    """The same for batch norms of other libraries: put before their class (:func:`by_replica`), it calls their own
    ``forward`` for each replica's images. Slower than :class:`ReplicaBatchNorm2d`, with any shape and activation.
    """

    replicas: int

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name in torch)
        """Normalise as the layer does; in training mode the length of ``input`` is a multiple of ``replicas``."""
        if not self.training or self.replicas == 1 or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        replicas, own = self.replicas, (self.running_mean, self.running_var)
        assert len(input) % replicas == 0, f"a batch of {len(input)} rows has no {replicas} equal parts"
        counted = None if self.num_batches_tracked is None else self.num_batches_tracked.clone()
        parts, moved = [], []
        for part in input.chunk(replicas):
            # Copies: autograd keeps what a pass was given, and it must not change before the backward pass.
            self.running_mean, self.running_var = own[0].clone(), own[1].clone()
            parts.append(super().forward(part))
            moved.append((self.running_mean, self.running_var))
        self.running_mean, self.running_var = own
        with torch.no_grad():
            for statistic, of_replicas in zip(own, zip(*moved, strict=True), strict=True):
                statistic.copy_(torch.stack(of_replicas).mean(dim=0))
            if counted is not None and self.num_batches_tracked is not None:
                self.num_batches_tracked.copy_(counted + 1)
        return torch.cat(parts)


_NORMS = (ReplicaBatchNorm2d, ReplicaStatistics)


def by_replica(module: nn.Module) -> None:
    """Let every batch norm within ``module`` take its statistics within each replica; parameters and names stay."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and not isinstance(layer, _NORMS):
            layer.__class__ = _of_replicas(type(layer))  # type: ignore[arg-type]
            layer.replicas = 1  # type: ignore[assignment]


@cache
def _of_replicas(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    return type(f"Replica{kind.__name__}", (ReplicaStatistics, kind), {"__doc__": kind.__doc__})


def set_replicas(module: nn.Module, replicas: int) -> None:
    """Set the number of replicas (>= 1) of a training batch in every batch norm of this module within ``module``."""
    assert replicas >= 1, replicas
    for layer in module.modules():
        if isinstance(layer, _NORMS):
            layer.replicas = replicas


def hold_statistics(module: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Set each norm within ``module`` that has none of the parameters ``trained`` to evaluation mode: it normalises by
    its running statistics, which stay.
    """
    learning = {id(parameter) for parameter in trained}
    for layer in module.modules():
        if isinstance(layer, ReplicaBatchNorm2d):
            layer.train(layer.training and any(id(parameter) in learning for parameter in layer.parameters()))


def running_statistics(module: nn.Module) -> list[Float[Tensor, " _channels"]]:
    """Return the running means and variances within ``module`` that training steps move: of layers in training mode.

    Where replicas are spread over processes, their mean over processes is what one process would have.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _NORMS) and layer.training]
    return [s for layer in layers for s in (layer.running_mean, layer.running_var) if s is not None]
