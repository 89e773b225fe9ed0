"""Comparison of PODNet's golden vectors with ours, in float64: head, losses, gradients, proxies, the whole network."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.types import Schedule
from cl_lightning.losses.cosine import imprinted_rows, less_forget
from cl_lightning.losses.nca import nca
from cl_lightning.losses.pod import pod_spatial
from cl_lightning.models.proxies import ProxiesByTask, cluster_centres, first_proxies
from cl_lightning.models.resnet import CifarResNet
from cl_lightning.optim.schedule import learning_rate
from scripts.reference.difference import Row, difference
from scripts.reference.vectors import VectorFile

RELATIVE = 1e-9
"""Largest difference, relative to the entry's largest value: both sides compute in float64."""
_FORMS = {"_no_hinge": "no_hinge", "_hinge": "paper"}
_FACTORS = {"flat_cifar100": 1.0, "spatial_cifar100": 3.0, "flat_imagenet": 10.0, "spatial_imagenet": 8.0}
_STEM = {"conv_1_3x3": "conv", "bn_1": "norm"}
_BLOCK = {"conv_a": "conv1", "bn_a": "norm1", "conv_b": "conv2", "bn_b": "norm2"}


def matches(file: VectorFile) -> bool:
    """Return whether it has PODNet's head, or its network."""
    return "lsc/similarities" in file or "params/stage_4.conv_a.weight" in file


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    inputs = (
        r"lsc/(features|old_proxies|new_proxies|labels|scale|proxies_per_class|upstream_grad)|nca/wide_similarities"
    )
    maps = r"pod_\w+/(teacher|student)(_map\d)?|images|params/.*"
    proxies = r"proxies/(features_of_new_class\d+|old_proxies|one_proxy_old)"
    return re.fullmatch("|".join([inputs, maps, proxies]), entry) is not None


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare whatever of the format is there; the sums of POD that the method does not use are left out."""
    if "lsc/similarities" in file:
        yield from _head(file)
        yield from _nca(file)
    if "pod_flat/loss" in file:
        yield from _flat(file)
        yield from _spatial(file)
    for entry in file.names():
        if found := re.fullmatch(r"factors/(\w+)_(\d+)_steps", entry):
            ours = [_FACTORS[found[1]] * math.sqrt(task + 1) for task in range(1, int(found[2]))]
            yield _same(entry, torch.tensor(ours, dtype=torch.float64), file)
        elif found := re.fullmatch(r"lr_used/cifar100_(\d+)_epochs", entry):
            schedule, epochs = Schedule("cosine", lag=True), int(found[1])
            ours = [learning_rate(schedule, 0.1, epoch, epochs) for epoch in range(epochs)]
            yield _same(entry, torch.tensor(ours, dtype=torch.float64), file)
    if "proxies/new_proxies" in file:
        yield from _proxies(file)
    if "params/stage_4.conv_a.weight" in file:
        yield from _network(file)


def _same(entry: str, ours: Tensor, file: VectorFile) -> Row:
    theirs = file[entry]
    return difference(entry, ours, theirs, RELATIVE * max(1e-3, theirs.double().abs().max().item()))


def _lsc(file: VectorFile) -> ProxiesByTask:
    head = ProxiesByTask(file["lsc/features"].shape[1], int(file["lsc/proxies_per_class"])).double()
    for name in ("old_proxies", "new_proxies"):
        head.tasks.append(nn.Parameter(file[f"lsc/{name}"]))
    head.scale = nn.Parameter(file["lsc/scale"].view(1))
    return head


def _head(file: VectorFile) -> Iterator[Row]:
    head, features = _lsc(file), file["lsc/features"].requires_grad_()
    similarities = head.similarities(features)
    yield _same("lsc/similarities", similarities, file)
    one = ProxiesByTask(head.dim, 1).double()
    one.tasks = head.tasks
    yield _same("lsc/proxy_similarities", one.similarities(features), file)
    wanted = {"features": features, "old_proxies": head.tasks[0], "new_proxies": head.tasks[1]}
    total = (file["lsc/upstream_grad"] * similarities).sum()
    for name, gradient in zip(wanted, torch.autograd.grad(total, list(wanted.values())), strict=True):
        yield _same(f"lsc/grad_{name}", gradient, file)


def _nca(file: VectorFile) -> Iterator[Row]:
    pattern = r"nca/(wide_)?(public|derived)_margin([\d.]+)(_exclude_positive|_hinge|_no_hinge)"
    for entry in file.names():
        found = re.fullmatch(pattern, entry)
        if found is None:
            continue
        form = "public" if found[2] == "public" else _FORMS[found[4]]
        given = file["nca/wide_similarities" if found[1] else "lsc/similarities"].requires_grad_()
        scale, labels = file["lsc/scale"].view(1).requires_grad_(), file["lsc/labels"]
        margin = float(found[3])
        loss = nca(scale * given, labels, scale, margin, form)
        yield _same(entry, loss, file)
        by_similarity, by_scale = torch.autograd.grad(loss, [given, scale])
        parts = {"grad_similarities": by_similarity, "grad_scale": by_scale.view(())}
        parts["per_image"] = torch.stack(
            [nca((scale * given)[i : i + 1], labels[i : i + 1], scale, margin, form) for i in range(len(labels))]
        )
        for name, ours in parts.items():
            if f"{entry}_{name}" in file:
                yield _same(f"{entry}_{name}", ours, file)


def _flat(file: VectorFile) -> Iterator[Row]:
    student = file["pod_flat/student"].requires_grad_()
    loss = less_forget(student, file["pod_flat/teacher"])
    yield _same("pod_flat/loss", loss, file)
    yield _same("pod_flat/grad_student", torch.autograd.grad(loss, student)[0], file)


def _spatial(file: VectorFile) -> Iterator[Row]:
    count = len(file.names("pod_spatial/student_map"))
    ours = [file[f"pod_spatial/student_map{index}"].requires_grad_() for index in range(count)]
    theirs = [file[f"pod_spatial/teacher_map{index}"] for index in range(count)]
    loss = pod_spatial(ours, theirs)
    yield _same("pod_spatial/loss_spatial", loss, file)
    for index, gradient in enumerate(torch.autograd.grad(loss, ours)):
        yield _same(f"pod_spatial/grad_student_map{index}", gradient, file)
        alone = f"pod_spatial/loss_spatial_map{index}_alone"
        if alone in file:
            yield _same(alone, pod_spatial([ours[index]], [theirs[index]]), file)


def _proxies(file: VectorFile) -> Iterator[Row]:
    """Compare the centres of each class as sets: k-means has no order."""
    names = sorted(file.names("proxies/features_of_new_class"), key=int)
    features = [file[f"proxies/features_of_new_class{name}"] for name in names]
    theirs = file["proxies/new_proxies"]
    count = len(theirs) // len(names)
    found = [first_proxies(cluster_centres(of_class, count, 0), file["proxies/old_proxies"]) for of_class in features]
    matched = [
        ours[torch.cdist(wanted, ours).argmin(dim=1)] for ours, wanted in zip(found, theirs.split(count), strict=True)
    ]
    yield _same("proxies/new_proxies", torch.cat(matched), file)
    if "proxies/one_proxy_new" in file:
        means = torch.stack([F.normalize(of_class, dim=-1).mean(dim=0) for of_class in features])
        yield _same("proxies/one_proxy_new", imprinted_rows(means, file["proxies/one_proxy_old"]), file)


def _ours(name: str) -> str:
    """Return our name of a parameter of the published network."""
    stage = re.match(r"stage_(\d)\.(?:blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
    if stage is not None:
        return f"stages.{int(stage[1]) - 1}.{stage[2] or 0}.{_BLOCK[stage[3]]}.{stage[4]}"
    module, _, rest = name.partition(".")
    return f"{_STEM[module]}.{rest}"


def _network(file: VectorFile) -> Iterator[Row]:
    params = file.folder("params/")
    blocks = len({name.split(".")[2] for name in params if name.startswith("stage_1.")})
    width, channels = params["conv_1_3x3.weight"].shape[:2]
    options: dict[str, Any] = {"last_relu": False, "stream_relu": False, "zero_residual": True, "final_stage": True}
    network = CifarResNet(depth=6 * blocks + 2, channels=channels, width=width, **options).double()
    own = network.state_dict()
    network.load_state_dict({**own, **{_ours(name): value for name, value in params.items()}})
    network.eval()
    features, maps = network(file["images"])
    yield _same("eval/raw_features", features, file)
    for index, each in enumerate(maps):
        yield _same(f"eval/map{index}", each, file)
    network.train()
    yield _same("train/raw_features", network(file["images"])[0], file)
    if "resnet32/parameters" in file:
        made = CifarResNet(depth=32, **options)
        count = torch.tensor(sum(parameter.numel() for parameter in made.parameters()))
        yield difference("resnet32/parameters", count, file["resnet32/parameters"], 0)
        shapes = torch.tensor([each.shape[1:] for each in made(torch.zeros(1, 3, 32, 32))[1]])
        yield difference("resnet32/map_shapes", shapes, file["resnet32/map_shapes"], 0)
