"""RPS-Net's network: nine layers of parallel modules, of which a path takes one a layer.

Rajasegaran, Hayat, Khan, Khan & Shao, Random path selection (NeurIPS 2019), section 3.1, as the authors' code has it. A
layer's output is the *sum* of its modules on any path so far, then ReLU. Layers 4, 6 and 8 double the channels: a
"link", a convolution that all paths share, takes the place of the shortcut there. The others but the first add their
input.

The published network holds eight modules a layer from the start, 89.59 M parameters with 100 classes. One that is on no
path takes part in nothing: here modules are built when a path comes to them. One path has 12.60 M parameters, five
that share nothing 56.60 M.

Legend: B batch, D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.replica_norm import ReplicaBatchNorm2d
from cl_lightning.models.tensor_types import Images, Maps, Scales

LAYERS = 9
Path = tuple[int, ...]
"""Number of a path's module in each layer."""
FIRST: Path = (0,) * LAYERS
STEMS = ("small", "large")
_WIDENINGS = (None, 1, 1, 1, 2, 2, 4, 4, 8)
"""Channels that enter each layer, in widths of the first; None: the image's."""
_LINKED = (3, 5, 7)
_LAYER_7 = 6
_POOLED = {"small": (4, 6), "large": (2, 4, 6, 8)}
"""Stem -> layers behind which the resolution is halved."""


def _convolution(before: int, after: int, *, side: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, side, stride=stride, padding=side // 2)
    return [convolution, ReplicaBatchNorm2d(after)]


def described(path: Path) -> str:
    """Return a path as text, for a description: ``0-3-1-0-7-2-2-5-4``."""
    return "-".join(map(str, path))


def _read(path: str) -> Path:
    """Invert :func:`described`; what is none becomes an empty path, which no backbone takes."""
    numbers = path.split("-")
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else ()


class PathLayer(nn.Module):
    """A layer: the sum of its modules, with its link or its input."""

    def __init__(self, before: int, after: int, *, stem: str | None = None, linked: bool, residual: bool) -> None:
        """Build without a module. ``stem`` is the form of the first layer; None: a layer of two convolutions."""
        super().__init__()
        self.sizes = (before, after)
        self.stem = stem
        self.residual = residual
        self.link = nn.Sequential(*_convolution(before, after), nn.ReLU(inplace=True)) if linked else None
        self.choices = nn.ModuleDict()
        """Module's number -> the module, in the order in which paths came to them."""

    def build(self) -> nn.Module:
        """Return a new module; draws from torch's current stream."""
        before, after = self.sizes
        relu = nn.ReLU(inplace=True)
        if self.stem is not None:
            side, stride = (7, 2) if self.stem == "large" else (3, 1)
            return nn.Sequential(*_convolution(before, after, side=side, stride=stride), relu)
        return nn.Sequential(*_convolution(before, after), relu, *_convolution(after, after))

    def forward(self, x: Float[Tensor, "B before H W"]) -> Float[Tensor, "B after H_out W_out"]:
        """Add up what the modules make of ``x``."""
        total = sum(module(x) for module in self.choices.values())
        if self.link is not None:
            total = total + self.link(x)
        if self.residual:
            total = total + x
        assert isinstance(total, Tensor)
        return F.relu(total)


class PathBackbone(Backbone):
    """Layers of w, 2w, 4w and 8w channels and their paths; 8w features.

    Convolutions have biases, as published, and start as PyTorch draws them. A new backbone has the path of the modules
    0; other methods than RPS-Net train it as it is.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        channels: int = 3,
        stem: str = "small",
        layer7_residual: bool = True,
        modules: int = 1,
        paths: Sequence[str] = (described(FIRST),),
    ) -> None:
        """Build for images of any size from 1 pixel; draws from torch's current stream.

        Args:
            width: channels of the first layers, >= 1.
            channels: channels of the images.
            stem: ``small`` (3 x 3, two poolings: CIFAR) or ``large`` (7 x 7 of stride 2, four poolings: ImageNet).
            layer7_residual: False leaves out the input of layer 7 from its sum, as the authors' code does.
            modules: modules of a layer that there may be, >= 1.
            paths: each path so far, as :func:`described`.

        Raises ``ValueError`` for other sizes, stems and paths.
        """
        if stem not in STEMS:
            raise InvalidSettingError("stem", stem, "is not a choice", STEMS)
        if width < 1:
            raise InvalidSettingError("width", width, "is no number of channels", "64 (or any other from 1)")
        super().__init__(dim=8 * width)
        self._sizes: dict[str, Any] = {
            "width": width,
            "channels": channels,
            "stem": stem,
            "layer7_residual": layer7_residual,
            "modules": modules,
        }
        self._pooled = _POOLED[stem]
        self._paths: list[Path] = []
        entering = [channels if factor is None else factor * width for factor in _WIDENINGS]
        leaving = [*entering[1:], self.dim]
        self.layers = nn.ModuleList(
            PathLayer(
                before,
                after,
                stem=stem if index == 0 else None,
                linked=index in _LINKED,
                residual=index > 0 and index not in _LINKED and (index != _LAYER_7 or layer7_residual),
            )
            for index, (before, after) in enumerate(zip(entering, leaving, strict=True))
        )
        for path in paths:
            self.add_path(_read(path))
        self.train()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths so far, oldest first."""
        return tuple(self._paths)

    def _layers(self) -> list[PathLayer]:
        return [layer for layer in self.layers if isinstance(layer, PathLayer)]

    def add_path(self, path: Path) -> None:
        """Add a path; modules that no earlier one has are built, from torch's current stream. Their outputs count from
        now on. Raises ``ValueError`` for a path that is not one of the ``modules`` of each layer.
        """
        most = self._sizes["modules"] - 1
        if len(path) != LAYERS or not all(0 <= chosen <= most for chosen in path):
            reason = f"is no path of {LAYERS} modules from 0 to {most}"
            raise InvalidSettingError("paths", described(path), reason, described(FIRST))
        for layer, chosen in zip(self._layers(), path, strict=True):
            if str(chosen) not in layer.choices:
                layer.choices[str(chosen)] = layer.build()
        self._paths.append(path)
        parameter = next(self.parameters())
        self.to(parameter.device, parameter.dtype)

    def remove_path(self) -> None:
        """Take away the newest path, with the modules that no earlier one has."""
        newest = self._paths.pop()
        for index, (layer, chosen) in enumerate(zip(self._layers(), newest, strict=True)):
            if all(path[index] != chosen for path in self._paths):
                del layer.choices[str(chosen)]

    def trained_modules(self) -> dict[str, nn.Module]:
        """Return the modules of the newest path that no earlier one has, and the links, by their names in the
        backbone.
        """
        found: dict[str, nn.Module] = {}
        for index, (layer, chosen) in enumerate(zip(self._layers(), self._paths[-1], strict=True)):
            if layer.link is not None:
                found[f"layers.{index}.link"] = layer.link
            if all(path[index] != chosen for path in self._paths[:-1]):
                found[f"layers.{index}.choices.{chosen}"] = layer.choices[str(chosen)]
        return found

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return vectors and the output of each layer; there are no branches to scale."""
        x, maps = images, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self._pooled:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            maps.append(x)
        return x.mean(dim=(2, 3)), tuple(maps)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the modules that the newest path brought, with the links; those of earlier paths; and the biases of
        all convolutions.

        A batch norm takes a bias away again: its gradient is nothing but rounding, of which Adam would make steps.
        """
        biases = {id(each.bias) for each in self.modules() if isinstance(each, nn.Conv2d)}
        trained = {id(p) for module in self.trained_modules().values() for p in module.parameters()} - biases
        parameters = list(self.parameters())
        return {
            "backbone": [p for p in parameters if id(p) in trained],
            "old_paths": [p for p in parameters if id(p) not in trained | biases],
            "offsets": [p for p in parameters if id(p) in biases],
        }

    def structure(self) -> dict[str, Any]:
        """Return the sizes and the paths to build it again."""
        return {"kind": "path_net", **self._sizes, "paths": [described(path) for path in self._paths]}
