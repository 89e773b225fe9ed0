"""Types of the tensors that all networks take or give.

Legend: B batch.
"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

Images = Float[Tensor, "B channels height width"]
"""Normalised images."""
Vectors = Float[Tensor, "B D"]
"""Features that a frozen part of the network has made of images before (``Network.frozen_trunk``)."""
Scales = Float[Tensor, "branches B"]
"""Multipliers of residual branches, image by image (stochastic depth): 0 for a skipped one."""
Noise = Shaped[Tensor, "slots B"]
"""Everything random in a pass of training: :data:`Scales` for most networks, integers where masks are drawn."""
Maps = tuple[Float[Tensor, "B ..."], ...]
"""Intermediate activations, from the input's side on."""
