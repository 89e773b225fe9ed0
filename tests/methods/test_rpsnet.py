"""RPS-Net: its plan, what each session trains, candidates, both teachers, and the numbers of the published code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidFileError, UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    Embed,
    Evaluate,
    Fit,
    Grow,
    Herd,
    HoldOut,
    Optimiser,
    Outputs,
    Phase,
    Schedule,
    Task,
    View,
)
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.rpsnet import MAIN_PARTS, RPSNet
from cl_lightning.models.allocated_head import AllocatedLinear
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.path_network import LAYERS, PathBackbone
from scripts.check_reference import main as check_reference
from tests.config.made import filled
from tests.golden import GOLDEN
from tests.methods.options import rpsnet_options

MAIN = Phase("main", View.MERGED, 1, Optimiser("adamw", 1e-3), Schedule("constant"), MAIN_PARTS)
IMAGES = rng.normal(Key(5), torch.arange(6 * 64)).view(6, 1, 8, 8)
NOTHING: Any = None  # growth looks at no data
LINKS = {"layers.3.link", "layers.5.link", "layers.7.link"}


@dataclass
class Held:
    """Two held-out images of each class, by row."""

    held_out: dict[int, Tensor]
    flips: bool = False
    exemplars: dict[int, Tensor] = field(default_factory=dict)

    def rows_of(self, label: int) -> Tensor:
        raise AssertionError(label)

    @torch.no_grad()
    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        return embed(IMAGES[rows]).float()


HELD = Held({label: torch.tensor([label]) for label in range(6)})


def task(index: int, each: int = 2) -> Task:
    classes = tuple(range(index * each, (index + 1) * each))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(tasks: int = 0, **changed: Any) -> RPSNet:
    """After the growth of some tasks of two classes."""
    options = rpsnet_options(**{"candidates": 3, **changed})
    with rng.torch_seeded(Key(0)):
        backbone = PathBackbone(
            width=2, channels=1, layer7_residual=not options.reference_parity, modules=options.modules
        )
        head = AllocatedLinear(backbone.dim, 20) if options.reference_parity else None
        network = EmbeddingNetwork(backbone, head=head)
    rpsnet = RPSNet(network, MAIN, options)
    for index in range(tasks):
        rpsnet.grow(task(index), Key(index), NOTHING)
    return rpsnet


def backbone_of(rpsnet: RPSNet) -> PathBackbone:
    backbone = rpsnet.network.backbone
    assert isinstance(backbone, PathBackbone)
    return backbone


def weights(rpsnet: RPSNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in rpsnet.network.state_dict().items()}


def train(rpsnet: RPSNet, index: int, phase: Phase = MAIN) -> None:
    """One large step."""
    parts = rpsnet.network.parts()
    trained = [p for name in phase.trains for p in parts[name]]
    rpsnet.network.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    rpsnet.train_mode(phase)
    sum(losses(rpsnet, index).values()).backward()  # type: ignore[union-attr]
    torch.optim.SGD(trained, lr=0.5).step()
    rpsnet.network.zero_grad()
    rpsnet.network.eval()


def losses(rpsnet: RPSNet, index: int) -> dict[str, Tensor]:
    labels = torch.arange(6) % task(index).num_seen
    targets = torch.nn.functional.one_hot(labels, task(index).num_seen).float()
    batch = Batch(IMAGES, labels, targets)
    return rpsnet.losses(task(index), MAIN, batch, rpsnet.outputs(MAIN, IMAGES, None))


# ---- plan ----------------------------------------------------------------------------------------------------------


def test_candidates_are_planned_where_a_path_is_drawn() -> None:
    rpsnet = method(candidates=2)
    around = ([HoldOut(0.1), Grow()], [Herd(at_random=True), Evaluate()])
    for index in (0, 1, 3, 5):
        assert rpsnet.plan(task(index)) == [*around[0], Fit(MAIN), *around[1]]
    for index in (2, 4, 6):
        plan = rpsnet.plan(task(index))
        names = [item.phase.name for item in plan if isinstance(item, Fit)]
        assert names == ["path_0", "path_1"]
        assert [item.name for item in plan if isinstance(item, Act)] == [
            "begin_0", "score_0", "begin_1", "score_1", "choose",
        ]  # fmt: skip
    assert rpsnet_options().candidates == 8, "as published"


def test_one_candidate_is_trained_as_it_is() -> None:
    assert [type(item) for item in method(candidates=1).plan(task(2))] == [HoldOut, Grow, Fit, Herd, Evaluate]


def test_paths_are_drawn_evenly_one_module_of_each_layer() -> None:
    rpsnet = method(3)
    drawn = torch.tensor([rpsnet.drawn_path(candidate) for candidate in range(2000)])
    assert drawn.shape == (2000, LAYERS)
    for layer in range(LAYERS):
        shares = drawn[:, layer].bincount(minlength=8) / 2000
        assert len(shares) == 8
        torch.testing.assert_close(shares, torch.full((8,), 1 / 8), atol=0.03, rtol=0)


# ---- what a session trains -----------------------------------------------------------------------------------------


def test_a_session_trains_what_its_path_brought_with_links_and_classifier() -> None:
    """Sessions 2 and 4 draw; 1, 3 and 5 go on with the path that there is."""
    fixed = {2: (0, 1, 0, 1, 1, 2, 0, 3, 1), 4: (0, 1, 2, 1, 0, 2, 5, 3, 1)}
    rpsnet = method()
    rpsnet.drawn_path = lambda candidate: fixed[session]  # type: ignore[method-assign]
    brought = []
    for session in range(6):
        rpsnet.grow(task(session), Key(session), NOTHING)
        brought.append({name for name in backbone_of(rpsnet).trained_modules() if name not in LINKS})
        assert set(backbone_of(rpsnet).trained_modules()) >= LINKS
        before = weights(rpsnet)
        train(rpsnet, session)
        moved = {name for name, value in weights(rpsnet).items() if not torch.equal(value, before[name])}
        modules = {f"backbone.{name}." for name in (*brought[-1], *LINKS)}
        expected = {
            name
            for name in before
            if name.startswith(("classifier.", *modules)) and not is_offset(rpsnet, name)
        }  # fmt: skip
        assert moved == expected, "frozen modules keep their statistics too"
    first = {f"layers.{layer}.choices.0" for layer in range(LAYERS)}
    second = {f"layers.{layer}.choices.{fixed[2][layer]}" for layer in (1, 3, 4, 5, 7, 8)}
    third = {"layers.2.choices.2", "layers.6.choices.5"}
    assert brought == [first, first, second, second, third, third]


def is_offset(rpsnet: RPSNet, name: str) -> bool:
    """A bias of a convolution: no phase trains what batch norm takes away again."""
    module = rpsnet.network.get_submodule(name.rpartition(".")[0])
    return isinstance(module, torch.nn.Conv2d) and name.endswith(".bias")


def test_with_parity_statistics_of_frozen_modules_move() -> None:
    rpsnet = method(3, reference_parity=True)
    before = weights(rpsnet)
    train(rpsnet, 2)
    moved = {name for name, value in weights(rpsnet).items() if not torch.equal(value, before[name])}
    assert "backbone.layers.0.choices.0.1.running_mean" in moved
    assert "backbone.layers.0.choices.0.0.weight" not in moved


# ---- candidates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parity", [False, True])
def test_candidates_start_alike_and_the_best_goes_on(parity: bool) -> None:
    rpsnet = method(3, reference_parity=parity)
    start = weights(rpsnet)
    shared = {name: value for name, value in start.items() if ".choices." not in name or ".choices.0." in name}
    after, scores, paths = [], [], []
    for candidate in range(3):
        rpsnet.act(f"begin_{candidate}", task(2), HELD)
        begun = weights(rpsnet)
        drawn = rpsnet.drawn_path(candidate)
        paths.append(drawn)
        assert backbone_of(rpsnet).paths == ((0,) * LAYERS, drawn)
        assert all(torch.equal(begun[name], value) for name, value in shared.items())
        train(rpsnet, 2)
        rpsnet.act(f"score_{candidate}", task(2), HELD)
        after.append(weights(rpsnet))
        with torch.no_grad():
            answers = rpsnet.network.logits(rpsnet.network(IMAGES)).argmax(dim=1)
        scores.append(int((answers == torch.arange(6)).sum()))
    assert len(set(paths)) == 3
    rpsnet.act("choose", task(2), HELD)
    best = scores.index(max(scores))
    assert backbone_of(rpsnet).paths[-1] == paths[best]
    chosen = weights(rpsnet)
    assert all(torch.equal(chosen[name], value) for name, value in after[best].items())
    assert rpsnet.extra_state() == {"paths_key": None, "best_candidate": None, "best_right": None}
    assert rpsnet.teacher is not None
    assert len(rpsnet.teacher.structure()["backbone"]["paths"]) == (2 if parity else 1)


def test_an_earlier_candidate_wins_a_tie() -> None:
    rpsnet = method(3)
    for candidate in range(3):
        rpsnet.act(f"begin_{candidate}", task(2), HELD)
        rpsnet.act(f"score_{candidate}", task(2), Held({0: torch.tensor([0])}))
    best = rpsnet.extra_state()
    assert best["best_candidate"] == 0 or best["best_right"] == 1


def test_a_state_of_another_network_is_refused() -> None:
    rpsnet = method(3)
    with pytest.raises(InvalidFileError, match="holds means, and no paths"):
        rpsnet.load_extra_state({"means": torch.zeros(1)})
    state = {"paths_key": 1, "best_candidate": None, "best_right": None, "start.classifier.weight": torch.zeros(1, 1)}
    rpsnet.load_extra_state(state)
    with pytest.raises(InvalidFileError, match="a path of another network"):
        rpsnet.act("begin_1", task(2), HELD)


# ---- losses --------------------------------------------------------------------------------------------------------


def test_the_teacher_has_its_own_paths_unless_parity_gives_it_the_new_one() -> None:
    alone, published = method(2), method(2, reference_parity=True)
    before = []
    for rpsnet in (alone, published):
        rpsnet.network.eval()
        before.append(rpsnet.network.logits(rpsnet.network(IMAGES)).detach())
        rpsnet.grow(task(2), Key(2), NOTHING)
    after = [rpsnet.teacher.logits(rpsnet.teacher(IMAGES)) for rpsnet in (alone, published)]  # type: ignore[union-attr]
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1]), "its sums have modules that nothing has trained"
    theirs = published.teacher.state_dict()  # type: ignore[union-attr]
    ours = published.network.state_dict()
    new = [name for name in ours if name.startswith("backbone.") and name not in alone.teacher.state_dict()]  # type: ignore[union-attr]
    assert new
    assert all(torch.equal(theirs[name], ours[name]) for name in new)


def test_phi_rises_from_the_fourth_task_on() -> None:
    options = rpsnet_options()
    assert [options.distillation_weight(index) for index in range(6)] == [1, 1, 1, 2.5, 5, 7.5]
    assert rpsnet_options(growth=10.0).distillation_weight(9) == 70


def test_distillation_looks_at_classes_to_come_with_parity_alone() -> None:
    for parity in (False, True):
        rpsnet = method(2, reference_parity=parity)
        terms = losses(rpsnet, 1)
        assert set(terms) == {"classification", "distillation"}
        head = rpsnet.network.classifier
        (gradient,) = torch.autograd.grad(terms["distillation"], head.rows.weight if parity else head.weight)
        assert len(gradient) == (20 if parity else 4)
        assert gradient[4:].abs().sum().item() > 0 or not parity


def test_the_first_task_has_no_teacher() -> None:
    assert set(losses(method(1), 0)) == {"classification"}


def test_distillation_is_a_divergence_from_teacher_and_labels() -> None:
    """By hand, of one image: its old scores are the teacher's, its new ones the label."""
    rpsnet = method(2)
    rpsnet.network.eval()
    images, labels = IMAGES[:1], torch.tensor([3])
    student = rpsnet.network.logits(rpsnet.network(images)).detach()
    outputs = Outputs(student, rpsnet.network(images))
    batch = Batch(images, labels, torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
    found = rpsnet.losses(task(1), MAIN, batch, outputs)["distillation"]
    old = rpsnet.teacher.logits(rpsnet.teacher(images))[0]  # type: ignore[union-attr]
    q = (torch.tensor([old[0], old[1], 0.0, 1.0]) / 2).softmax(0)
    p = (student[0] / 2).softmax(0)
    torch.testing.assert_close(found, (q * (q / p).log()).sum())


# ---- construction --------------------------------------------------------------------------------------------------


def test_no_memory_is_refused() -> None:
    with pytest.raises(UserError, match=r"memory=none: method=rpsnet .* type memory=total"):
        build_method(filled("method=rpsnet", "memory=none"), NOTHING, Key(0))


def test_numbers_of_the_published_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_reference([str(GOLDEN / "rpsnet.npz")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "PASS: 17 equal"
