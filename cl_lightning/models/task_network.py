"""The network of DyTox's family: an encoder, a decoder in which something grows for each task, and a head per task.

Douillard et al., DyTox (CVPR 2022), section 3; DAFormer differs in the decoder alone. A new task adds a piece of the
decoder (a token, a bank of keys) and a small head; everything else is shared. The divergence head tells the newest
classes from "any old class"; it trains what the newest task brought to differ, and is never used to predict.

DyTox's ablation takes two things away, each alone or both: what later tasks bring to the decoder (the first task's then
serves all, T = 1), which is also DAFormer-S, and the independence of the heads (``heads.JointHead``).

Legend: B batch, N patches, T embeddings, D width, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.heads import Head, IndependentHeads, TaskClassifier
from cl_lightning.models.network import Branch, Network
from cl_lightning.models.reconstruction import Reconstruction, visible_rows
from cl_lightning.models.task_decoder import Prepared, TaskDecoder
from cl_lightning.models.tensor_types import Images, Maps, Noise, Scales

RECONSTRUCTION = "reconstruction"
"""Name of the part that reconstructs masked patches, and of its draws."""


class TaskNetwork(Network):
    """A network of encoder, decoder, classifier and divergence head."""

    def __init__(
        self,
        encoder: Encoder,
        decoder: TaskDecoder,
        classifier: TaskClassifier | None = None,
        *,
        diverge: bool = True,
        reconstruction: Reconstruction | None = None,
    ) -> None:
        """Build without any class; :meth:`grow` adds tasks.

        Args:
            encoder: images to patch tokens.
            decoder: patch tokens to an embedding for each task, or one for all.
            classifier: embeddings to scores; None: a head for each task.
            diverge: have a divergence head from the second task on.
            reconstruction: a branch of training behind the encoder.
        """
        super().__init__()
        self.encoder = encoder
        self.diverge = diverge
        self.decoder = decoder
        self.classifier = classifier or IndependentHeads(encoder.dim)
        self.divergence: Head | None = None
        self.reconstruction = reconstruction
        self.register_load_state_dict_pre_hook(_older_names)

    def grow(self, num_new: int, key: Key) -> None:
        """Grow decoder and classifier, replace the divergence head (from the second task on)."""
        task = len(self.classifier.sizes())
        with rng.torch_seeded(key.fold("token network", task)):  # a name of before there were other decoders
            self.decoder.grow()
            self.classifier.grow(num_new)
            if self.diverge and task > 0:
                self.divergence = Head(self.encoder.dim, num_new + 1)
        self.to(next(self.parameters()).device)

    def trunks(self) -> list[str]:
        """Return the method that no task changes."""
        return ["read_patches"]

    def read_patches(self, images: Images, scales: Scales | None = None) -> tuple[Prepared, Maps]:
        """Return the decoder's task-independent half, and the patches after each encoder block; ``scales`` are the
        encoder's.
        """
        patches_BND, maps = self.encoder(images, scales)
        return self.decoder.prepare(patches_BND), maps

    def branches(self) -> list[Branch]:
        """Return two branches for each encoder block, then two for each embedding."""
        encoder = [Branch("encoder", rate) for rate in self.encoder.drop_rates()]
        rate = self.encoder.drop_path if self.decoder.drop_path is None else self.decoder.drop_path
        return encoder + [Branch("decoder", rate)] * (2 * self.decoder.embeddings())

    def forward(self, images: Images, scales: Noise | None = None) -> Features:
        """Return the task embeddings and the tokens after each encoder block."""
        count, own, scales_TKB = len(self.encoder.drop_rates()), None, None
        if scales is not None:
            own, rest = scales[:count], scales[count : len(self.branches())]
            scales_TKB = rest.unflatten(0, (self.decoder.embeddings(), 2))
        prepared, maps = self.read_patches(images, own)
        return Features(self.decoder.read(prepared, scales_TKB), maps)

    def noise(
        self, key: Key, positions: Int64[Tensor, " B"], steps: Int64[Tensor, " B"], frozen: frozenset[str]
    ) -> Noise | None:
        """Draw stochastic depth; behind it a number for each patch, while the branch that masks them is trained."""
        scales = super().noise(key, positions, steps, frozen)
        if self.reconstruction is None or RECONSTRUCTION in frozen:
            return scales
        if scales is None:
            scales = torch.ones(len(self.branches()), len(positions), device=positions.device)
        slots = torch.arange(self.encoder.num_patches, device=positions.device)[:, None]
        return torch.cat([scales, rng.uniform(key.fold(RECONSTRUCTION), positions[None], slots)])

    def reconstructed(
        self, images: Images, noise: Noise | None
    ) -> tuple[Float[Tensor, "B N F"], Bool[Tensor, "B N"]] | None:
        """Return the predicted values of each patch and which of them are masked, by the draws behind those of
        :meth:`forward`; ``None`` without a branch or draws.
        """
        branch, branches = self.reconstruction, len(self.branches())
        if branch is None or noise is None or len(noise) == branches:
            return None
        rows_BV = visible_rows(noise[branches:], branch.visible)
        return branch(self.encoder.visible(images, rows_BV), rows_BV), branch.masked(rows_BV)

    def leave_out_training(self) -> None:
        """Drop the branch of reconstruction."""
        self.reconstruction = None

    def training_only(self) -> list[nn.Parameter]:
        """Return the parameters of the branch of reconstruction."""
        return [] if self.reconstruction is None else list(self.reconstruction.parameters())

    def logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Return the classifier's scores."""
        return self.classifier(features.embeddings)

    def task_vectors(self) -> Float[Tensor, "T F"]:
        """Return the decoder's."""
        return self.decoder.task_vectors()

    @torch.no_grad()
    def attention(self, images: Images) -> Float[Tensor, "B T h w"]:
        """Return the decoder's attention to the patches, as a square map."""
        weights_BTN = self.decoder.attention(self.read_patches(images)[0])
        return weights_BTN.unflatten(-1, (int(weights_BTN.shape[-1] ** 0.5), -1))

    def auxiliary(self, features: Features) -> Float[Tensor, "B groups"] | None:
        """Return the divergence head's scores of the newest embedding; output 0 stands for any old class."""
        return None if self.divergence is None else self.divergence(features.embeddings[:, -1])

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parts of encoder and decoder, and heads split into old and newest; a joint head is the newest."""
        return {
            **self.encoder.parts(),
            **self.decoder.parts(),
            "old_heads": self.classifier.old_parameters(),
            "new_head": self.classifier.new_parameters(),
            "divergence": [] if self.divergence is None else list(self.divergence.parameters()),
            **({} if self.reconstruction is None else {RECONSTRUCTION: self.training_only()}),
        }

    def structure(self) -> dict[str, Any]:
        """Return the encoder's sizes, what grows, and the classes of each task."""
        return {
            "kind": "task_network",
            "encoder": self.encoder.structure(),
            "decoder": self.decoder.structure(),
            "diverge": self.diverge,
            "classifier": self.classifier.structure(),
            "classes": self.classifier.sizes(),
            **({} if self.reconstruction is None else {RECONSTRUCTION: self.reconstruction.structure()}),
        }


def _older_names(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename tokens of older checkpoints: before there were several decoders, they were beside the decoder."""
    old, new = f"{prefix}tokens.", f"{prefix}decoder.tokens."
    for name in [name for name in state if name.startswith(old)]:
        state[new + name.removeprefix(old)] = state.pop(name)
