"""Read a golden file of the published DyTox: rebuild its small model, task by task, in ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cl_lightning.models.convit import ConViT
from cl_lightning.models.token_network import TokenNetwork
from cl_lightning.rng import Key

GOLDEN = Path(__file__).parent


class GoldenFile:
    """Arrays of one file as tensors, and its sizes."""

    def __init__(self, name: str) -> None:
        self._arrays = np.load(GOLDEN / name, allow_pickle=False)
        self.meta = json.loads(str(self._arrays["meta.json"]))
        self.images = self["x"]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self._arrays[name]))

    def names(self, prefix: str) -> list[str]:
        return [name.removeprefix(prefix) for name in self._arrays.files if name.startswith(prefix)]


def our_name(theirs: str) -> str:
    """Name of a golden parameter in our network."""
    head, _, rest = theirs.partition(".")
    match head:
        case "pos_embed" | "patch_embed":
            return f"encoder.{theirs}"
        case "encoder":
            return f"encoder.blocks.{rest}"
        case "task_tokens":
            return f"tokens.{rest}"
        case "head":
            return f"classifier.heads.{rest}"
        case "head_div":
            return f"divergence.{rest}"
        case _:
            return theirs


def build(golden: GoldenFile, task: int) -> TokenNetwork:
    """The network as it stood when ``task`` started training."""
    meta = golden.meta
    encoder = ConViT(
        image_size=meta["image_size"],
        patch_size=meta["patch_size"],
        dim=meta["embed_dim"],
        num_heads=meta["num_heads"],
        depth=meta["num_sab"],
    )
    network = TokenNetwork(encoder)
    for increment in meta["increments"][: task + 1]:
        network.grow(increment, Key(0))
    names = golden.names(f"task{task}/params/")
    network.load_state_dict({our_name(name): golden[f"task{task}/params/{name}"] for name in names}, strict=True)
    return network
