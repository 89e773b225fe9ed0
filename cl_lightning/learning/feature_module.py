"""Functions of images, mapped over rows with the Trainer's device and precision, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from cl_lightning.data.loading import Images


class FeatureModule(pl.LightningModule):
    """Module that applies ``function`` to each batch, with ``network`` in evaluation mode."""

    def __init__(self, network: nn.Module, function: Callable[[Images], Any]) -> None:
        super().__init__()
        self.network = network
        self._function = function

    def predict_step(self, images: Images, batch_idx: int) -> Any:
        """Return the function's value."""
        return self._function(images)


@contextmanager
def evaluation_mode_restored(network: nn.Module) -> Iterator[None]:
    """Restore the modes of the network's modules after the block, and torch's own stream of random numbers, from which
    loaders draw: no code of ours does, but code that somebody adds may.
    """
    modes = [(module, module.training) for module in network.modules()]
    with torch.random.fork_rng(devices=[]):
        yield
    for module, training in modes:
        module.training = training
