"""Looking at data without training: any function of images, mapped over rows with the Trainer's device and
precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import nn

from cl_lightning.data.loading import Images


class Probe(pl.LightningModule):
    """Applies ``function`` to each batch, with ``network`` in evaluation mode."""

    def __init__(self, network: nn.Module, function: Callable[[Images], Any]) -> None:
        super().__init__()
        self.network = network
        self._function = function

    def predict_step(self, images: Images, batch_idx: int) -> Any:
        """The function's value."""
        return self._function(images)
