"""The network that HAT was published with: AlexNet's kind for small images, with dropout and without batch norm.

Serra et al., "Overcoming catastrophic forgetting with hard attention to the task" (ICML 2018), in the sizes of the
public code: convolutions of 64, 128 and 256 channels with windows of side / 8, side / 10 and 2, each with ReLU, dropout
(0.2, 0.2, 0.5) and a pooling of 2, then two layers of 2048 units with ReLU and dropout 0.5. For images of 32 pixels
these are 6.5 million parameters without heads. Smaller images than the published ones keep windows of at least one
pixel, and are not pooled below one position (ours). Weights start as torch draws them.

Dropout is noise that comes with the pass: one stream an image, from which the device draws.

Legend: B batch, C channels, H height, W width, D units.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.tensor_types import Images, Maps, Noise

_DROPPED = (0.2, 0.2, 0.5, 0.5, 0.5)
"""Share of each layer's outputs that dropout leaves out, rounded to a multiple of 2^-16."""
_VALUES, _IN_A_WORD = 1 << 16, 4
"""Values of a draw of 16 bits, and draws in a word of 64: dropout draws for each output of each image."""


class AlexNet(Backbone):
    """Three convolutions and two fully connected layers; features are the outputs of the last."""

    def __init__(
        self,
        *,
        image_size: int,
        channels: int = 3,
        width: int = 64,
        hidden: int = 2048,
        dropout: bool = True,
        frozen: bool = False,
    ) -> None:
        """Build for images of ``image_size`` pixels.

        Args:
            image_size: side of the images, from 1 pixel: the fully connected layers depend on it.
            channels: channels of the images.
            width: channels of the first convolution; the others have two and four times as many.
            hidden: units of a fully connected layer.
            dropout: False leaves nothing out.
            frozen: True for a network that is never trained.

        Raises ``ValueError`` for a size below one.
        """
        for name, value in (("image_size", image_size), ("width", width), ("hidden", hidden)):
            if value < 1:
                raise InvalidSettingError(name, value, "is no size", "a number from 1")
        super().__init__(dim=hidden, frozen=frozen)
        self._sizes = {
            "image_size": image_size, "channels": channels, "width": width, "hidden": hidden, "dropout": dropout,
            **({"frozen": True} if frozen else {}),
        }  # fmt: skip
        self._dropped = _DROPPED if dropout else (0.0,) * len(_DROPPED)
        self._outputs: list[int] = []
        """Number of outputs of each layer that dropout may leave out, of one image."""
        widths = (channels, width, 2 * width, 4 * width)
        windows = (image_size // 8, image_size // 10, 2)
        convolutions, side = [], image_size
        for before, after, wanted in zip(widths, widths[1:], windows, strict=False):
            window = min(max(1, wanted), side)
            convolutions.append(nn.Conv2d(before, after, window))
            side = side - window + 1
            self._outputs.append(after * side**2)
            side = max(1, side // 2)
        self.convolutions = nn.ModuleList(convolutions)
        self.positions = side**2
        """Number of positions of the last map, each a column of the first fully connected layer."""
        self.layers = nn.ModuleList([nn.Linear(widths[-1] * self.positions, hidden), nn.Linear(hidden, hidden)])
        self._outputs += [hidden, hidden]
        self.train()

    def noise(self, key: Key, positions_B: Int64[Tensor, " B"]) -> Noise | None:
        """Return the stream of each image; None without dropout."""
        return rng.streams(key.fold("dropout"), positions_B)[None] if any(self._dropped) else None

    def layer(
        self, index: int, x: Float[Tensor, "B ..."], streams_B: Int64[Tensor, " B"] | None
    ) -> Float[Tensor, "B ..."]:
        """Return the outputs of a layer, from 0: behind ReLU, dropout and pooling."""
        if index < len(self.convolutions):
            x = self._drop(index, F.relu(self.convolutions[index](x)), streams_B)
            return F.max_pool2d(x, 2) if x.shape[-1] > 1 else x
        x = self.layers[index - len(self.convolutions)](x.flatten(1))
        return self._drop(index, F.relu(x), streams_B)

    def _drop(
        self, index: int, x: Float[Tensor, " B *rest"], streams_B: Int64[Tensor, " B"] | None
    ) -> Float[Tensor, " B *rest"]:
        if streams_B is None or self._dropped[index] == 0:
            return x
        words, count = [-(-outputs // _IN_A_WORD) for outputs in self._outputs], self._outputs[index]
        slots = sum(words[:index]) + torch.arange(words[index], device=x.device)
        drawn = rng.bits_of(streams_B[:, None], slots).view(torch.int16)[:, :count].reshape(x.shape)
        dropped = round(self._dropped[index] * _VALUES)
        return x * ((drawn >= dropped - _VALUES // 2).to(x.dtype) * (_VALUES / (_VALUES - dropped)))

    def forward(self, images: Images, scales: Noise | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return vectors and the maps of the convolutions; ``scales`` are the streams of :meth:`noise`."""
        x, maps = images, []
        for index in range(self.depth):
            x = self.layer(index, x, None if scales is None else scales[0])
            maps.append(x)
        return x, tuple(maps[: len(self.convolutions)])

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.convolutions) + len(self.layers)

    def structure(self) -> dict[str, Any]:
        """Return the sizes to build it again."""
        return {"kind": "alexnet", **self._sizes}
