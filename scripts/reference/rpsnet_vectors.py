"""Comparison of RPS-Net's golden vectors with ours, in float64: loss and gradient of each session, phi, sizes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.distillation import divergence_from
from cl_lightning.methods.rpsnet import RPSNetOptions
from cl_lightning.models.path_network import LAYERS, PathBackbone, described
from scripts.reference.difference import Row, difference, lacking
from scripts.reference.vectors import VectorFile

_RELATIVE = 1e-9
_TEMPERATURE = 2.0
_INPUTS = ("logits", "teacher_logits", "num_class", "class_per_task", "train_batch", "jump", "rigidness")
_PHI = "phi_of_session_derived"
_SIZES = {"cifar_network_parameters": 8, "cifar_network_parameters_one_module_per_layer": 1}
"""Entry -> modules a layer; both with 100 classes."""


def matches(file: VectorFile) -> bool:
    """Return whether it has sessions and their phi."""
    return _PHI in file


def is_input(entry: str) -> bool:
    """Return whether others are computed from it; of published paths the shape alone matters."""
    return entry in _INPUTS or entry.endswith("/labels") or entry.startswith("path_")


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare whatever of the format is there."""
    missing = [name for name in _INPUTS if name not in file]
    if missing:
        yield from map(lacking, missing)
        return
    options = RPSNetOptions(8, int(file["jump"]), 1, _TEMPERATURE, float(file["rigidness"]), 0.1, reference_parity=True)
    phi = [options.distillation_weight(session) for session in range(len(file[_PHI]))]
    yield difference(_PHI, torch.tensor(phi, dtype=torch.float64), file[_PHI], 0)
    for session in range(len(phi)):
        if f"session{session}/loss" in file:
            yield from _session(file, session, phi[session])
    for entry, modules in _SIZES.items():
        if entry in file:
            yield difference(entry, torch.tensor(_parameters(modules)), file[entry], 0)


def _session(file: VectorFile, session: int, phi: float) -> Iterator[Row]:
    """Compare the published loss of a session: a sum over images divided by the batch size, whatever their number."""
    each, labels = int(file["class_per_task"]), file[f"session{session}/labels"]
    old, seen, outputs = each * session, each * (session + 1), int(file["num_class"])
    student = file["logits"].clone().requires_grad_()
    hot = F.one_hot(labels, outputs).to(student)
    loss = cross_entropy(student[:, :seen], hot[:, :seen])
    if session > 0:
        targets = F.pad(torch.cat([file["teacher_logits"][:, :old], hot[:, old:seen]], dim=1), (0, outputs - seen))
        images = len(labels) / int(file["train_batch"])
        loss = loss + phi * images * divergence_from(student, targets, _TEMPERATURE, rectified=True)
    (gradient,) = torch.autograd.grad(loss, student)
    yield _same(f"session{session}/loss", loss, file)
    yield _same(f"session{session}/grad_logits", gradient, file)


def _parameters(modules: int) -> int:
    """Return the size of the published network of 100 classes, without making it."""
    with torch.device("meta"):
        paths = [described((module,) * LAYERS) for module in range(modules)]
        backbone = PathBackbone(modules=modules, paths=paths)
    return sum(parameter.numel() for parameter in backbone.parameters()) + 100 * (backbone.dim + 1)


def _same(entry: str, ours: Tensor, file: VectorFile) -> Row:
    theirs = file[entry]
    return difference(entry, ours.detach(), theirs, _RELATIVE * max(1e-3, theirs.abs().max().item()))
