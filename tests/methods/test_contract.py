"""What every method promises to the sequence, whatever it does inside: one test for all of them.

Methods are built from composed configurations as in a run. The scenario that they are built with has other tasks than
those that follow, so none can know how many there will be, or of which sizes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cl_lightning.checkpoint.files import load_checkpoint, save_whole
from cl_lightning.checkpoint.state import RunState, checkpoint_payload, restore_memory, restore_network
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.schema import Config
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Evaluate,
    Fit,
    Grow,
    HoldOut,
    Phase,
    Progress,
    Task,
)
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.factory.data import build_memory
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.base import Method, frozen_copy
from tests.methods.cases import CASES, MOVES_OLD_SCORES, QUICK, TRAINS_ONCE
from tests.methods.lives import IMAGES_A_CLASS, SIZES, MethodRun, Operators, expect_plain, pixels, task


def config(case: str) -> Config:
    overrides = ["run_dir=unused", "data=digits", "memory.size=20", *CASES[case]]
    return compose_one_of_many(overrides)[0]  # not every method has a memory


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """As the digits', with two tasks."""
    rows = torch.arange(10 * IMAGES_A_CLASS)
    labels, names = rows // IMAGES_A_CLASS, tuple(map(str, range(10)))
    source = ArraySource("digits", torch.zeros(len(rows), 1, 8, 8, dtype=torch.uint8), labels, names)
    tasks = (task(0, (7, 3)), task(1, (7, 3)))
    return Scenario("digits", source, source, tasks, names, tuple(range(10)), labels, labels, 8, 1, "test")


@pytest.fixture(
    params=[pytest.param(case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES], scope="module"
)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def settings(case: str) -> Config:
    return config(case)


@pytest.fixture
def life(settings: Config, scenario: Scenario) -> MethodRun:
    return MethodRun(build_method(settings, scenario, Key(0)), build_memory(settings))


IMAGES = pixels(torch.arange(5000, 5006))


LEARNS_CLASSES = {"classification", "auxiliary", "divergence", "ranking"}
"""Terms of losses that read the labels of images; the others compare with a teacher, or look at masks."""
ADVICE = (
    "put a term, such as 'ce', into LEARNS_CLASSES of tests/methods/test_contract.py if it reads labels, "
    "and hand it batch.weights"
)


def predict(method: Method) -> dict[str, Tensor]:
    method.network.eval()
    with torch.no_grad():
        return method.predict(IMAGES)


def test_what_learns_the_classes_weighs_each_image(life: MethodRun) -> None:
    """``data.balance=loss`` is for every method: a loss that takes no weights would be silently unbalanced."""
    for current in (task(0), task(1), task(2)):
        for item in life.method.plan(current):
            life.carry_out(item, current)
            if isinstance(item, Fit) and current.num_new > 1:
                weights = (None, torch.ones(12), torch.full((12,), 2.0))
                each = [life.losses(current, item.phase, of_all) for of_all in weights]
                plain, ones, twice = ({name: term.item() for name, term in terms.items()} for terms in each)
                told = f"{item.phase.name} has the terms {sorted(plain)}"
                moved = {name for name in plain if twice[name] != pytest.approx(plain[name], rel=1e-5)}
                learns = {name: 2.0 if name in LEARNS_CLASSES else 1.0 for name in plain}
                assert LEARNS_CLASSES & set(plain), f"{told}, none of them is in LEARNS_CLASSES: {ADVICE}"
                assert ones == pytest.approx(plain, rel=1e-5), f"{told}, and weights of 1 change them"
                expected = {name: learns[name] * plain[name] for name in plain}
                assert twice == pytest.approx(expected, rel=1e-5), (
                    f"{told}, {sorted(moved)} follow the weights: {ADVICE}"
                )


def main_phase(method: Method, current: Task) -> Phase:
    return next(item.phase for item in method.plan(current) if isinstance(item, Fit))


# ---- the contract ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tasks_of_unequal_sizes_are_learnt_one_after_another(life: MethodRun, case: str) -> None:
    forecast = [life.method.plan(task(index)) for index in range(len(SIZES))]
    for index in range(len(SIZES)):
        life.learn(task(index))
        steps = [item for item in forecast[index] if isinstance(item, Fit)]
        assert bool(steps) == (index == 0 or case not in TRAINS_ONCE), "every task is trained"
        assert isinstance(forecast[index][-1], Evaluate)
        assert forecast[index].count(Grow()) == 1
        first = next(item for item in forecast[index] if not isinstance(item, HoldOut))
        assert first == Grow(), "phases name parts that growth has made"
        names = [item.phase.name for item in steps]
        assert len(set(names)) == len(names), "a phase's name is its random stream"
    assert life.done == [item for plan in forecast for item in plan], "a plan depends on the task alone"


def test_every_read_out_scores_all_classes_seen(life: MethodRun) -> None:
    names = []
    for index in range(len(SIZES)):
        life.learn(task(index))
        scores = predict(life.method)
        assert all(s.shape == (len(IMAGES), task(index).num_seen) for s in scores.values())
        assert not any(s.isnan().any() for s in scores.values())
        assert list(life.method.readouts()) == list(scores), "each is described, and in the same order"
        for name, readout in life.method.readouts().items():
            if readout.ranks_only:
                continue
            sums = readout.probabilities(scores[name]).sum(dim=1)
            assert (readout.probability == "softmax") == torch.allclose(sums, torch.ones(len(IMAGES)), atol=1e-5)
        names.append(list(scores))
        assert not life.method.pending_readouts(), "at the end of a task all can be asked"
    assert names == [names[0]] * len(SIZES), "read-outs, and which comes first, stay the same"


def test_a_read_out_that_is_not_pending_scores_all_classes_after_every_phase(life: MethodRun) -> None:
    for index in range(2):
        for item in life.method.plan(task(index)):
            life.carry_out(item, task(index))
            if isinstance(item, Fit):
                scores, pending = predict(life.method), life.method.pending_readouts()
                assert pending < set(scores), "one at least can be asked, the classifier"
                assert all(scores[name].isfinite().all() for name in set(scores) - pending)


def test_scores_do_not_depend_on_the_rest_of_the_batch(life: MethodRun) -> None:
    for index in range(2):
        life.learn(task(index))
    together = predict(life.method)
    with torch.no_grad():
        alone = [life.method.predict(image[None]) for image in IMAGES]
    for name, scores in together.items():
        torch.testing.assert_close(torch.cat([one[name] for one in alone]), scores, atol=1e-5, rtol=1e-5)


def test_herding_sees_a_vector_an_image(life: MethodRun) -> None:
    for index in range(len(SIZES)):
        life.learn(task(index))
        life.method.network.eval()
        with torch.no_grad():
            features = life.method.embed(IMAGES)
        assert features.ndim == 2
        assert len(features) == len(IMAGES)
        assert features.isfinite().all()
        assert len(features.unique(dim=0)) == len(IMAGES), "images can be told apart"


def test_growth_moves_no_old_score(life: MethodRun, case: str) -> None:
    life.learn(task(0))
    for index in range(1, len(SIZES)):
        before = predict(life.method)
        life.carry_out(Grow(), task(index))
        after = predict(life.method)
        assert list(after) == list(before)
        for name in before:
            old, new = after[name][:, : task(index).num_old], after[name][:, task(index).num_old :]
            assert new.shape == (len(IMAGES), SIZES[index])
            if case not in MOVES_OLD_SCORES:
                torch.testing.assert_close(old, before[name], atol=1e-6, rtol=1e-6)
        if case not in TRAINS_ONCE:
            life.fit(task(index), main_phase(life.method, task(index)))


@pytest.mark.slow
def test_steps_that_may_be_replayed_differ_in_nothing_but_tensors_and_wait_for_no_device(life: MethodRun) -> None:
    """What a recorded step reads of the host stays as it was (``Method.cuda_graph_safe``)."""
    assert life.method.cuda_graph_safe, (
        "one whose steps are not alike is slow on a GPU: let this test make an exception of it"
    )
    for index in range(2):
        for item in life.method.plan(task(index)):
            if isinstance(item, Fit):
                life.method.train_mode(item.phase)
                traces = []
                for step in (1, 2):
                    life.method.network.zero_grad()
                    with Operators() as seen:
                        torch.stack(list(life.losses(task(index), item.phase).values())).sum().backward()
                    life.method.after_step(Progress(step, 2, step - 1, 2))
                    assert not seen.waits
                    traces.append(seen.done)
                assert traces[0] == traces[1]
            life.carry_out(item, task(index))


def test_a_teacher_is_what_was_before_growth(life: MethodRun) -> None:
    life.learn(task(0))
    before = predict(life.method)
    old = life.method.network
    scores = old.logits(old(IMAGES)).detach()
    life.carry_out(Grow(), task(1))
    teacher = life.method.teacher
    if teacher is None:
        return
    assert torch.equal(teacher.logits(teacher(IMAGES)), scores)
    assert not any(module.training for module in teacher.modules())
    life.fit(task(1), main_phase(life.method, task(1)))
    assert torch.equal(teacher.logits(teacher(IMAGES)), scores), "training moves no teacher"
    assert list(predict(life.method)) == list(before)


def test_what_is_settled_is_never_changed_again(life: MethodRun) -> None:
    """Checkpoints refer to it, and compute its digest once (``Network.settled``)."""
    seen: dict[str, Tensor] = {}
    for index in range(3):
        if index == 2 and not seen:
            return
        for item in life.method.plan(task(index)):
            life.carry_out(item, task(index))
            now = life.method.network.state_dict()
            changed = [name for name, value in seen.items() if not torch.equal(now[name], value)]
            assert not changed, f"{item} changes {changed[:3]}: leave it out of settled() until then"
            kept = tuple(f"{name}." for name in life.method.network.settled())
            assert set(seen) <= {name for name in now if name.startswith(kept)}, "once settled, always settled"
            seen |= {name: now[name].clone() for name in now if name.startswith(kept) and name not in seen}


def restored(life: MethodRun, settings: Config, scenario: Scenario, folder: Path) -> MethodRun:
    """Through a file into a method built anew from another seed."""
    records = RunState(life.memory)
    save_whole(folder / "task.pt", checkpoint_payload(life.method, records, scenario.train, {"protocol": {}}))
    payload = load_checkpoint(folder / "task.pt")
    method = build_method(settings, scenario, Key(123))
    method.network = restore_network(payload["network"])
    method.teacher = None if payload["teacher"] is None else frozen_copy(restore_network(payload["teacher"]))
    method.load_extra_state(payload["extra"])
    return MethodRun(method, restore_memory(payload["memory"], scenario.train))


def expect_same(a: MethodRun, b: MethodRun) -> None:
    one, two = predict(a.method), predict(b.method)
    assert list(one) == list(two)
    assert all(torch.equal(one[name], two[name]) for name in one)
    weights, others = (life.method.network.state_dict() for life in (a, b))
    assert list(weights) == list(others)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_restored_method_predicts_grows_and_learns_the_same(
    life: MethodRun, settings: Config, scenario: Scenario, tmp_path: Path
) -> None:
    for index in range(3):
        life.learn(task(index))
    again = restored(life, settings, scenario, tmp_path)
    expect_same(life, again)
    for index in range(3, len(SIZES)):
        life.learn(task(index))
        again.learn(task(index))
    expect_same(life, again)


@pytest.mark.slow
def test_a_method_restored_in_the_middle_of_a_task_goes_on_the_same(
    life: MethodRun, settings: Config, scenario: Scenario, tmp_path: Path
) -> None:
    life.learn(task(0))
    plan = life.method.plan(task(1))
    main = next((index for index, item in enumerate(plan) if isinstance(item, Fit)), None)
    done, rest = (plan[:1], plan[1:]) if main is None else (plan[: main + 1], plan[main:])
    for item in done:
        life.carry_out(item, task(1))
    again = restored(life, settings, scenario, tmp_path)
    for item in rest:
        life.carry_out(item, task(1))
        again.carry_out(item, task(1))
        expect_same(life, again)


def test_structure_is_plain_and_grows_with_the_tasks(life: MethodRun) -> None:
    expect_plain(life.method.network.structure())
    for index in range(len(SIZES)):
        life.learn(task(index))
        structure = life.method.network.structure()
        expect_plain(structure)
        assert structure["classes"] == list(SIZES[: index + 1])


def test_an_unknown_action_is_refused(life: MethodRun) -> None:
    life.learn(task(0))
    with pytest.raises(NotImplementedError, match="dance"):
        life.method.act("dance", task(0), life.look())
