"""DyTox's network: one encoder, one task-attention block, and for each task a token and a head.

Douillard et al., DyTox (CVPR 2022), section 3. A new task adds D numbers (its token) and a small head; everything else
is shared. The divergence head tells the newest classes from "any old class"; it trains the newest token to differ and
is never used to predict.

The paper's ablation takes two things away, each alone or both: the tokens of later tasks (one token then serves all,
T = 1) and the independence of the heads (``heads.JointHead``).

Legend: B batch, N patches, T tokens, D width, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cl_lightning import rng
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.heads import Head, IndependentHeads, JointHead, TaskClassifier
from cl_lightning.models.network import Branch, Network
from cl_lightning.models.task_attention import TaskAttentionBlock
from cl_lightning.rng import Key
from cl_lightning.types import Features


class TokenNetwork(Network):
    """Encoder, task tokens, task-attention block, classifier."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        diverge: bool = True,
        token_expansion: bool = True,
        independent_heads: bool = True,
    ) -> None:
        """Build without any class; :meth:`grow` adds tasks.

        Args:
            encoder: images to patch tokens.
            diverge: have a divergence head from the second task on.
            token_expansion: a task brings a token; without, the first task's token serves all and goes on learning.
            independent_heads: a task brings a head of its own; without, one head reads all embeddings.
        """
        super().__init__()
        self.encoder = encoder
        self.diverge = diverge
        self.token_expansion = token_expansion
        self.independent_heads = independent_heads
        self.decoder = TaskAttentionBlock(encoder.dim, encoder.num_heads, encoder.mlp_ratio)
        self.tokens = nn.ParameterList()
        self.classifier: TaskClassifier = (
            IndependentHeads(encoder.dim) if independent_heads else JointHead(encoder.dim, input_grows=token_expansion)
        )
        self.divergence: Head | None = None

    def grow(self, num_new: int, key: Key) -> None:
        """Append a token, grow the classifier, replace the divergence head (from the second task on)."""
        task = len(self.classifier.sizes())
        with rng.torch_seeded(key.fold("token network", task)):
            if self.token_expansion or task == 0:
                token = torch.empty(1, 1, self.encoder.dim)
                self.tokens.append(nn.Parameter(nn.init.trunc_normal_(token, std=0.02)))
            self.classifier.grow(num_new)
            if self.diverge and task > 0:
                self.divergence = Head(self.encoder.dim, num_new + 1)
        self.to(next(self.parameters()).device)

    def tokens_TD(self) -> Tensor:  # noqa: N802 (shape suffix)
        """All task tokens, oldest first."""
        return torch.cat(list(self.tokens), dim=0)[:, 0]

    def trunks(self) -> list[str]:
        """What is made of the patches before any token asks."""
        return ["read_patches"]

    def read_patches(self, images: Tensor, scales: Tensor | None = None) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Keys and values (B, N, D) for the tokens, and the patches after each encoder block; ``scales`` are the
        encoder's.
        """
        patches_BND, maps = self.encoder(images, scales)
        return *self.decoder.keys_values(patches_BND), maps

    def branches(self) -> list[Branch]:
        """Two branches for each encoder block, then two for each token."""
        encoder = [Branch("encoder", rate) for rate in self.encoder.drop_rates()]
        return encoder + [Branch("decoder", self.encoder.drop_path)] * (2 * len(self.tokens))

    def forward(self, images: Tensor, scales: Tensor | None = None) -> Features:
        """Task embeddings (B, T, D) and the tokens after each encoder block."""
        count, own, scales_TKB = len(self.encoder.drop_rates()), None, None
        if scales is not None:
            own, scales_TKB = scales[:count], scales[count:].unflatten(0, (len(self.tokens), 2))
        k_BND, v_BND, maps = self.read_patches(images, own)
        return Features(self.decoder.ask(self.tokens_TD(), k_BND, v_BND, scales_TKB), maps)

    def logits(self, features: Features) -> Tensor:
        """The classifier's scores, (B, C)."""
        return self.classifier(features.embeddings)

    def task_tokens(self) -> Tensor:
        """Those that have been learnt."""
        return self.tokens_TD().detach()

    @torch.no_grad()
    def attention(self, images: Tensor) -> Tensor:
        """What is left to the patches when each token has looked at itself sums to one at most."""
        k_BND, _, _ = self.read_patches(images)
        weights_BTN = self.decoder.look(self.tokens_TD(), k_BND)
        return weights_BTN.unflatten(-1, (int(weights_BTN.shape[-1] ** 0.5), -1))

    def auxiliary(self, features: Features) -> Tensor | None:
        """The divergence head's scores (B, C_new + 1), from the newest embedding; output 0 stands for any old class."""
        return None if self.divergence is None else self.divergence(features.embeddings[:, -1])

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Encoder, decoder, and tokens and heads split into old and newest; a token or head that serves all tasks is
        the newest.
        """
        return {
            "encoder": list(self.encoder.parameters()),
            "decoder": list(self.decoder.parameters()),
            "old_tokens": list(self.tokens)[:-1],
            "new_token": list(self.tokens)[-1:],
            "old_heads": self.classifier.old_parameters(),
            "new_head": self.classifier.new_parameters(),
            "divergence": [] if self.divergence is None else list(self.divergence.parameters()),
        }

    def structure(self) -> dict[str, Any]:
        """The encoder's sizes, what grows, and the classes of each task."""
        return {
            "kind": "token_network",
            "encoder": self.encoder.structure(),
            "diverge": self.diverge,
            "token_expansion": self.token_expansion,
            "independent_heads": self.independent_heads,
            "classes": self.classifier.sizes(),
        }
