"""The residual networks of the baselines: the CIFAR ResNet of depth 6n + 2 and ResNet-18 with a stem for small images.

He et al., Deep residual learning (CVPR 2016), sections 4.1 and 4.2. iCaRL's and the other older papers' network is the
CIFAR ResNet-32 (64 features); the ResNet rows of DyTox's table use ResNet-18 with a 3 x 3 stride-1 stem and no pooling
behind it (512 features, 11.22 M parameters with 100 classes). Convolutions start from He's normal initialisation
(fan-out, ReLU), as in the original networks and the published baselines.

Weights are drawn from torch's current stream: build within ``rng.torch_seeded``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.replica_norm import ReplicaBatchNorm2d
from cl_lightning.models.tensor_types import Images, Maps, Scales
from cl_lightning.models.weights_file import Weights

Shortcut = Callable[[int, int], nn.Module]
"""(channels before, channels after) -> the shortcut of a block that halves the resolution."""


class BasicBlock(nn.Module):
    """A block of two 3 x 3 convolutions on a residual stream; halves the resolution where the channels change."""

    def __init__(self, before: int, after: int, shortcut: Shortcut, *, relu: bool = True) -> None:
        """``relu=False`` leaves out the ReLU behind the sum."""
        super().__init__()
        shrinks = before != after
        self.conv1 = nn.Conv2d(before, after, 3, stride=2 if shrinks else 1, padding=1, bias=False)
        self.norm1 = ReplicaBatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = ReplicaBatchNorm2d(after)
        self.shortcut = shortcut(before, after) if shrinks else nn.Identity()
        self.relu = relu

    def forward(self, x: Float[Tensor, "B before H W"]) -> Float[Tensor, "B after H_out W_out"]:
        """Add the branch to the shortcut; H_out = H or ceil(H / 2)."""
        branch = F.relu(self.norm1(self.conv1(x)), inplace=True)
        total = self.norm2(self.conv2(branch)) + self.shortcut(x)
        return F.relu(total, inplace=True) if self.relu else total


class PaddedShortcut(nn.Module):
    """A shortcut of every second pixel, and zeros for the missing channels: "option A", without parameters."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.missing = after - before

    def forward(self, x: Float[Tensor, "B before H W"]) -> Float[Tensor, "B after (H+1)//2 (W+1)//2"]:
        """Subsample and pad."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.missing))


def projection_shortcut(before: int, after: int) -> nn.Module:
    """Build a strided 1 x 1 convolution and batch norm: "option B"."""
    return nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), ReplicaBatchNorm2d(after))


STEMS = ("small", "large", "pooled")
"""Stems of ResNet-18."""
_SHORTCUTS: dict[str, Shortcut] = {"padded": PaddedShortcut, "projection": projection_shortcut}


class _ResNet(Backbone):
    """The common part of the two networks below: stem, stages, mean over positions."""

    def __init__(self, channels: int, stages: list[tuple[int, int]], shortcut: Shortcut, *, frozen: bool) -> None:
        """``stages`` are the width and the number of blocks of each; the first has the width of the stem."""
        super().__init__(dim=stages[-1][0], frozen=frozen)
        widths = [width for width, _ in stages]
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = ReplicaBatchNorm2d(widths[0])
        self.pool: nn.Module = nn.Identity()
        self.stages = nn.ModuleList()
        for before, (after, blocks) in zip([widths[0], *widths], stages, strict=False):
            chain = [BasicBlock(before if k == 0 else after, after, shortcut) for k in range(blocks)]
            self.stages.append(nn.Sequential(*chain))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _blocks(self) -> list[BasicBlock]:
        return [module for module in self.modules() if isinstance(module, BasicBlock)]

    def _start_from_shortcuts(self) -> None:
        """Let the last batch norm of each residual branch start from zero (Goyal et al. 2017): every block is its
        shortcut.
        """
        for block in self._blocks():
            nn.init.zeros_(block.norm2.weight)

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return vectors and the output of each stage; there are no branches to scale."""
        x = self.pool(F.relu(self.norm(self.conv(images)), inplace=True))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return x.mean(dim=(2, 3)), tuple(maps)


class CifarResNet(_ResNet):
    """The CIFAR ResNet of depth 6n + 2: three stages of n blocks with 16, 32 and 64 channels, 64 features.

    Depth 32 has 0.46 M parameters with ``padded`` shortcuts (option A), and 2,752 more with ``projection`` (option B).
    UCIR leaves out the very last ReLU, so that features may be negative. PODNet has none behind any sum, branches that
    start from zero, and its last block as a stage of its own.
    """

    def __init__(
        self,
        *,
        depth: int = 32,
        channels: int = 3,
        width: int = 16,
        shortcut: str = "padded",
        last_relu: bool = True,
        stream_relu: bool = True,
        zero_residual: bool = False,
        final_stage: bool = False,
        frozen: bool = False,
    ) -> None:
        """Build for images of any size from 1 pixel.

        Args:
            depth: 6n + 2 with n >= 1.
            channels: channels of the images.
            width: channels of the first stage.
            shortcut: ``padded`` or ``projection``, where the width changes.
            last_relu: False leaves out the very last ReLU.
            stream_relu: False leaves out the ReLU behind every sum.
            zero_residual: True lets residual branches start from zero.
            final_stage: True makes the last block a stage, and so a map, of its own.
            frozen: True for a network that is never trained: its batch norms stay in evaluation mode.

        Raises ``ValueError`` for a depth that is not 6n + 2, and for another shortcut.
        """
        if depth < 8 or depth % 6 != 2:
            raise InvalidSettingError("depth", depth, "is not 6n + 2 with n >= 1", "32 (or 8, 14, 20, ...)")
        if shortcut not in _SHORTCUTS:
            raise InvalidSettingError("shortcut", shortcut, "is not a choice", tuple(_SHORTCUTS))
        blocks = (depth - 2) // 6
        stages = [(width, blocks), (2 * width, blocks), (4 * width, blocks)]
        if final_stage and blocks > 1:
            stages[2:] = [(4 * width, blocks - 1), (4 * width, 1)]
        super().__init__(channels, stages, _SHORTCUTS[shortcut], frozen=frozen)
        for block in self._blocks():
            block.relu = stream_relu
        self._blocks()[-1].relu = stream_relu and last_relu
        if zero_residual:
            self._start_from_shortcuts()
        self._sizes: dict[str, Any] = {"depth": depth, "channels": channels, "last_relu": last_relu}
        further = {
            "width": (width, 16),
            "shortcut": (shortcut, "padded"),
            "stream_relu": (stream_relu, True),
            "zero_residual": (zero_residual, False),
            "final_stage": (final_stage, False),
            "frozen": (frozen, False),
        }  # older checkpoints describe themselves without these
        self._sizes.update({name: value for name, (value, usual) in further.items() if value != usual})
        self.train()

    def structure(self) -> dict[str, Any]:
        """Return the sizes to build it again."""
        return {"kind": "cifar_resnet", **self._sizes}


_TORCHVISIONS = "layer1.0.conv1.weight"
"""Name that tells torchvision's weights from ours."""
_NAMES = (
    (r"^conv1\.", "conv."),
    (r"^bn1\.", "norm."),
    *((rf"^layer{stage + 1}\.", f"stages.{stage}.") for stage in range(4)),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.downsample\.", ".shortcut."),
)
"""Patterns of torchvision's names, and what they are here."""


def _ours(key: str) -> str:
    for theirs, ours in _NAMES:
        key = re.sub(theirs, ours, key)
    return key


class ResNet18(_ResNet):
    """ResNet-18: four stages of two blocks with w, 2w, 4w and 8w channels, 8w features, projection shortcuts.

    The stem is a 3 x 3 convolution for small images, as in DyTox's table for CIFAR-100, or He et al.'s 7 x 7
    convolution of stride 2 and a pooling of stride 2 for large ones.

    The last batch norm of each residual branch starts from zero (Goyal et al. 2017), as in the runs of DyTox's table:
    at first every block is its shortcut.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        channels: int = 3,
        stem: str = "small",
        last_relu: bool = True,
        stage_relu: bool = True,
        frozen: bool = False,
    ) -> None:
        """Build for images of any size from 1 pixel.

        Args:
            width: channels of the first stage, >= 1.
            channels: channels of the images.
            stem: ``small`` (3 x 3), ``large`` (7 x 7 of stride 2, pooled) or ``pooled`` (3 x 3, pooled: PODNet's).
            last_relu: False leaves out the very last ReLU (UCIR).
            stage_relu: False leaves out the last ReLU of each stage (PODNet).
            frozen: True for a network that is never trained: its batch norms stay in evaluation mode.

        Raises ``ValueError`` for other sizes and stems.
        """
        if stem not in STEMS:
            raise InvalidSettingError("stem", stem, "is not a choice", STEMS)
        if width < 1:
            raise InvalidSettingError("width", width, "is no number of channels", "64 (or any other from 1)")
        super().__init__(channels, [(width << stage, 2) for stage in range(4)], projection_shortcut, frozen=frozen)
        self._sizes: dict[str, Any] = {"width": width, "channels": channels, "stem": stem}
        further = {"last_relu": (last_relu, True), "stage_relu": (stage_relu, True), "frozen": (frozen, False)}
        self._sizes.update({name: value for name, (value, usual) in further.items() if value != usual})
        for stage in self.stages:
            stage[-1].relu = stage_relu  # type: ignore[index]
        self._blocks()[-1].relu = stage_relu and last_relu
        if stem == "large":
            self.conv = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if stem != "small":
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self._start_from_shortcuts()
        self.train()

    def renamed(self, weights: Weights) -> dict[str, Tensor]:
        """Return the weights of torchvision's or timm's ``resnet18`` under our names, without their classifier."""
        if _TORCHVISIONS not in weights:
            return dict(weights)
        return {_ours(key): value for key, value in weights.items() if not key.startswith("fc.")}

    def structure(self) -> dict[str, Any]:
        """Return the sizes to build it again."""
        return {"kind": "resnet18", **self._sizes}
