"""Comparison of RanPAC's golden vectors with ours: sums, lambda, W_o, scores and answers on random features.

The published losses of a small lambda are rounding, as its float32 matrices are singular: they are compared from 1 on.
Files also have losses, lambda and W_o in float64, derived by formula; ours are compared by both eigendecompositions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_lightning.methods import ridge
from cl_lightning.methods.ranpac import FIT_SHARE
from cl_lightning.models.frozen_heads import ProjectedRidge
from scripts.reference.difference import Row, difference, lacking
from scripts.reference.simplecil_vectors import mean_rows, missing_inputs
from scripts.reference.vectors import META, VectorFile

VARIANTS = ("ranpac", "no_projection")
_BOUNDS = {"G": 1e-6, "Q": 1e-6, "W_o": 5e-4, "W_o_float64": 1e-7, "scores": 1e-3, "predictions": 0.0}
"""Largest difference, relative to the largest number of an entry."""
_PUBLISHED = (1.0, 5e-3)
_DERIVED = (1e-2, 1e-6)
"""The lambda from which losses are compared closely, and their largest relative difference."""
_LOOSE = 0.2
"""That of losses of a smaller lambda: even float64 rounds where the smallest eigenvalues are."""


def matches(file: VectorFile) -> bool:
    """Return whether it has W_o of either variant."""
    return any(re.fullmatch(rf"task\d+/({'|'.join(VARIANTS)})/W_o", name) for name in file.names())


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    return entry in (META, "W") or entry.rpartition("/")[2] in ("features", "labels")


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A variant after a task."""

    head: ProjectedRidge
    total: ridge.Sums
    losses: tuple[list[float], list[float]]
    """By sums and by rows, on all classes that will come."""


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare the entries of both variants and of the nearest mean, task by task."""
    missing = [*missing_inputs(file), *([] if "W" in file else ["W"])]
    if missing:
        yield from map(lacking, missing)
        return
    for variant in VARIANTS:
        if any(name.split("/")[1:2] == [variant] for name in file.names()):
            yield from _variant(file, variant)
    yield from mean_rows(file, "ncm/")


def _variant(file: VectorFile, variant: str) -> Iterator[Row]:
    everything = max(int(file[f"task{task}/labels"].max()) for task in file.tasks()) + 1
    total = None
    for task in file.tasks():
        fitted = _fitted(file, task, variant, total, everything)
        total = fitted.total
        yield from _compared(file, f"task{task}/{variant}/", fitted, everything)


def _fitted(file: VectorFile, task: int, variant: str, before: ridge.Sums | None, everything: int) -> _Fitted:
    features, labels, w = file[f"task{task}/features"], file[f"task{task}/labels"], file["W"]
    head = ProjectedRidge(features.shape[1], w.shape[1] if variant == "ranpac" else 0, seed=0)
    if head.projection is not None:
        head.projection = w
    cut, seen = int(FIT_SHARE * len(labels)), int(labels.max()) + 1
    parts = [(features[:cut], labels[:cut]), (features[cut:], labels[cut:])]
    fit, held = (ridge.sums_of(f, y, everything, head.width, head.project) for f, y in parts)
    by_rows = ridge.losses_by_rows(
        head.project(features[:cut].double()), labels[:cut],
        head.project(features[cut:].double()), labels[cut:], everything,
    )  # fmt: skip
    own = fit + held
    total = own if before is None else before + own
    head.grow(seen)
    head.fill(ridge.solved(total, ridge.best_lambda(by_rows))[:seen])
    return _Fitted(head, total, (ridge.losses_by_sums(fit, held), by_rows))


def _compared(file: VectorFile, where: str, fitted: _Fitted, everything: int) -> Iterator[Row]:
    chosen = torch.tensor(ridge.best_lambda(fitted.losses[1]), dtype=torch.float64)
    seen = len(fitted.head.rows)
    scores = fitted.head(file["test/features"][file["test/labels"] < seen]).detach()
    found = {
        "G": fitted.total.gram,
        "Q": fitted.total.cross.T,
        "W_o": fitted.head.rows.detach(),
        "W_o_float64": ridge.solved(fitted.total, chosen.item())[:seen],
        "scores": scores,
        "predictions": scores.argmax(dim=1),
    }
    for name, ours in found.items():
        if where + name in file:
            theirs = file[where + name]
            yield difference(where + name, ours, theirs, _BOUNDS[name] * theirs.abs().max().item())
    for name in ("lambda", "lambda_float64"):
        if where + name in file:
            yield difference(where + name, chosen, file[where + name], 0)
    for name, (closely, bound) in (("validation_losses", _DERIVED), ("validation_losses_float32", _PUBLISHED)):
        if where + name in file:
            yield _losses(where + name, fitted.losses, file[where + name], closely, bound)


def _losses(entry: str, ours: Sequence[Sequence[float]], theirs: Tensor, closely: float, bound: float) -> Row:
    """Compare losses by their ratio, in units of what each may differ by."""
    lambdas = torch.tensor(ridge.LAMBDAS, dtype=torch.float64)
    if theirs.shape != lambdas.shape:
        return difference(entry, lambdas, theirs, bound)
    loose = torch.full_like(lambdas, _LOOSE if closely < 1 else torch.inf)
    allowed = torch.where(lambdas >= closely, torch.full_like(lambdas, bound), loose)
    apart = torch.stack([(torch.tensor(each, dtype=torch.float64) / theirs - 1).abs() / allowed for each in ours])
    return difference(entry, apart.amax(dim=0), torch.zeros_like(lambdas), 1.0)
