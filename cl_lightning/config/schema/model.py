"""Options of the models, as typed dataclasses; what each means stands beside it in ``conf/model``.

What a model needs of the machine's memory is forecast from them (:mod:`~cl_lightning.resources`); their upper bounds
are beyond any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cl_lightning.config.schema.bounds import choice, number, share, whole
from cl_lightning.config.schema.data import MOST_PIXELS
from cl_lightning.config.schema.fixed_names import chosen

_MOST_DEPTH = 2000


def _dim(default: int) -> Any:
    return whole(default, at_least=1, at_most=1 << 17)


def _heads(default: int) -> Any:
    return whole(default, at_least=1, at_most=1 << 12)


def _depth(default: int) -> Any:
    return whole(default, at_least=1, at_most=_MOST_DEPTH)


def _patch() -> Any:
    return whole(None, at_least=1, at_most=MOST_PIXELS)


@dataclass
class ModelConfig:
    """Options of all models; ``auto`` has no others."""

    name: str = chosen("model", "auto")


@dataclass
class ConViTConfig(ModelConfig):
    """ConViT encoder."""

    kind: str = chosen("model", "convit")
    patch_size: int | None = _patch()
    dim: int = _dim(384)
    num_heads: int = _heads(12)
    depth: int = _depth(5)
    mlp_ratio: float = number(4.0, above=0.0, at_most=1000.0)
    locality: float = number(1.0, at_least=-1000.0, at_most=1000.0)
    drop_path: float = share(0.1)


@dataclass
class TimmConfig(ModelConfig):
    """One of timm's plain vision transformers."""

    name: str = "auto"
    kind: str = chosen("model", "timm_vit")
    patch_size: int | None = _patch()
    pretrained: bool = False
    drop_path: float = share(0.1)


@dataclass
class ViTConfig(ModelConfig):
    """A plain vision transformer with a class token."""

    kind: str = chosen("model", "plain_vit")
    patch_size: int | None = _patch()
    dim: int = _dim(192)
    num_heads: int = _heads(3)
    depth: int = _depth(12)
    mlp_ratio: float = number(4.0, above=0.0, at_most=1000.0)
    drop_path: float = share(0.1)


@dataclass
class CifarResNetConfig(ModelConfig):
    """The CIFAR ResNet of depth 6n + 2."""

    kind: str = chosen("model", "cifar_resnet")
    depth: int = whole(32, at_least=8, at_most=_MOST_DEPTH)


@dataclass
class ResNet18Config(ModelConfig):
    """ResNet-18 with a stem for small images."""

    kind: str = chosen("model", "resnet18")
    width: int = whole(64, at_least=1, at_most=1 << 14)
    stem: str | None = choice(None, ("small", "large"))
