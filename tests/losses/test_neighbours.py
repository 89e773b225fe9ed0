"""Distillation of neighbourhoods: against slow loops, and what it must satisfy whatever its form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cl_lightning.losses.neighbours import FORMS, Neighbours, neighbour_distillation
from tests.methods.options import neighbours

forms = pytest.mark.parametrize("form", FORMS)


def embeddings(seed: int, images: int = 10, tasks: int = 3, dim: int = 6) -> Tensor:
    return torch.randn(images, tasks, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def cosine(a_TD: Tensor, b_TD: Tensor) -> float:
    """Between two images: their unit embeddings of all tasks side by side."""
    a, b = (torch.cat([e / e.norm() for e in image]) for image in (a_TD, b_TD))
    return (a @ b / (a.norm() * b.norm())).item()


def by_loops(student: Tensor, teacher: Tensor, options: Neighbours) -> float:
    images = range(len(student))
    ours = [[cosine(student[i], student[j]) for j in images] for i in images]
    theirs = [[cosine(teacher[i], teacher[j]) for j in images] for i in images]
    edges, rows = [], []
    for i in images:
        ranked = sorted((j for j in images if j != i), key=lambda j: -theirs[i][j])
        near, beyond = ranked[: options.k], ranked[options.k : options.k + 1]
        if options.form == "similarity":
            p, q = ([math.exp(s[i][j] / options.temperature) for j in near] for s in (theirs, ours))
            p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
            rows.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        elif options.form == "distance":
            edges += [(math.sqrt(2 - 2 * ours[i][j]), math.sqrt(2 - 2 * theirs[i][j])) for j in near]
        else:
            (o,) = beyond
            asked = [min(theirs[i][j] - theirs[i][o], options.margin) for j in near]
            rows += [max(0.0, a - (ours[i][j] - ours[i][o])) for a, j in zip(asked, near, strict=True)]
    if options.form == "distance":
        means = [sum(edge[model] for edge in edges) / len(edges) for model in (0, 1)]
        rows = [(a / means[0] - b / means[1]) ** 2 for a, b in edges]
    return sum(rows) / len(rows)


@pytest.mark.parametrize(
    "options",
    [
        neighbours("similarity", k=3, temperature=0.1),
        neighbours("similarity", k=9, temperature=0.5),
        neighbours("distance", k=4),
        neighbours("order", k=3, margin=0.1),
        neighbours("order", k=8, margin=5.0),
    ],
    ids=str,
)
def test_against_loops(options: Neighbours) -> None:
    student, teacher = embeddings(1), embeddings(2)
    expected = by_loops(student, teacher, options)
    assert expected > 1e-3
    assert neighbour_distillation(student, teacher, options).item() == pytest.approx(expected, rel=1e-4)


@forms
def test_zero_where_the_neighbourhoods_agree(form: str) -> None:
    teacher = embeddings(1)
    assert neighbour_distillation(teacher.clone(), teacher, neighbours(form)).item() == pytest.approx(0, abs=1e-6)
    other = neighbour_distillation(embeddings(2), teacher, neighbours(form))
    assert other.item() > 1e-2


@forms
def test_unchanged_by_rotating_and_stretching_the_embedding(form: str) -> None:
    """Each task's embedding by a rotation of its own, each vector to a length of its own."""
    student, teacher, options = embeddings(1), embeddings(2), neighbours(form, k=4)
    rotations = torch.linalg.qr(torch.randn(3, 6, 6, dtype=torch.double))[0]
    rotated = torch.einsum("btd,tde->bte", student, rotations) * torch.rand(10, 3, 1).add(0.5)
    before = neighbour_distillation(student, teacher, options)
    torch.testing.assert_close(neighbour_distillation(rotated, teacher, options), before, rtol=1e-4, atol=1e-6)
    turned = torch.einsum("btd,tde->bte", teacher, rotations)
    assert neighbour_distillation(turned, teacher, options).item() == pytest.approx(0, abs=1e-6)


@forms
@pytest.mark.parametrize("images", [1, 2, 3, 5])
@pytest.mark.parametrize("alike", [False, True], ids=["different images", "copies of one image"])
def test_gradients_are_finite_whatever_the_batch(form: str, images: int, alike: bool) -> None:
    """More neighbours than there are images, and images that are the same (repeated augmentation)."""
    student, teacher = embeddings(1, images).requires_grad_(), embeddings(2, images)
    if alike:
        student = student[:1].detach().expand(images, -1, -1).clone().requires_grad_()
        teacher = teacher[:1].expand(images, -1, -1)
    loss = neighbour_distillation(student, teacher, neighbours(form, k=8))
    loss.backward()
    assert math.isfinite(loss.item())
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert loss.item() >= 0
    if images >= 3 and not alike:  # two images have nothing to compare their distance with
        assert student.grad.abs().max() > 0


@forms
def test_a_step_along_the_gradient_brings_the_neighbours_back(form: str) -> None:
    student, teacher = embeddings(1).requires_grad_(), embeddings(2).requires_grad_()
    options = neighbours(form, k=4, temperature=0.5)
    before = neighbour_distillation(student, teacher, options)
    (gradient,) = torch.autograd.grad(before, [student])
    after = neighbour_distillation(student - 0.05 * gradient / gradient.norm(), teacher, options)
    assert after < before
    assert teacher.grad is None


def test_order_is_kept_by_any_embedding_that_keeps_the_lead() -> None:
    """Hinge: what is nearer than asked for is not pushed further."""
    angles = torch.tensor([0.0, 0.1, 0.2, 1.4, 1.5, 1.6])
    teacher = torch.stack([angles.cos(), angles.sin()], dim=-1)[:, None]
    closer = torch.where(angles < 1, angles * 0.5, 1.5 + (angles - 1.5) * 0.5)
    student = torch.stack([closer.cos(), closer.sin()], dim=-1)[:, None]
    assert neighbour_distillation(student, teacher, neighbours("order", k=2)).item() == 0
    assert neighbour_distillation(student, teacher, neighbours("similarity", k=2)).item() > 0


def test_half_precision_compares_in_single() -> None:
    student, teacher, options = embeddings(1).float(), embeddings(2).float(), neighbours("similarity", k=4)
    single = neighbour_distillation(student, teacher, options)
    with torch.autocast("cpu", torch.bfloat16):
        half = neighbour_distillation(student, teacher, options)
    assert half.dtype == torch.float32
    assert torch.equal(half, single)
