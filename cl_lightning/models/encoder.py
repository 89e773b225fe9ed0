"""The interface of image encoders, behind which decoders grow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from cl_lightning.models.tensor_types import Images, Maps, Scales


class Encoder(nn.Module, ABC):
    """A network from images to N patch tokens of width D."""

    drop_path: float
    """Stochastic-depth rate that the decoder behind it should use."""
    mlp_ratio: float
    """Hidden width of its MLPs over D, which the decoder shares."""
    num_patches: int
    """Patch tokens of an image, N."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.num_heads = num_heads

    @abstractmethod
    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B N D"], Maps]:
        """Return the tokens and the tokens after each block; ``scales`` multiplies residual branches, two a block."""

    patch_size: int = 0
    """Side of a patch in pixels, of encoders that can leave patches out (:meth:`visible`); 0: of none."""

    def visible(self, images: Images, rows_BV: Int64[Tensor, "B V"]) -> Float[Tensor, "B V D"]:
        """Return the tokens of the patches ``rows_BV`` of each image, which see each other alone. No branch is
        skipped.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot leave patches out")

    @abstractmethod
    def drop_rates(self) -> list[float]:
        """Return the stochastic-depth rate of each residual branch, two a block."""

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return all parameters in the groups in which phases train and freeze them; its branches are ``encoder``'s."""
        return {"encoder": list(self.parameters())}

    @abstractmethod
    def structure(self) -> dict[str, Any]:
        """Return a plain mapping with the ``kind`` and the sizes of this encoder."""
