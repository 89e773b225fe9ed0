"""DER's network: one feature extractor a task, read together by one classifier.

Yan, Xie & He, DER: Dynamically expandable representation (CVPR 2021), sections 3.1 and 3.2. A task brings an extractor
that starts from the weights of the one before it; features of all extractors are concatenated. The auxiliary classifier
reads the newest extractor alone and tells the new classes from "any old class"; it is used in training only.

Legend: B batch, T tasks (and extractors), F features of one extractor, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features
from cl_lightning.models.backbone import Backbone, Fill
from cl_lightning.models.network import Branch, Network
from cl_lightning.models.prunable_resnet import CHANNEL_MASKS, PrunableResNet
from cl_lightning.models.tensor_types import Images, Scales


def no_backbone() -> Backbone:
    """Fail: stands in where a network is rebuilt with its own extractors and never needs a first one."""
    raise AssertionError("an extractor network rebuilt without extractors needs make_backbone to grow")


class ExtractorNetwork(Network):
    """A network of extractors, a classifier over all features and an auxiliary one on the newest; no biases."""

    remembered: Tensor | None
    """Classifier of before the last growth, where its scores are distilled; see :meth:`remember`."""

    def __init__(self, make_backbone: Callable[[], Backbone]) -> None:
        """Build without any class; ``make_backbone``, called at the first growth, draws from torch's current stream."""
        super().__init__()
        self._make_backbone = make_backbone
        self._fill: Fill | None = None
        self._classes: list[int] = []
        self.extractors = nn.ModuleList()
        self.classifier: nn.Linear | None = None
        self.auxiliary_classifier: nn.Linear | None = None
        self.register_buffer("remembered", None, persistent=False)

    @classmethod
    def from_parts(
        cls,
        backbones: Sequence[Backbone],
        classes: Sequence[int],
        make_backbone: Callable[[], Backbone] = no_backbone,
    ) -> ExtractorNetwork:
        """Build a network of the shapes that growing by ``classes`` gives, around given extractors: to restore a
        checkpoint.

        ``backbones`` and ``classes`` are those of :meth:`structure`, built again. Weights are
        arbitrary: load them strictly.
        """
        assert len(backbones) == len(classes)
        network = cls(make_backbone)
        network.extractors.extend(backbones)
        network._classes.extend(classes)
        if classes:
            network._renew_classifiers()
        return network

    def grow(self, num_new: int, key: Key) -> None:
        """Append an extractor (the newest's successor: a copy, batch-norm statistics too) and enlarge the classifier.

        The classifier's block for old classes and old features keeps its values; the new rows and the new columns are
        drawn as ``nn.Linear`` draws its own. The auxiliary classifier is drawn anew, from the second task on.
        """
        with rng.torch_seeded(key.fold("extractor network", len(self._classes))):
            self.extractors.append(self._next_extractor())
            self._classes.append(num_new)
            old = self.classifier
            self._renew_classifiers()
        if old is not None and self.classifier is not None:
            self.classifier.weight.data[: old.out_features, : old.in_features] = old.weight.data

    def fill(self, fill: Fill) -> None:
        """Fill the first extractor, which the first growth makes; later ones are copies of the one before them."""
        self._fill = fill

    def _next_extractor(self) -> Backbone:
        if not self._classes:
            first = self._make_backbone()
            if self._fill is not None:
                self._fill(first.start())
            return first
        return self._backbones()[-1].successor().requires_grad_(True)  # its model may be frozen already

    def _renew_classifiers(self) -> None:
        self.classifier = self._linear(self.dim * len(self._classes), sum(self._classes))
        self.auxiliary_classifier = self._linear(self.dim, self._classes[-1] + 1) if len(self._classes) > 1 else None

    def _linear(self, features: int, classes: int) -> nn.Linear:
        return nn.Linear(features, classes, bias=False).to(next(self.extractors.parameters()))

    @property
    def dim(self) -> int:
        """Feature size F, the same for all extractors."""
        dims = {extractor.dim for extractor in self.extractors}
        assert len(dims) == 1, f"extractors with features of unequal sizes {dims}"
        (dim,) = dims
        assert isinstance(dim, int)
        return dim

    def reset_classifier(self, key: Key) -> None:
        """Draw the whole classifier anew, as ``nn.Linear`` draws its own, for the second stage (section 3.4)."""
        assert self.classifier is not None
        with rng.torch_seeded(key.fold("extractor network", "classifier", len(self._classes))):
            fresh = self._linear(self.classifier.in_features, self.classifier.out_features)
        self.classifier.weight.data.copy_(fresh.weight.data)

    def branches(self) -> list[Branch]:
        """Return the residual branches of all extractors, oldest first."""
        newest = len(self.extractors) - 1
        return [
            Branch("new_extractor" if k == newest else "old_extractors", rate)
            for k, extractor in enumerate(self._backbones())
            for rate in extractor.drop_rates()
        ]

    def newest_prunable(self) -> PrunableResNet | None:
        """Return the newest extractor if it can be pruned, or has been."""
        newest = self.extractors[-1] if len(self.extractors) else None
        return newest if isinstance(newest, PrunableResNet) else None

    def _backbones(self) -> list[Backbone]:
        return [extractor for extractor in self.extractors if isinstance(extractor, Backbone)]

    def forward(self, images: Images, scales: Scales | None = None) -> Features:
        """Return one embedding an extractor, and the newest extractor's maps."""
        embeddings, start = [], 0
        maps: tuple[Tensor, ...] = ()
        for extractor in self._backbones():
            stop = start + len(extractor.drop_rates())
            embedding, maps = extractor(images, None if scales is None else scales[start:stop])
            embeddings.append(embedding)
            start = stop
        return Features(torch.stack(embeddings, dim=1), maps)

    def logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Classify all features together."""
        assert self.classifier is not None
        return self.classifier(features.embeddings.flatten(1))

    def remember(self, classifier: Float[Tensor, "C_old TF_old"] | None) -> None:
        """Keep a classifier of old classes on old features, beside the one that goes on learning."""
        self.remembered = classifier

    def remembered_logits(self, features: Features) -> Float[Tensor, "B C_old"]:
        """Return what the network before the last growth scores: its extractors are still there, frozen, and its
        classifier is remembered. No gradient passes.
        """
        assert self.remembered is not None
        old = features.embeddings[:, :-1].detach().flatten(1)
        return nn.functional.linear(old, self.remembered)

    def auxiliary(self, features: Features) -> Float[Tensor, "B groups"] | None:
        """Return scores from the newest extractor alone, 0 for any old class; ``None`` in the first task."""
        return None if self.auxiliary_classifier is None else self.auxiliary_classifier(features.embeddings[:, -1])

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the extractors' parameters, split into old and newest, and those of the two classifiers; where
        extractors are pruned, the masks of the newest one's channels too.
        """
        newest = self.newest_prunable()
        masks = {} if newest is None else {CHANNEL_MASKS: newest.parts()[CHANNEL_MASKS]}
        apart = {id(p) for logits in masks.values() for p in logits}
        return {
            "old_extractors": [p for extractor in self._backbones()[:-1] for p in extractor.parameters()],
            "new_extractor": [p for each in self._backbones()[-1:] for p in each.parameters() if id(p) not in apart],
            **masks,
            "classifier": [] if self.classifier is None else list(self.classifier.parameters()),
            "auxiliary": [] if self.auxiliary_classifier is None else list(self.auxiliary_classifier.parameters()),
        }

    def settled(self) -> list[str]:
        """Return the extractors of earlier tasks, and a newest one that is never trained."""
        newest = len(self.extractors) - 1
        return [f"extractors.{k}" for k, each in enumerate(self._backbones()) if k < newest or each.frozen]

    def structure(self) -> dict[str, Any]:
        """Return the sizes of each extractor and the classes of each task; see :meth:`from_parts`."""
        return {
            "kind": "extractor_network",
            "backbones": [extractor.structure() for extractor in self._backbones()],
            "classes": list(self._classes),
        }
