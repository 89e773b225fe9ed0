"""The network of HAT: one backbone for all tasks, and for each task masks of its units and a head (Serra et al. 2018).

A task embeds an image through its own masks, so T tasks are T passes. Masks are a function of an embedding, one number
a unit: annealed by ``scale`` while it is learnt, at the largest scale ever after. Weights between units that older
tasks use have no gradient (``models/hard_attention.py``).

The norms of the backbone are the newest task's own; those of older tasks are kept beside it and put in their place when
an image is embedded for them. The first values of a task's norms are those of the task before.

Legend: B batch, T tasks, U units of all masked layers, D width, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features
from cl_lightning.models.backbone import Backbone, Fill
from cl_lightning.models.gated_backbones import GatedBackbone, Gates, gated, own_norms
from cl_lightning.models.hard_attention import annealed, gate, spared
from cl_lightning.models.heads import only_newest
from cl_lightning.models.network import Branch, Network
from cl_lightning.models.tensor_types import Images, Noise, Scales

BACKBONE = "backbone"


class KeptNorms(nn.Module):
    """The norms of an older task, as they were when it had been learnt."""

    def __init__(self, values: list[Tensor]) -> None:
        super().__init__()
        for number, value in enumerate(values):
            self.register_buffer(f"value_{number}", value.detach().clone())

    def values(self) -> list[Tensor]:
        """Return them in the order of ``own_norms``."""
        return list(self.buffers())


class HatNetwork(Network):
    """A network of one backbone, and masks and a head for each task."""

    scale: Float[Tensor, ""]
    """The annealed s of the pass to come, in training."""
    used: Float[Tensor, " U"]
    """The largest mask of all tasks that have been learnt."""

    def __init__(
        self, body: GatedBackbone | Backbone, *, s_max: float = 400.0, compensation: str = "published"
    ) -> None:
        """Build without any class; :meth:`grow` adds tasks.

        Args:
            body: the shared backbone, of a kind with masked layers.
            s_max: the largest scale, > 0.
            compensation: of the embeddings' gradients, one of ``hard_attention.COMPENSATIONS``.
        """
        super().__init__()
        self.body = body if isinstance(body, GatedBackbone) else gated(body)
        self.embeddings = nn.ParameterList()
        self.heads = nn.ModuleList()
        self.kept = nn.ModuleList()
        self.s_max, self.compensation = s_max, compensation
        self.learnt = 0
        """Number of tasks whose masks are among those used, which can be inferred."""
        self._places = self.body.places()
        self._norms = own_norms(self.body)
        self.register_buffer("scale", torch.tensor(annealed(0.0, s_max)))
        self.register_buffer("used", torch.zeros(sum(self.body.units)))

    # ---- what grows --------------------------------------------------------------------------------------------------

    def grow(self, num_new: int, key: Key) -> None:
        """Keep the norms of the task before, and add an embedding of N(0, 1) and a head."""
        task = len(self.heads)
        if task > 0 and self._norms:
            tensors = self._state()
            self.kept.append(KeptNorms([tensors[name] for name in self._norms]))
        with rng.torch_seeded(key.fold("hat network", task)):
            embedding, head = torch.randn(len(self.used)), nn.Linear(self.body.backbone.dim, num_new)
        self.embeddings.append(nn.Parameter(embedding.to(self.used)))
        self.heads.append(head.to(self.used))
        self.anneal(0.0)

    def _state(self) -> dict[str, Tensor]:
        return {**dict(self.body.named_parameters()), **dict(self.body.named_buffers())}

    @torch.no_grad()
    def anneal(self, share: float) -> None:
        """Set the scale for the step behind ``share`` of an epoch's images, in [0, 1)."""
        self.scale.fill_(annealed(share, self.s_max))

    @torch.no_grad()
    def clamp(self, limit: float) -> None:
        """Clamp the newest task's embedding to [-limit, limit]."""
        self.embeddings[-1].clamp_(-limit, limit)

    @torch.no_grad()
    def accumulate(self) -> None:
        """Add the newest task's masks to those that are used."""
        self.used.copy_(torch.maximum(self.used, self.masks(len(self.heads) - 1)))
        self.learnt = len(self.heads)

    def masks(self, task: int) -> Float[Tensor, " U"]:
        """Return a task's masks at the largest scale."""
        return torch.sigmoid(self.s_max * self.embeddings[task])

    def sizes(self) -> list[int]:
        """Return the number of classes of each task."""
        return [head.out_features for head in self.heads]  # type: ignore[misc]

    # ---- training ----------------------------------------------------------------------------------------------------

    def branches(self) -> list[Branch]:
        """Return the backbone's residual branches that stochastic depth acts on."""
        return [Branch(BACKBONE, rate) for rate in self.body.backbone.drop_rates()]

    def noise(
        self, key: Key, positions: Int64[Tensor, " B"], steps: Int64[Tensor, " B"], frozen: frozenset[str]
    ) -> Noise | None:
        """Draw the backbone's own noise (dropout), or stochastic depth."""
        own = self.body.backbone.noise(key, positions)
        return super().noise(key, positions, steps, frozen) if own is None else own

    def newest(self, images: Images, noise: Noise | None = None) -> Features:
        """Embed images through the newest task's annealed masks (T = 1), with gradients that spare what is used; the
        only map is the masks themselves, (1, U).
        """
        gates_U = gate(self.embeddings[-1], self.scale, self.s_max, self.compensation)
        used, parameters = self.by_layer(self.used), dict(self.body.named_parameters())
        weights = {name: spared(parameters[name], place, used) for name, place in self._places.items()}
        embedding_BD = functional_call(self.body, weights, (images, self.by_layer(gates_U), noise))
        return Features(embedding_BD[:, None], (gates_U[None],))

    def by_layer(self, of_units_U: Float[Tensor, " U"]) -> Gates:
        """Return what all units have, split by masked layer."""
        return list(of_units_U.split(self.body.units))

    def newest_logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Return the scores of the newest task's classes; the others are minus infinity."""
        return only_newest(self.heads[-1](features.embeddings[:, 0]), sum(self.sizes()[:-1]))

    # ---- evaluation --------------------------------------------------------------------------------------------------

    def forward(self, images: Images, scales: Scales | None = None) -> Features:
        """Return one embedding a task, each through its own masks and norms."""
        tasks = [self.through(images, task) for task in range(len(self.heads))]
        return Features(torch.stack(tasks, dim=1))

    def through(self, images: Images, task: int) -> Float[Tensor, "B D"]:
        """Embed images for one task."""
        gates = self.by_layer(self.masks(task))
        if task >= len(self.kept):
            return self.body(images, gates)
        kept: Any = self.kept[task]
        of_task = dict(zip(self._norms, kept.values(), strict=True))
        return functional_call(self.body, of_task, (images, gates))

    def logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Concatenate the scores of all heads: head t reads embedding t."""
        return torch.cat([head(features.embeddings[:, t]) for t, head in enumerate(self.heads)], dim=-1)

    # ---- description -------------------------------------------------------------------------------------------------

    def fill(self, fill: Fill) -> None:
        """Fill the backbone."""
        fill(self.body.backbone.start())

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the backbone with the newest task's norms, its embedding and head, and those before them."""
        return {
            BACKBONE: list(self.body.parameters()),
            "old_embeddings": list(self.embeddings)[:-1],
            "embedding": list(self.embeddings)[-1:],
            "old_heads": [p for head in list(self.heads)[:-1] for p in head.parameters()],
            "head": [p for head in list(self.heads)[-1:] for p in head.parameters()],
        }

    def structure(self) -> dict[str, Any]:
        """Return the backbone's sizes, the options, the classes of each task, and the number of learnt tasks."""
        return {
            "kind": "hat_network",
            "backbone": self.body.backbone.structure(),
            "s_max": self.s_max,
            "compensation": self.compensation,
            "classes": self.sizes(),
            "learnt": self.learnt,
        }
