"""Comparison of DKT's golden vectors with our network, losses, optimiser steps and fine-tuning; one replica, or two.

Left out after a step are parameters whose true gradient is zero (in front of a batch norm, or added to all keys alike):
Adam makes steps of full size of what rounding leaves of it. A batch norm over as few values as there are images
amplifies rounding, so training mode has wider bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.types import Features, Phase, Schedule
from cl_lightning.data.augmentation import cutout
from cl_lightning.models.duplex_head import DuplexHead
from cl_lightning.optim.schedule import learning_rate
from scripts.reference import recipe_vectors
from scripts.reference.difference import Row, Verdict, difference, failure
from scripts.reference.dkt_network import Rebuilt, ours, total
from scripts.reference.vectors import META, VectorFile

EVALUATED, ENCODED, TRAINED = 2e-6, 5e-6, 1e-4
"""Bounds relative to the largest value: in evaluation mode; in training mode of the encoder's output, and of what is
behind the decoder.
"""
LOSS, GRADIENT = 1e-5, 1e-3
"""Bounds of terms, and of a gradient relative to its largest element."""
ON_THE_WAY, STEPPED, SHARE = 1e-4, 2e-5, 0.99
"""After steps: bounds of losses, and of that share of a tensor's elements."""
STATISTICS = {"running_mean": 3e-3, "running_var": 1e-4}
"""Bounds of running statistics after steps, relative. A mean moves with parameters whose true gradient is zero, so
:func:`_walk` comes on top.
"""
NO_GRADIENT = (
    "norm2.bias", "mlp.fc1.bias", "mlp.dwconv.bias", "mlp.fc2.bias", "attn.k.bias", "patch_embed.proj1.bias",
)  # fmt: skip
"""Ends of the names of parameters whose true gradient is zero."""
_REPLICAS_OF, _REPLICAS, _TASK = "dkt_small.npz", 2, "task1/"
_MOMENTUM = 0.1
_CUTOUT = 16
_RATES = {"512_images": 1e-3, "imagenet100_log": 5e-4}
"""Entry of the learning rates -> the rate behind the warm-up."""
_SCHEDULE = Schedule("cosine", warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5, lag=True)


def matches(file: VectorFile) -> bool:
    """Return whether it is of DKT's network: it has a general token, or rates of its schedule."""
    return any(name.endswith("/general_token") for name in file.names()) or f"lr_used/{next(iter(_RATES))}" in file


def is_input(entry: str) -> bool:
    """Return whether others are computed from it, or it says again what another entry does."""
    given = (
        entry in (META, "x", "merge/embeddings", "cutout/centre_yx")
        or re.match(r"task\d+/(y$|params/|buffers/)", entry) is not None
    )
    return given or entry.startswith("merge/before/")


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare whatever of the format is there."""
    if f"{_TASK}buffers_of_replica0/patch_embed.proj2.running_mean" in file:
        yield from _replicas(file)
        return
    for entry in file.names("lr_used/"):
        rates = [learning_rate(_SCHEDULE, _RATES[entry], epoch, 500) for epoch in range(500)]
        yield difference(f"lr_used/{entry}", torch.tensor(rates, dtype=torch.float64), file[f"lr_used/{entry}"], 1e-15)
    yield from _cutout(file)
    yield from (row for row in recipe_vectors.rows(file) if row.entry.startswith("repeated_augmentation/"))
    for index in file.tasks():
        yield from _task(file, index)
    if "merge/logits_after" in file:
        yield from _merge(file)


def _cutout(file: VectorFile) -> Iterator[Row]:
    """Compare which pixels each of the published centres leaves."""
    if "cutout/centre_yx" not in file:
        return
    theirs = file["cutout/kept"]
    white = torch.ones_like(theirs, dtype=torch.uint8)[:, None]
    left = cutout.black_out(white, file["cutout/centre_yx"].T.contiguous(), _CUTOUT)[:, 0]
    yield difference("cutout/kept", left, theirs, 0.0)


def _task(file: VectorFile, index: int) -> Iterator[Row]:
    prefix = f"task{index}/"
    try:
        rebuilt = Rebuilt(file, index)
    except ValueError as error:
        yield failure(f"task{index}", str(error))
        return
    yield from _forward(file, prefix, rebuilt)
    rebuilt.restart(rebuilt.main)
    terms = rebuilt.terms(rebuilt.main)
    yield from _terms(file, f"{prefix}loss/", terms)
    total(terms).backward()
    yield from _gradients(file, f"{prefix}grads/", rebuilt)
    rebuilt.restart(rebuilt.main)
    yield from _stepped(file, f"{prefix}adamw/", rebuilt, rebuilt.main)
    if file.names(f"{prefix}finetuning/"):
        rebuilt.prepare(rebuilt.finetuning)
        yield from _stepped(file, f"{prefix}finetuning/", rebuilt, rebuilt.finetuning)


@torch.no_grad()
def _forward(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    network = rebuilt.network
    for folder, training in (("eval/", False), ("", True)):
        rebuilt.restart(rebuilt.main)
        features = network.train(training)(file.images)
        yield _near(file, f"{prefix}{folder}tokens", features.maps[-1], ENCODED if training else EVALUATED)
        yield from _behind_the_decoder(file, prefix + folder, network.logits(features), features, training)
    teacher = rebuilt.method.teacher
    if teacher is not None:
        remembered = teacher(file.images)
        yield from _behind_the_decoder(file, f"{prefix}teacher/", teacher.logits(remembered), remembered, False)


def _behind_the_decoder(
    file: VectorFile, folder: str, logits: Tensor, features: Features, training: bool
) -> Iterator[Row]:
    bound = TRAINED if training else EVALUATED
    yield _near(file, f"{folder}embeddings", features.embeddings[:, 0], bound)
    yield _near(file, f"{folder}logits", logits, bound)


def _terms(file: VectorFile, folder: str, terms: dict[str, Tensor]) -> Iterator[Row]:
    sums = {**terms, "total": total(terms)}
    if len(terms) > 1:  # with a teacher
        sums["total_counted_once"] = sums["total"] - terms["classification"] / 2
    for name, value in sums.items():
        if folder + name in file or name in terms:
            yield difference(folder + name, value, file[folder + name], LOSS)


def _gradients(file: VectorFile, folder: str, rebuilt: Rebuilt) -> Iterator[Row]:
    for name, parameter in rebuilt.network.named_parameters():
        entry = folder + rebuilt.theirs[name]
        if entry.endswith(NO_GRADIENT):
            yield Row(entry, Verdict.EXCUSED, note="its true gradient is zero")
            continue
        if parameter.grad is None and entry not in file:  # frozen
            continue
        theirs = file[entry]
        largest = theirs.abs().max().item() if theirs.numel() else 0.0
        yield difference(entry, parameter.grad, theirs, GRADIENT * largest)


def _stepped(file: VectorFile, folder: str, rebuilt: Rebuilt, phase: Phase) -> Iterator[Row]:
    """Compare losses, trained parameters and running statistics after the steps of a phase."""
    losses = file[f"{folder}losses"]
    yield difference(f"{folder}losses", rebuilt.steps(phase, len(losses)), losses, ON_THE_WAY)
    state = rebuilt.network.state_dict()
    trained = {name for name, parameter in rebuilt.network.named_parameters() if parameter.requires_grad}
    for name in file.names(f"{folder}params/"):
        yield _parameter(file, f"{folder}params/{name}", state[ours(name)], trained=ours(name) in trained)
    for name in file.names(f"{folder}buffers/"):
        theirs, kind = file[f"{folder}buffers/{name}"], name.rpartition(".")[2]
        bound = STATISTICS[kind] * theirs.abs().max().item()
        bound += _walk(rebuilt, phase.optimiser.lr) if kind == "running_mean" else 0.0
        yield difference(f"{folder}buffers/{name}", state[ours(name)], theirs, bound)


def _walk(rebuilt: Rebuilt, lr: float) -> float:
    """Return how far two running means can part because the bias in front of them walks by steps of any sign: by twice
    the rate a step, of which a mean takes in its momentum.
    """
    steps = rebuilt.steps_taken
    return 2 * lr * _MOMENTUM * steps * (steps - 1) / 2


def _parameter(file: VectorFile, entry: str, value: Tensor, *, trained: bool) -> Row:
    """Compare most elements of a parameter: where a gradient is near zero, Adam's step has any sign."""
    theirs = file[entry]
    if not trained:
        return failure(entry, "is frozen here")
    if entry.endswith(NO_GRADIENT):
        return Row(entry, Verdict.EXCUSED, note="its true gradient is zero: Adam steps along rounding noise")
    if value.shape != theirs.shape:
        return difference(entry, value, theirs, STEPPED)
    distances = (value.double() - theirs.double()).abs().flatten()
    most = distances.sort().values[: max(1, int(SHARE * len(distances)))]
    return difference(entry, most, torch.zeros_like(most), STEPPED)


def _merge(file: VectorFile) -> Iterator[Row]:
    """Compare the merge at the start of the third task; the biases are drawn, so theirs score here."""
    before, after = (file.folder(f"merge/{when}/") for when in ("before", "after"))
    head = DuplexHead(file["merge/embeddings"].shape[1], merge="published")
    for name in ("head.0.head.weight", "head.1.head.weight"):
        head.grow(len(before[name]))
    _fill(head, before)
    embeddings = file["merge/embeddings"][:, None]
    yield _near(file, "merge/logits_before", head(embeddings), EVALUATED)
    head.grow(len(after["head.1.head.weight"]))
    state = head.state_dict()
    bound = len(embeddings[0, 0]) ** -0.5
    for name, theirs in after.items():
        value = state[ours(name).removeprefix("classifier.")]
        drawn = name in ("head.0.head.bias", "head.1.head.bias", "head.1.head.weight")
        if drawn:
            both = torch.stack([value.abs().max(), theirs.abs().max()])
            yield difference(f"merge/after/{name}", both.clamp(max=bound), both, 0.0)
        else:
            yield difference(f"merge/after/{name}", value, theirs, 0.0)
    _fill(head, after)
    yield _near(file, "merge/logits_after", head(embeddings)[:, : len(after["head.0.head.bias"])], EVALUATED)


def _fill(head: DuplexHead, theirs: dict[str, Tensor]) -> None:
    head.load_state_dict({ours(name).removeprefix("classifier."): value for name, value in theirs.items()})


def _replicas(file: VectorFile) -> Iterator[Row]:
    """Compare the second task as two replicas would train it, each on half of the batch."""
    beside = file.path.with_name(_REPLICAS_OF)
    if not beside.is_file():
        raise InvalidFileError(file.path, f"needs {_REPLICAS_OF}, with weights and images, beside it")
    rebuilt = Rebuilt(VectorFile(beside), 1)
    yield from _separately(file, rebuilt)
    rebuilt.restart(rebuilt.main, _REPLICAS)
    terms = rebuilt.terms(rebuilt.main, _REPLICAS)
    yield from _terms(file, f"{_TASK}loss/", terms)
    total(terms).backward()
    yield from _gradients(file, f"{_TASK}grads/", rebuilt)
    for name, mine in rebuilt.network.state_dict().items():
        if "running" in name:
            yield _mean_statistics(file, rebuilt, name, mine)


def _separately(file: VectorFile, rebuilt: Rebuilt) -> Iterator[Row]:
    """Compare what each replica computes by itself: terms and running statistics."""
    found = []
    for replica in range(_REPLICAS):
        rebuilt.restart(rebuilt.main)
        terms = rebuilt.terms(rebuilt.main, batch=rebuilt.part(replica, _REPLICAS))
        found.append({**terms, "total": total(terms)})
        folder, state = f"{_TASK}buffers_of_replica{replica}/", rebuilt.network.state_dict()
        for name in file.names(folder):
            yield _near(file, folder + name, state[ours(name)], TRAINED)
    for name in file.names(f"{_TASK}loss_of_replica/"):
        entry = f"{_TASK}loss_of_replica/{name}"
        yield difference(entry, torch.stack([terms[name] for terms in found]), file[entry], LOSS)


def _mean_statistics(file: VectorFile, rebuilt: Rebuilt, name: str, mine: Tensor) -> Row:
    """Compare running statistics of all replicas together with the mean over theirs."""
    layer, _, kind = name.rpartition(".")
    entry = rebuilt.theirs[f"{layer}.weight"].removesuffix("weight") + kind
    of_each = [file[f"{_TASK}buffers_of_replica{replica}/{entry}"] for replica in range(_REPLICAS)]
    mean = torch.stack(of_each).mean(dim=0)
    return difference(f"mean over replicas of {entry}", mine, mean, TRAINED * mean.abs().max().item())


def _near(file: VectorFile, entry: str, value: Tensor, relative: float) -> Row:
    theirs = file[entry]
    return difference(entry, value, theirs, relative * theirs.abs().max().item())
