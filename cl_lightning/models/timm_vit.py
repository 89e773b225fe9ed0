"""timm's plain vision transformers, by name, as encoders.

Only the plain family fits: a grid of patch tokens of one width through all blocks. The class token and the final norm
are left out, as in DyTox's own encoder; stochastic depth is applied from outside, as everywhere in this package.

Legend: B batch, N patches, D width.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.layers import residual
from cl_lightning.models.tensor_types import Images, Maps, Scales
from cl_lightning.models.timm_names import check_name


class TimmViT(Encoder):
    """An encoder of ``timm.create_model(name)`` without class token, head and final norm."""

    def __init__(
        self,
        *,
        name: str,
        image_size: int,
        channels: int = 3,
        patch_size: int | None = None,
        pretrained: bool = False,
        drop_path: float = 0.1,
    ) -> None:
        """Build the transformer for ``image_size``; ``patch_size`` replaces the name's own (for small images).

        Raises ``ValueError`` for names that timm does not know and for families that are not plain vision transformers.
        """
        vit = open_plain_vit(name, image_size, channels, patch_size, pretrained=pretrained)
        vit.norm = nn.Identity()  # heads have their own norm: no parameter may be left that never gets a gradient
        super().__init__(dim=vit.embed_dim, num_heads=vit.blocks[0].attn.num_heads)
        self.vit = vit
        self.drop_path = drop_path
        self.num_patches = vit.patch_embed.num_patches
        self.patch_size = vit.patch_embed.patch_size[0]
        self.mlp_ratio = vit.blocks[0].mlp.fc1.out_features / vit.embed_dim
        self._sizes = {
            "name": name, "image_size": image_size, "channels": channels,
            "patch_size": patch_size, "drop_path": drop_path,
        }  # fmt: skip

    def drop_rates(self) -> list[float]:
        """Return two rates a block, rising linearly from 0 towards the decoder's."""
        depth = len(self.vit.blocks)
        return [self.drop_path * k / depth for k in range(depth) for _ in range(2)]

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B N D"], Maps]:
        """Return the tokens after the last block, and those after every block."""
        vit = self.vit
        x_BND = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
        maps = []
        for k, block in enumerate(vit.blocks):
            first, second = (None, None) if scales is None else (scales[2 * k], scales[2 * k + 1])
            x_BND = residual(x_BND, block.ls1(block.attn(block.norm1(x_BND))), first)
            x_BND = residual(x_BND, block.ls2(block.mlp(block.norm2(x_BND))), second)
            maps.append(x_BND)
        return x_BND, tuple(maps)

    def visible(self, images: Images, rows_BV: Int64[Tensor, "B V"]) -> Float[Tensor, "B V D"]:
        """Return the tokens of the patches ``rows_BV`` of each image, which see each other alone."""
        vit = self.vit
        x_BND = vit._pos_embed(vit.patch_embed(images))
        x_BVD = vit.norm_pre(x_BND.gather(1, rows_BV[..., None].expand(-1, -1, x_BND.shape[-1])))
        for block in vit.blocks:
            x_BVD = x_BVD + block.ls1(block.attn(block.norm1(x_BVD)))
            x_BVD = x_BVD + block.ls2(block.mlp(block.norm2(x_BVD)))
        return x_BVD

    def structure(self) -> dict[str, Any]:
        """Return name and sizes; weights come from the checkpoint, never from a download."""
        return {"kind": "timm_vit", **self._sizes}


class NotPlainError(InvalidSettingError):
    """A name of timm's whose network is no plain vision transformer."""

    def with_mend(self, mend: str) -> NotPlainError:
        """Return the same with what else helps."""
        return NotPlainError(self.name, self.value, self.reason, self.allowed, mend)


def open_plain_vit(
    name: str,
    image_size: int,
    channels: int,
    patch_size: int | None,
    *,
    pretrained: bool,
    class_token: bool = False,
) -> Any:
    """Build timm's transformer without a classifier, with class token and final norm or with neither in use.

    Raises ``ValueError`` as :class:`TimmViT` does.
    """
    import timm
    from timm.models.vision_transformer import Block, VisionTransformer

    check_name(name)
    entry = timm.model_entrypoint(name).__module__
    refusal = f"(from {entry}) is not a plain vision transformer, it has no grid of patch tokens of one width"
    plain = "vit_tiny_patch16_224 or another vit_* or deit_* name"
    options: dict[str, Any] = {"img_size": image_size, "num_classes": 0}
    if not class_token:
        options |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    options |= {"in_chans": channels} | ({} if patch_size is None else {"patch_size": patch_size})
    if not entry.endswith((".vision_transformer", ".deit")):
        raise NotPlainError("name", name, refusal, plain)
    try:
        vit = timm.create_model(name, pretrained=pretrained, **options)
    except (TypeError, AssertionError) as error:
        raise NotPlainError("name", name, f"{refusal} ({error})", plain) from error
    if type(vit) is not VisionTransformer or any(type(block) is not Block for block in vit.blocks):
        raise NotPlainError("name", name, refusal, plain)
    return vit
