"""Comparison of UCIR's golden vectors with ours, in float64: head, losses and gradients, imprinting, blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.cosine import imprinted_rows, less_forget, margin_ranking
from cl_lightning.models.heads import CosineByTask
from cl_lightning.models.resnet import BasicBlock, CifarResNet, projection_shortcut
from scripts.reference.difference import Row, difference, lacking
from scripts.reference.vectors import VectorFile

RELATIVE = 1e-9
"""Largest difference, relative to the entry's largest value: both sides compute in float64."""
_BATCHES = ("all", "no_old_sample", "only_old_samples")
_INPUTS = (
    "features", "teacher_features", "labels", "old_weight", "new_weight", "scale", "lambda_base", "margin",
    "negatives", "num_old", "num_new",
)  # fmt: skip
_STEPS = {"10": 10, "20": 20, "50": 50}
_BASES = {"cifar100": 5.0, "imagenet": 10.0}
_PARTS = {"bn1": "norm1", "bn2": "norm2", "downsample": "shortcut"}
"""Module of LUCIR's blocks -> ours, where the names differ."""


def matches(file: VectorFile) -> bool:
    """Return whether it has UCIR's head."""
    return "forward/old_cosines" in file and "forward/new_cosines" in file


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    inputs = ("samples", "input", "scale") if "/" in entry else _INPUTS
    name = entry.rpartition("/")[2]
    of_folder = entry.startswith("imprint/") and (name == "old_weight" or name.startswith("features_of_"))
    return (name in inputs and "/grad/" not in entry) or of_folder or "/params/" in entry


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare whatever of the format is there."""
    missing = [name for name in _INPUTS if name not in file]
    if missing:
        yield from map(lacking, missing)
        return
    yield from _head(file)
    for batch in _BATCHES:
        if f"{batch}/samples" in file:
            yield from _losses(file, batch)
    yield from _schedules(file)
    if "imprint/old_weight" in file:
        yield _imprinted(file)
    for block, relu in (("block_down", True), ("block_last", False)):
        if f"{block}/input" in file:
            yield _same(f"{block}/output", _block(file, block, relu=relu), file)
    if "resnet32/parameters_without_head" in file:
        network = CifarResNet(depth=32, shortcut="projection", last_relu=False)
        count = torch.tensor(sum(parameter.numel() for parameter in network.parameters()))
        yield difference("resnet32/parameters_without_head", count, file["resnet32/parameters_without_head"], 0)


def _same(entry: str, ours: Tensor, file: VectorFile) -> Row:
    theirs = file[entry]
    return difference(entry, ours, theirs, RELATIVE * max(1e-3, theirs.abs().max().item()))


def _cosine_head(file: VectorFile) -> CosineByTask:
    head = CosineByTask(file["old_weight"].shape[1]).double()
    for name in ("old_weight", "new_weight"):
        head.tasks.append(nn.Parameter(file[name]))
    head.scale = nn.Parameter(file["scale"])
    return head


def _head(file: VectorFile) -> Iterator[Row]:
    head, features, old = _cosine_head(file), file["features"], int(file["num_old"])
    yield _same("forward/logits", head(features), file)
    cosines = head.cosines(features)
    yield _same("forward/old_cosines", cosines[:, :old], file)
    yield _same("forward/new_cosines", cosines[:, old:], file)
    if "first_task/logits" in file:
        first = CosineByTask(features.shape[1]).double()
        first.tasks.append(nn.Parameter(file["old_weight"]))
        first.scale = nn.Parameter(file["first_task/scale"].view(1))
        yield _same("first_task/logits", first(features), file)
    if "lambda" in file:
        ours = file["lambda_base"] * math.sqrt(old / int(file["num_new"]))
        yield _same("lambda", ours, file)


def _losses(file: VectorFile, batch: str) -> Iterator[Row]:
    head, old = _cosine_head(file), int(file["num_old"])
    features = file["features"].requires_grad_()
    chosen = file[f"{batch}/samples"]
    used, labels = features[chosen], file["labels"][chosen]
    cosines = head.cosines(used)
    targets = F.one_hot(labels, cosines.shape[1]).to(cosines)
    kept = less_forget(used, file["teacher_features"][chosen])
    terms = {
        "classification": cross_entropy(head(used), targets),
        "less_forget_unweighted": kept,
        "less_forget": file["lambda"] * kept,
        "margin_ranking": margin_ranking(cosines, labels, old, int(file["negatives"]), float(file["margin"])),
    }
    for name, term in terms.items():
        yield _same(f"{batch}/loss/{name}", term, file)
    total = terms["classification"] + terms["less_forget"] + terms["margin_ranking"]
    wanted = {"features": features, "old_weight": head.tasks[0], "new_weight": head.tasks[1], "scale": head.scale}
    for name, gradient in zip(wanted, torch.autograd.grad(total, list(wanted.values())), strict=True):
        yield _same(f"{batch}/grad/{name}", gradient, file)


def _schedules(file: VectorFile) -> Iterator[Row]:
    for data, base in _BASES.items():
        for name, steps in _STEPS.items():
            entry = f"lambda_schedule/{data}_{name}_steps"
            if entry in file:
                ours = torch.tensor([base * math.sqrt(task / 1) for task in range(1, steps)], dtype=torch.float64)
                yield _same(entry, ours, file)


def _imprinted(file: VectorFile) -> Row:
    names = sorted(file.names("imprint/features_of_new_class"), key=int)
    means = [F.normalize(file[f"imprint/features_of_new_class{name}"], dim=-1).mean(dim=0) for name in names]
    return _same("imprint/new_weight", imprinted_rows(torch.stack(means), file["imprint/old_weight"]), file)


def _block(file: VectorFile, block: str, *, relu: bool) -> Tensor:
    params = file.folder(f"{block}/params/")
    after, before = params["conv1.weight"].shape[:2]
    made = BasicBlock(before, after, projection_shortcut, relu=relu).double().eval()
    renamed = {".".join(_PARTS.get(part, part) for part in name.split(".")): value for name, value in params.items()}
    own = made.state_dict()
    made.load_state_dict({name: renamed.get(name, value) for name, value in own.items()})
    return made(file[f"{block}/input"])
