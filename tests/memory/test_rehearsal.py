"""The rehearsal memory: budgets are kept in total, lists only shrink, classes never mix."""

from __future__ import annotations

import io
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_lightning.memory.rehearsal import Budget, RehearsalMemory


def ranking(label: int, count: int, replica: int = 0) -> torch.Tensor:
    """Rows of a class, best first, unlike those of any other class; another order for each replica."""
    return 1000 * label + torch.arange(count).roll(replica).flip(0)


@st.composite
def histories(draw):
    """The arguments of a memory and the new classes' sizes, task by task."""
    scope = draw(st.sampled_from(["global", "per_replica"]))
    replicas = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=5))
    lists = replicas if scope == "per_replica" else 1
    classes = sum(map(len, sizes))
    kind = draw(st.sampled_from(["total", "per_class"]))
    size = draw(st.integers(lists * (classes if kind == "total" else 1), 60))
    return (Budget(kind, size), scope, replicas), sizes


@given(histories())
@settings(max_examples=200, deadline=None)
def test_what_always_holds(history):
    arguments, sizes = history
    memory, seen = RehearsalMemory(*arguments), 0
    for task in sizes:
        new = [{seen + k: ranking(seen + k, n, r) for k, n in enumerate(task)} for r in range(memory.num_lists)]
        before, known, seen = memory, seen, seen + len(task)
        memory = memory.update(new, seen)
        share = memory.budget.size // memory.num_lists
        quota = share // seen if memory.budget.kind == "total" else share
        assert memory.quota(seen) == quota
        assert len(memory) <= memory.budget.size * (1 if memory.budget.kind == "total" else seen)
        assert len(memory) == sum(len(rows) for r in range(memory.num_lists) for rows in memory.exemplars(r).values())
        assert memory.classes == tuple(range(seen))
        for replica in range(memory.num_lists):
            for label, rows in memory.exemplars(replica).items():
                source = before.exemplars(replica)[label] if label < known else new[replica][label]
                assert rows.tolist() == source[:quota].tolist()  # a prefix: best first, and all where there are fewer
                assert (rows // 1000 == label).all()


def test_published_quota():
    """2000 images in total: 200 a class after the first of ten tasks, 20 at the end."""
    memory = RehearsalMemory(Budget("total", 2000), "global", 1)
    for task in range(10):
        seen = 10 * (task + 1)
        memory = memory.update([{c: ranking(c, 500) for c in range(seen - 10, seen)}], seen)
        assert {len(rows) for rows in memory.exemplars().values()} == {2000 // seen}
    assert len(memory) == 2000


def test_per_replica_lists_share_the_budget():
    memory = RehearsalMemory(Budget("total", 20), "per_replica", replicas=2)
    memory = memory.update([{0: ranking(0, 50, r), 1: ranking(1, 50, r)} for r in range(2)], 2)
    assert len(memory) == 20
    assert [len(memory.rows(r)) for r in range(2)] == [10, 10]
    assert memory.rows(0).tolist() != memory.rows(1).tolist()


def test_a_global_memory_is_the_same_for_every_replica():
    memory = RehearsalMemory(Budget("total", 20), "global", replicas=2).update([{0: ranking(0, 50)}], 1)
    assert memory.num_lists == 1
    assert memory.rows(0).tolist() == memory.rows(1).tolist() == ranking(0, 20 + 30)[:20].tolist()


def test_rows_come_by_class_then_by_rank():
    memory = RehearsalMemory(Budget("per_class", 2), "global", 1).update(
        [{3: torch.tensor([7, 5, 6]), 1: torch.tensor([9, 8])}], 4
    )
    assert memory.rows().tolist() == [9, 8, 7, 5]
    assert memory.rows(classes=[3]).tolist() == [7, 5]
    assert memory.rows(classes=[0]).tolist() == []
    assert memory.rows().dtype == torch.int64


def test_update_leaves_the_old_memory_alone():
    first = RehearsalMemory(Budget("total", 8), "global", 1).update([{0: ranking(0, 9)}], 1)
    state = first.state()
    second = first.update([{1: ranking(1, 9)}], 2)
    assert first.state() == state
    assert (len(first.rows()), len(second.exemplars()[0])) == (8, 4)


def test_no_budget_keeps_nothing():
    memory = RehearsalMemory(Budget("none", 0), "global", 1).update([{0: ranking(0, 5)}], 1)
    assert (len(memory), memory.rows().tolist(), memory.classes) == (0, [], ())


def test_state_survives_json_and_weights_only_loading():
    memory = RehearsalMemory(Budget("total", 9), "per_replica", 3)
    memory = memory.update([{2: ranking(2, 5, r), 0: ranking(0, 1, r)} for r in range(3)], 3)
    file = io.BytesIO()
    torch.save(memory.state(), file)
    file.seek(0)
    for state in (json.loads(json.dumps(memory.state())), torch.load(file, weights_only=True)):
        again = RehearsalMemory.from_state(state)
        assert again.state() == memory.state()
        assert again.rows(1).equal(memory.rows(1))


@pytest.mark.parametrize(
    ("budget", "lists", "message"),
    [
        (Budget("total", 5), 1, r"size=5 is smaller than the 10 classes seen: pass size=10 or more"),
        (Budget("total", 19), 2, r"=19 .* 10 classes seen in each of 2 replicas: pass size=20 or more"),
        (Budget("per_class", 1), 2, r"=1 .* one exemplar a class in each of 2 replicas: pass size=2 or more"),
        (Budget("per_class", 0), 1, r"size=0 is smaller than one exemplar a class: pass size=1 or more"),
    ],
)
def test_a_budget_below_one_exemplar_is_refused(budget, lists, message):
    memory = RehearsalMemory(budget, "per_replica", lists)
    with pytest.raises(ValueError, match=message):
        memory.quota(10)
    with pytest.raises(ValueError, match=message):
        memory.update([{0: ranking(0, 3)}] * lists, 10)


def test_wrong_use_is_one_clear_line():
    with pytest.raises(ValueError, match=r"kind=all is not one of total, per_class, none"):
        Budget("all", 3)
    with pytest.raises(ValueError, match=r"size=-1 is negative"):
        Budget("total", -1)
    with pytest.raises(ValueError, match=r"scope=local is not one of global, per_replica"):
        RehearsalMemory(Budget("total", 9), "local", 1)
    with pytest.raises(ValueError, match=r"^replicas=0"):
        RehearsalMemory(Budget("total", 9), "global", 0)
    memory = RehearsalMemory(Budget("total", 9), "global", 1).update([{0: ranking(0, 5)}], 1)
    with pytest.raises(ValueError, match=r"classes \[0\] are in the memory already"):
        memory.update([{0: ranking(0, 5)}], 2)
    with pytest.raises(ValueError, match="keeps 1 lists but got 2"):
        memory.update([{1: ranking(1, 5)}] * 2, 2)
    with pytest.raises(ValueError, match="more classes than the 1 seen"):
        memory.update([{1: ranking(1, 5)}], 1)
    with pytest.raises(ValueError, match="different classes"):
        RehearsalMemory(Budget("total", 2000), "per_replica", 2).update([{0: ranking(0, 5)}, {1: ranking(1, 5)}], 2)


# ---- held out of training --------------------------------------------------------------------------------------------


def numbers(memory: RehearsalMemory) -> tuple[set[int], set[int]]:
    return {len(rows) for rows in memory.exemplars().values()}, {len(rows) for rows in memory.held_out.values()}


def test_held_out_images_and_exemplars_are_as_many_as_the_authors_had():
    """BiC, 2,000 images, ten tasks of ten classes: golden numbers of bic.npz."""
    memory, found = RehearsalMemory(Budget("total", 2000), "global", 1), []
    for seen in range(10, 101, 10):
        new = range(seen - 10, seen)
        memory = memory.hold_out({c: ranking(c, 500)[:20] for c in new}, 0.1)
        memory = memory.update([{c: ranking(c, 500)[20:] for c in new}], seen)
        found.append((*map(set.pop, numbers(memory)),))
        assert len(memory) + len(memory.held_out_rows()) <= 2000
    held, trained = [20, 10, 6, 5, 4, 3, 2, 2, 2], [180, 90, 60, 45, 36, 30, 26, 22, 20]
    assert found == [*zip(trained, held, strict=True), (18, 2)]


@given(st.integers(1, 400), st.integers(1, 3), st.integers(1, 30), st.sampled_from([0.1, 0.2, 0.3, 0.5]))
@settings(max_examples=300, deadline=None)
def test_the_budget_holds_both(size, replicas, seen, share):
    budget = Budget("total", size)
    try:
        quota = budget.quota(seen, replicas, share)
    except ValueError as error:
        needed = int(str(error).split("size=")[2].split(" or more")[0])
        assert budget.size < needed
        assert Budget("total", needed).quota(seen, replicas, share).held_out >= 1, "the size to type is enough"
        with pytest.raises(ValueError, match="is smaller than"):
            Budget("total", needed - 1).quota(seen, replicas, share)
        return
    assert quota.held_out >= 1
    assert quota.exemplars >= 1
    assert replicas * seen * (quota.exemplars + quota.held_out) <= size


def test_the_last_to_be_held_out_are_let_go_first():
    memory = RehearsalMemory(Budget("total", 40), "global", 1).hold_out({0: torch.tensor([9, 5, 7, 1])}, 0.1)
    memory = memory.update([{0: ranking(0, 40)}], 1)
    assert memory.held_out[0].tolist() == [9, 5, 7, 1]
    memory = memory.hold_out({1: torch.tensor([1009, 1005])}, 0.1).update([{1: ranking(1, 40)}], 2)
    assert {label: rows.tolist() for label, rows in memory.held_out.items()} == {0: [9, 5], 1: [1009, 1005]}
    assert memory.held_out_rows().tolist() == [9, 5, 1009, 1005]
    assert memory.without([0, 1]).held_out == memory.held_out, "herding again touches none of them"


def test_every_replica_gives_its_share_of_one_list():
    memory = RehearsalMemory(Budget("total", 40), "per_replica", 2)
    memory = memory.hold_out({0: ranking(0, 9), 1: ranking(1, 9)}, 0.1)
    memory = memory.update([{c: ranking(c, 30, r) for c in (0, 1)} for r in range(2)], 2)
    assert [len(memory.rows(r)) for r in range(2)] == [18, 18]
    assert len(memory.held_out_rows()) == 4


def test_a_budget_without_an_image_to_hold_out_is_refused_with_the_size_to_type():
    memory = RehearsalMemory(Budget("total", 49), "global", 1).hold_out({}, 0.1)
    told = r"size=49 is smaller than 10 images for each of the 5 classes seen, one of them held out of training"
    with pytest.raises(ValueError, match=told + ": pass size=50 or more$"):
        memory.quota(5)
    with pytest.raises(ValueError, match=r"size=9 is smaller than 10 images a class, .* in each of 2 replicas: .*20"):
        Budget("per_class", 9).quota(5, 2, 0.1)


def test_an_image_is_held_out_once_and_before_it_is_learnt():
    memory = RehearsalMemory(Budget("total", 40), "global", 1).hold_out({0: ranking(0, 2)}, 0.1)
    with pytest.raises(ValueError, match=r"classes \[0\] are in the memory already"):
        memory.hold_out({0: ranking(0, 2)}, 0.1)
    with pytest.raises(ValueError, match=r"classes \[0\] are in the memory already"):
        memory.update([{0: ranking(0, 20)}], 1).hold_out({0: ranking(0, 2)}, 0.1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"held_out": {0: [0, 7]}}, "an exemplar too"),
        ({"held_out": {1: [7], 2: [7]}}, "held out of training twice"),
        ({"held_share": 0.0}, "share of 0.0"),
        ({"held_share": 2.0}, "share of 2.0"),
        ({"held_share": -0.1}, "share of -0.1"),
        ({"held_share": float("nan")}, "share of nan"),
    ],
)
def test_a_state_in_which_nothing_is_held_out_after_all_is_refused(change, told):
    state = {"budget": {"kind": "total", "size": 40}, "scope": "per_replica", "replicas": 2}
    state |= {"lists": [{0: [3]}, {0: [0]}], "held_share": 0.1, "held_out": {0: [5]}}
    assert RehearsalMemory.from_state(state).held_out_rows().tolist() == [5]
    with pytest.raises(ValueError, match=told):
        RehearsalMemory.from_state(state | change)


def test_what_is_held_out_survives_json_and_others_states_are_as_they_were():
    plain = RehearsalMemory(Budget("total", 20), "global", 1).update([{0: ranking(0, 20)}], 1)
    assert set(plain.state()) == {"budget", "scope", "replicas", "lists"}
    memory = RehearsalMemory(Budget("total", 40), "global", 1).hold_out({3: ranking(3, 2), 0: ranking(0, 2)}, 0.1)
    again = RehearsalMemory.from_state(json.loads(json.dumps(memory.state())))
    assert again.state() == memory.state()
    assert again.held_out_rows().equal(memory.held_out_rows())
    assert again.held_share == 0.1


def test_as_many_of_a_new_class_as_of_an_old_one_beyond_the_budget():
    memory = RehearsalMemory(Budget("total", 12), "global", 1).update([{c: ranking(c, 30) for c in range(3)}], 3)
    more = memory.update([{3: ranking(3, 30)}], 4, shares=3)
    assert {len(rows) for rows in more.exemplars().values()} == {4}
    assert len(more) == 16
    after = more.without([3]).update([{3: ranking(3, 30)}], 4)
    assert {len(rows) for rows in after.exemplars().values()} == {3}
