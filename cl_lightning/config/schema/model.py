"""Options of the models, as typed dataclasses; what each means stands beside it in ``conf/model``.

What a model needs of the machine's memory is forecast from them (:mod:`~cl_lightning.resources`); their upper bounds
are beyond any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cl_lightning.config.schema.bounds import choice, number, share, whole
from cl_lightning.config.schema.data import MOST_PIXELS
from cl_lightning.config.schema.fixed_names import chosen, constant
from cl_lightning.config.schema.open_options import Filled
from cl_lightning.config.schema.path_options import file

_MOST_DEPTH = 2000


def _dim() -> Any:
    return whole(at_least=1, at_most=1 << 17)


def _heads() -> Any:
    return whole(at_least=1, at_most=1 << 12)


def _depth() -> Any:
    return whole(at_least=1, at_most=_MOST_DEPTH)


def _patch() -> Any:
    return whole(at_least=1, at_most=MOST_PIXELS)


@dataclass(kw_only=True)
class ModelConfig:
    """Options of all models; ``auto`` has no others."""

    encoder: ClassVar[str] = ""
    """Kind of network, one of ``method.ENCODERS``, in each model that can be built."""
    name: str = chosen("model")

    def typed(self) -> str:
        """Return what is typed to choose the model, for messages."""
        return f"model={self.name}"


@dataclass(kw_only=True)
class ConViTConfig(ModelConfig):
    """ConViT encoder."""

    encoder: ClassVar[str] = "transformer"
    kind: str = constant("model", "convit")
    patch_size: Filled[int] = _patch()
    dim: int = _dim()
    num_heads: int = _heads()
    depth: int = _depth()
    mlp_ratio: float = number(above=0.0, at_most=1000.0)
    locality: float = number(at_least=-1000.0, at_most=1000.0)
    drop_path: float = share()


@dataclass(kw_only=True)
class ConvViTConfig(ModelConfig):
    """DKT's encoder: a transformer with convolutions."""

    encoder: ClassVar[str] = "conv_transformer"
    kind: str = constant("model", "conv_vit")
    patch_size: Filled[int] = _patch()
    dim: int = _dim()
    num_heads: int = _heads()
    depth: int = _depth()
    mlp_ratio: float = number(above=0.0, at_most=1000.0)
    drop_path: float = share()
    general_token: bool


@dataclass(kw_only=True)
class TimmConfig(ModelConfig):
    """One of timm's plain vision transformers."""

    encoder: ClassVar[str] = "vit"
    name: str
    kind: str = constant("model", "timm_vit")
    patch_size: int | None = _patch()
    pretrained: bool
    drop_path: float = share()


@dataclass(kw_only=True)
class TimmBackboneConfig(ModelConfig):
    """Any of timm's networks, as a feature extractor."""

    encoder: ClassVar[str] = "any"  # none that a method's authors have: every method becomes an adaptation

    name: str
    kind: str = constant("model", "timm_backbone")
    patch_size: int | None = _patch()
    pretrained: bool
    weights_file: str | None = file()
    frozen: bool

    def typed(self) -> str:
        """Return what is typed to choose the model, for messages."""
        return f"model=timm_backbone model.name={self.name}"


@dataclass(kw_only=True)
class ViTConfig(ModelConfig):
    """A plain vision transformer with a class token."""

    encoder: ClassVar[str] = "vit"
    kind: str = constant("model", "plain_vit")
    patch_size: Filled[int] = _patch()
    dim: int = _dim()
    num_heads: int = _heads()
    depth: int = _depth()
    mlp_ratio: float = number(above=0.0, at_most=1000.0)
    drop_path: float = share()
    weights_file: str | None = file()
    frozen: bool


@dataclass(kw_only=True)
class AlexNetConfig(ModelConfig):
    """HAT's network of AlexNet's kind."""

    encoder: ClassVar[str] = "cnn"
    kind: str = constant("model", "alexnet")
    width: int = whole(at_least=1, at_most=1 << 14)
    hidden: int = whole(at_least=1, at_most=1 << 17)
    dropout: bool
    weights_file: str | None = file()
    frozen: bool


@dataclass(kw_only=True)
class CifarResNetConfig(ModelConfig):
    """The CIFAR ResNet of depth 6n + 2."""

    encoder: ClassVar[str] = "cnn"
    kind: str = constant("model", "cifar_resnet")
    depth: int = whole(at_least=8, at_most=_MOST_DEPTH)
    shortcut: str = choice(("padded", "projection"))
    weights_file: str | None = file()
    frozen: bool


@dataclass(kw_only=True)
class PathNetConfig(ModelConfig):
    """RPS-Net's network of parallel modules."""

    encoder: ClassVar[str] = "paths"
    kind: str = constant("model", "path_net")
    width: int = whole(at_least=1, at_most=1 << 14)
    stem: Filled[str] = choice(("small", "large"))


@dataclass(kw_only=True)
class ResNet18Config(ModelConfig):
    """ResNet-18 with a stem for small images."""

    encoder: ClassVar[str] = "cnn"
    kind: str = constant("model", "resnet18")
    width: int = whole(at_least=1, at_most=1 << 14)
    stem: Filled[str] = choice(("small", "large", "pooled"))
    weights_file: str | None = file()
    frozen: bool
