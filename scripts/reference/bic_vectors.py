"""Comparison of BiC's golden vectors with ours, in float64: losses and gradients, both forms of correction, fits of a
pair, herding, and the numbers of images that are held out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core.types import Optimiser
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.distillation import soft_cross_entropy
from cl_lightning.memory.herding import herd_distinct
from cl_lightning.memory.rehearsal import Budget
from cl_lightning.models.bias_correction import BiasCorrectedLinear
from cl_lightning.optim.optimiser import make_optimiser
from scripts.reference.difference import Row, difference, lacking
from scripts.reference.vectors import VectorFile

_RELATIVE = 1e-9
_SMOOTHED = 1e-4
"""Bound where FACIL adds 1e-5 to its probabilities."""
_TEMPERATURE = 2.0
_INPUTS = ("groups", "logits", "teacher_logits", "labels", "beta", "gamma", "herding/features", "herding/labels")
_STEPS = (10, 20, 50)
_IMAGES, _CLASSES = 2000, 100
"""Memory and classes for which the numbers held out were derived."""
_FIT = "official_derived/stage2_beta_gamma_loss_dbeta_dgamma_per_step"
_AFTER = (1, 2, 5)
_KL = "derclassil/stage1_loss_kl_form_teacher_newest_corrected"


def matches(file: VectorFile) -> bool:
    """Return whether it has corrected scores."""
    return "official_derived/predict_newest_pair_only" in file


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    return entry in _INPUTS or (entry.startswith("five_groups/") and "sairin" not in entry)


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare whatever of the format is there."""
    missing = [name for name in _INPUTS if name not in file]
    if missing:
        yield from map(lacking, missing)
        return
    yield from _official(file)
    yield from _every_pair(file)
    yield from _fits(file)
    yield from _sizes(file)
    best_rows = []
    for label in file["herding/labels"].unique().tolist():
        own = torch.nonzero(file["herding/labels"] == label).flatten()
        chosen = file["herding/chosen_rows_best_first"][label]
        best = herd_distinct(file["herding/features"][own], len(chosen), normalised=False)
        best_rows.append(own[best])
    yield difference(
        "herding/chosen_rows_best_first", torch.stack(best_rows), file["herding/chosen_rows_best_first"], 0
    )


def _head(sizes: list[int], beta: Tensor, gamma: Tensor, *, every: bool) -> BiasCorrectedLinear:
    """Return a head of groups of these sizes with pairs as a run would have set them, one after the other."""
    head = BiasCorrectedLinear(1, every=every).double()
    for size, pair in zip(sizes, torch.stack([beta, gamma], dim=1), strict=False):
        head.grow(size)
        head.double().newest.data.copy_(pair)
    return head


def _of_groups(file: VectorFile, tasks: int, *, every: bool) -> BiasCorrectedLinear:
    """Return the head of the first ``tasks`` groups of the file."""
    return _head(file["groups"].tolist()[:tasks], file["beta"], file["gamma"], every=every)


def _stage1(student: Tensor, teacher: Tensor, file: VectorFile) -> dict[str, Tensor]:
    """Return the terms of the main phase, and their sum with its weights."""
    old, seen = teacher.shape[1], student.shape[1]
    share = old / seen
    distilled = soft_cross_entropy(student[:, :old], teacher, _TEMPERATURE)
    classified = cross_entropy(student, F.one_hot(file["labels"], seen).to(student))
    total = share * distilled + (1 - share) * classified
    return {"lambda": torch.tensor(share, dtype=torch.float64), "kd": distilled, "ce": classified, "total": total}


def _official(file: VectorFile) -> Iterator[Row]:
    """Compare the authors' form: the student as it is, the teacher's and the prediction's newest group corrected."""
    tasks = len(file["groups"])
    teacher = _of_groups(file, tasks - 1, every=False).correct(file["teacher_logits"]).detach()
    yield _same("official_derived/teacher_corrected", teacher, file)
    predicted = _of_groups(file, tasks, every=False).correct(file["logits"])
    yield _same("official_derived/predict_newest_pair_only", predicted, file)
    yield _same("derclassil/predict_newest_pair_only", predicted, file)
    student = file["logits"].clone().requires_grad_()
    terms = _stage1(student, teacher, file)
    (gradient,) = torch.autograd.grad(terms["total"], student)
    for name in ("lambda", "kd", "ce"):
        yield _same(f"official_derived/{name}", terms[name], file)
    yield _same("official_derived/stage1_loss", terms["total"], file)
    yield _same("official_derived/stage1_grad_logits", gradient, file)
    if _KL in file:  # the same loss less the teacher's entropy, which has no gradient
        soft = (teacher / _TEMPERATURE).softmax(dim=-1)
        entropy = -(soft * soft.log()).sum(dim=-1).mean()
        yield _same(_KL, terms["total"] - terms["lambda"] * entropy, file)
        yield _same("derclassil/stage1_grad_logits", gradient, file)


def _every_pair(file: VectorFile) -> Iterator[Row]:
    """Compare the form in which each group keeps its pair, also while the newest, (1, 0), is trained with."""
    tasks = len(file["groups"])
    yield _same("facil/predict_all_pairs", _of_groups(file, tasks, every=True).correct(file["logits"]), file)
    if "five_groups/sairin_predict_all_pairs" in file:
        logits, beta, gamma = (file[f"five_groups/{name}"] for name in ("logits", "beta", "gamma"))
        equal = [logits.shape[1] // len(beta)] * len(beta)
        ours = _head(equal, beta, gamma, every=True).correct(logits)
        yield _same("five_groups/sairin_predict_all_pairs", ours, file)
    teacher = _of_groups(file, tasks - 1, every=True)
    learner = _of_groups(file, tasks - 1, every=True)
    learner.grow(int(file["groups"][-1]))
    raw = file["logits"].clone().requires_grad_()
    terms = _stage1(learner.correct(raw), teacher.correct(file["teacher_logits"]).detach(), file)
    (gradient,) = torch.autograd.grad(terms["total"], raw)
    for name, ours in (
        ("kd_with_eps", terms["kd"]),
        ("stage1_loss_all_pairs_with_eps", terms["total"]),
        ("stage1_grad_logits", gradient),
    ):
        if f"facil/{name}" in file:
            yield difference(f"facil/{name}", ours, file[f"facil/{name}"], _SMOOTHED)


def _fits(file: VectorFile) -> Iterator[Row]:
    """Compare the pair, loss and gradients before each of some steps of bias correction."""
    if _FIT in file:
        yield _same(_FIT, _fitted(file, len(file[_FIT]), offset_weight=0.1, decay=0.0), file)
    names = [f"derclassil/stage2_{name}_after_{steps}_steps" for steps in _AFTER for name in ("beta", "gamma")]
    if all(name in file for name in names):
        path = _fitted(file, max(_AFTER) + 1, offset_weight=0.0, decay=5e-4)  # as ours with these two options
        for name, ours in zip(names, (path[steps, k : k + 1] for steps in _AFTER for k in range(2)), strict=True):
            yield _same(name, ours, file)


def _fitted(file: VectorFile, steps: int, *, offset_weight: float, decay: float) -> Tensor:
    """Return beta, gamma, the loss and both gradients before each of ``steps`` steps on all images, (steps, 5)."""
    head = BiasCorrectedLinear(1, every=False).double()
    for size in file["groups"].tolist():
        head.grow(size)
    head.double()
    optimiser = make_optimiser(Optimiser("sgd", 0.1, decay), [head.newest], 0.1)
    targets = F.one_hot(file["labels"], file["logits"].shape[1]).to(file["logits"])
    found = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = cross_entropy(head.correct(file["logits"]), targets) + offset_weight * head.newest[1].square() / 2
        loss.backward()
        assert head.newest.grad is not None
        found.append(torch.cat([head.newest.detach(), loss.detach().view(1), head.newest.grad]))
        optimiser.step()
    return torch.stack(found)


def _sizes(file: VectorFile) -> Iterator[Row]:
    """Compare the numbers of old images that are held out and trained on from the second task on."""
    for steps in _STEPS:
        old = range(_CLASSES // steps, _CLASSES, _CLASSES // steps)
        quotas = [Budget("total", _IMAGES).quota(seen, held_share=0.1) for seen in old]
        for name, ours in (
            ("held_out_per_class", [quota.held_out for quota in quotas]),
            ("train_exemplars_per_old_class", [quota.exemplars for quota in quotas]),
        ):
            entry = f"official_derived/{name}_{steps}_steps"
            if entry in file:
                yield difference(entry, torch.tensor(ours), file[entry], 0)


def _same(entry: str, ours: Tensor, file: VectorFile) -> Row:
    theirs = file[entry]
    return difference(entry, ours.detach(), theirs, _RELATIVE * max(1e-3, theirs.abs().max().item()))
