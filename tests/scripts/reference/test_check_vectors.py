"""Comparing files of golden vectors: of any size, against an independent re-implementation; what is wrong is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.reference.check_vectors import Comparison, compare, kind_of
from scripts.reference.difference import Verdict, difference
from scripts.reference.model_vectors import gradient_bound
from scripts.reference.vector_settings import Settings
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN, plain

pytestmark = pytest.mark.slow

Arrays = dict[str, np.ndarray]


# ---- the slow re-implementation is the published one -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dytox", "daformer"])
def test_the_plain_implementation_gives_the_published_numbers(model: str) -> None:
    golden = VectorFile(GOLDEN / f"{model}_small.npz")
    tasks, meta = golden.tasks(), plain.SMALL | golden.meta
    states = [golden.folder(f"task{t}/params/") for t in tasks]
    made = plain.entries(meta, golden.images, [golden[f"task{t}/y"] for t in tasks], states)
    if model == "dytox":
        assert set(made) == set(golden.names())
    compared = set(made) & set(golden.names()) - {"meta.json"}
    assert len(compared) == len(golden.names()) - (1 if model == "dytox" else 3), "all but whether new banks are zero"
    for name in compared:
        theirs = golden[name]
        bound = 1e-6
        if "/grads/" in name:
            bound = gradient_bound(theirs)
        elif "/adamw/params/" in name or "/asam/params/" in name:
            bound = 2e-3 if name.endswith("pos_proj.bias") else 5e-5
        row = difference(name, torch.from_numpy(made[name]), theirs, bound)
        assert row.verdict is Verdict.EQUAL, row


# ---- any file of the format ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Arrays:
    """Two tasks; the second has one class."""
    return plain.generate(steps=2)


def compared(arrays: Arrays, folder: Path) -> Comparison:
    return compare(VectorFile(plain.save(folder / "f.npz", arrays)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"increments": [3]},
        {"embed_dim": 12, "num_heads": 6, "num_sab": 2, "increments": [4, 1, 2], "hidden": 29, "channels": 1,
         "batch": 3, "image_size": 6, "steps": 2},
        {"lr": 3e-3, "weight_decay": 0.1, "adam_betas": [0.8, 0.95], "adam_eps": 1e-6, "sam_rho": 0.5,
         "sam_adaptive": False, "mixup_lambda": 0.7, "label_smoothing": 0.2, "head_div_weight": 0.5,
         "distillation_tau": 2.0, "steps": 3, "seed": 1},
        {"head_div_weight": 0.0, "steps": 2, "seed": 2},
        {"image_size": 3, "patch_size": 1, "num_heads": 1, "increments": [1, 3], "batch": 1, "steps": 1, "seed": 3},
        {"variant": "M", "increments": [2, 1, 3], "steps": 2, "seed": 4},
        {"variant": "S", "increments": [2, 2], "num_heads": 2, "num_sab": 2, "patch_size": 1, "steps": 1, "seed": 5},
    ],
    ids=["one task", "other sizes", "other settings", "no divergence head", "one head, one image", "DAFormer-M",
         "DAFormer-S"],
)  # fmt: skip
def test_files_of_other_sizes_and_settings_are_reproduced(changed: dict[str, Any], tmp_path: Path) -> None:
    arrays = plain.generate(**changed)
    comparison = compared(arrays, tmp_path)
    assert comparison.passed, [row for row in comparison.rows if row.verdict.failed]
    assert set(comparison.counts) == {Verdict.EQUAL, Verdict.EXCUSED}
    inputs = {n for n in arrays if n in ("meta.json", "x") or n.endswith("/y") or n[5:].startswith("/params")}
    assert {row.entry for row in comparison.rows} == set(arrays) - inputs, "every entry has its line"


def test_the_generated_files_do_distil(small: Arrays) -> None:
    """In the published file the teacher equals the student: it cannot tell a wrong distillation."""
    assert small["task1/loss/distillation"] > 1e-5
    assert VectorFile(GOLDEN / "dytox_small.npz")["task2/loss/distillation"] == 0


def test_settings_left_out_are_the_published_ones(small: Arrays, tmp_path: Path) -> None:
    kept = {"steps": 2, "lr": 1e-3}
    assert compared(small | {"meta.json": np.array(json.dumps(kept))}, tmp_path).passed
    assert Settings.of({}) == Settings(lr=5e-4, sam_rho=3.0, mixup_lambda=0.3, label_smoothing=0.1, steps=10)


def test_only_one_tensor_is_excused_and_only_after_adam(small: Arrays, tmp_path: Path) -> None:
    excused = {row.entry for row in compared(small, tmp_path).rows if row.verdict is Verdict.EXCUSED}
    places = [f"task{t}/{f}/params" for t in (0, 1) for f in ("adamw", "asam")]
    assert excused == {f"{place}/encoder.0.attn.pos_proj.bias" for place in places}


# ---- what is wrong is found ------------------------------------------------------------------------------------------

QK = "encoder.0.attn.qk.weight"
BIAS = "encoder.0.attn.pos_proj.bias"


def moved(by: float, relative: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """A change of one element."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.reshape(-1)[-1] += by + relative * np.abs(array).max()
        return array

    return change


# Entries are compared one by one: many are changed in one file, and exactly these must be found.


def failed_entries(comparison: Comparison) -> set[str]:
    return {row.entry for row in comparison.rows if row.verdict.failed}


def test_values_beyond_their_bounds_are_found(small: Arrays, tmp_path: Path) -> None:
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "task0/tokens": moved(3e-5),
        "task1/embeddings": moved(-3e-5),
        "task0/logits": moved(3e-5),
        "task1/divergence_logits": moved(3e-5),
        "task0/loss/classification": moved(2e-5),
        "task1/loss/distillation": moved(2e-5),
        "task1/loss/divergence": moved(-2e-5),
        "task0/loss/total": moved(2e-5),
        f"task0/grads/{QK}": moved(2e-6, 2e-4),
        f"task1/grads/{BIAS}": moved(2e-6),
        "task1/grads/task_tokens.0": lambda a: np.zeros((1, 1, 6), np.float32),
        "task1/grads/task_tokens.1": lambda a: np.empty(0, np.float32),
        "task0/mixup/targets": moved(2e-5),
        "task1/mixup/loss/divergence": moved(2e-5),
        "task1/adamw/losses": moved(3e-6),
        f"task1/adamw/params/{QK}": moved(8e-5),
        f"task1/adamw/params/{BIAS}": moved(0.1),
        f"task0/asam/perturbed/{BIAS}": moved(3e-5),
        "task0/asam/losses": moved(3e-5),
        "task0/asam/params/task_tokens.0": moved(-8e-5),
        "task1/adamw/params/head.0.norm.bias": moved(8e-5),
    }
    comparison = compared(small | {entry: change(small[entry]) for entry, change in changes.items()}, tmp_path)
    assert failed_entries(comparison) == set(changes)
    assert not comparison.passed


def test_one_wrong_value_is_enough(small: Arrays, tmp_path: Path) -> None:
    comparison = compared(small | {"task1/logits": moved(3e-5)(small["task1/logits"])}, tmp_path)
    assert not comparison.passed
    assert comparison.counts[Verdict.DIFFERS] == 1


def test_values_within_their_bounds_pass(small: Arrays, tmp_path: Path) -> None:
    steps = {
        "task0/logits": 5e-6, "task0/loss/total": 5e-6, f"task0/grads/{QK}": 5e-7, "task1/adamw/losses": 5e-7,
        f"task1/adamw/params/{QK}": 3e-5, f"task1/adamw/params/{BIAS}": 1e-3, f"task1/asam/params/{BIAS}": 1e-3,
    }  # fmt: skip
    assert compared(small | {entry: moved(step)(small[entry]) for entry, step in steps.items()}, tmp_path).passed


KINDS_OF_ENTRIES = {
    "task0/tokens", "task1/logits", "task1/loss/distillation", f"task1/grads/{QK}", "task0/mixup/targets",
    "task0/adamw/losses", f"task1/adamw/params/{BIAS}", f"task0/asam/perturbed/{QK}", "task1/asam/losses",
    f"task0/asam/params/{BIAS}",
}  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_differs(small: Arrays, value: float, tmp_path: Path) -> None:
    comparison = compared(small | {entry: moved(value)(small[entry]) for entry in KINDS_OF_ENTRIES}, tmp_path)
    assert failed_entries(comparison) == KINDS_OF_ENTRIES
    assert {row.note for row in comparison.rows if row.verdict.failed} == {"not finite"}


def test_another_shape_differs(small: Arrays, tmp_path: Path) -> None:
    comparison = compared(small | {entry: small[entry][None] for entry in KINDS_OF_ENTRIES}, tmp_path)
    assert failed_entries(comparison) == KINDS_OF_ENTRIES
    assert all(" in the file" in row.note for row in comparison.rows if row.verdict.failed)


def test_entries_that_the_format_promises_are_missed(small: Arrays, tmp_path: Path) -> None:
    promised = KINDS_OF_ENTRIES - {"task0/tokens"}
    promised |= {"task0/embeddings", "task1/divergence_logits", "task0/loss/total", "task1/mixup/loss/distillation"}
    comparison = compared({name: array for name, array in small.items() if name not in promised}, tmp_path)
    assert failed_entries(comparison) == promised
    assert comparison.counts[Verdict.LACKING] == len(promised)


def test_optional_groups_are_listed_as_absent(small: Arrays, tmp_path: Path) -> None:
    groups = tuple(f"task1/{group}" for group in ("tokens", "mixup/", "adamw/", "asam/"))
    comparison = compared({n: a for n, a in small.items() if not n.startswith(groups)}, tmp_path)
    assert comparison.passed
    assert [row.entry for row in comparison.rows if row.verdict is Verdict.ABSENT] == list(groups)


def test_unknown_entries_are_listed_as_not_checked(small: Arrays, tmp_path: Path) -> None:
    unknown = {
        "task0/pod": np.zeros(3),
        "task1/grads/extra": np.ones(2),
        "note": np.array("text"),
        "task1/loss/pod": np.ones(1),
    }
    comparison = compared(small | unknown, tmp_path)
    assert comparison.passed
    assert {row.entry for row in comparison.rows if row.verdict is Verdict.UNCHECKED} == set(unknown)


def test_terms_that_a_task_does_not_have_are_zero(small: Arrays, tmp_path: Path) -> None:
    term, scores = "task0/loss/distillation", "task0/divergence_logits"
    assert compared(small | {term: np.float32(0), scores: np.empty(0, np.float32)}, tmp_path).passed
    wrong = small | {term: np.float32(0.1), scores: np.zeros((4, 3), np.float32)}
    assert failed_entries(compared(wrong, tmp_path)) == {term, scores}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"task1/params/decoder.norm1.bias": None}, "decoder.norm1.bias is missing"),
        ({"task0/params/decoder.norm1.bias": None}, "task0/params, the teacher, cannot be rebuilt"),
        ({"task1/params/decoder.norm1.bias": np.zeros(5, np.float32)}, "decoder.norm1.bias is of shape (5,)"),
        ({"task1/params/extra.bias": np.zeros(5, np.float32)}, "extra.bias has no place"),
        ({"task1/params/pos_embed": np.zeros((1, 4, 6))}, "pos_embed is torch.float64"),
        ({"task1/y": None}, "task1/y is missing"),
        ({"task1/y": np.array([0, 1, 2, 3])}, "labels outside 0..2"),
        ({"task1/y": np.array([0, 1, -1, 2])}, "labels outside 0..2"),
        ({"task1/y": np.array([0, 1])}, "task1/y is of shape (2,)"),
        ({"task1/y": np.zeros(4)}, "it must be 4 whole numbers"),
        ({"x": np.zeros((4, 3, 8, 8), np.float32)}, "x is torch.float32 of shape (4, 3, 8, 8)"),
        ({"x": np.zeros((4, 3, 4, 4))}, "x is torch.float64"),
    ],
)
def test_inputs_that_do_not_fit_are_named(small: Arrays, changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    arrays = {name: array for name, array in (small | changed).items() if array is not None}
    failed = [row for row in compared(arrays, tmp_path).rows if row.verdict.failed]
    assert any(told in row.note for row in failed), failed


def test_a_task_that_is_announced_is_missed(small: Arrays, tmp_path: Path) -> None:
    only = {name: array for name, array in small.items() if not name.startswith("task1/")}
    failed = [(row.entry, row.verdict) for row in compared(only, tmp_path).rows if row.verdict.failed]
    assert failed == [("task1/params", Verdict.LACKING)]
    late = {name: array for name, array in small.items() if not name.startswith("task0/")}
    assert "teacher" in " ".join(row.note for row in compared(late, tmp_path).rows)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("num_heads", 2), ("embed_dim", 12), ("increments", [2, 2]), ("batch", 5)])
def test_sizes_that_contradict_the_shapes_are_named(small: Arrays, name: str, value: Any, tmp_path: Path) -> None:
    meta = json.loads(str(small["meta.json"])) | {name: value}
    failed = [
        row for row in compared(small | {"meta.json": np.array(json.dumps(meta))}, tmp_path).rows if row.verdict.failed
    ]
    assert failed
    assert all(row.entry == "meta.json" and name in row.note for row in failed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"layernorm_eps": 1e-6}, "layernorm_eps=1e-06"),
        ({"encoder_layernorm_eps": 1e-6}, "encoder_layernorm_eps=1e-06"),
        ({"lr": "fast"}, "lr='fast'"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"adam_betas": 0.9}, "adam_betas=0.9"),
        ({"adam_betas": [0.9, 1.0]}, "adam_betas"),
        ({"mixup_lambda": 1.5}, "mixup_lambda=1.5"),
        ({"sam_adaptive": 1}, "sam_adaptive=1"),
        ({"increments": 3}, "increments=3"),
    ],
)
def test_settings_that_are_impossible_are_refused(
    small: Arrays, meta: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        compared(small | {"meta.json": np.array(json.dumps(json.loads(str(small["meta.json"])) | meta))}, tmp_path)


def test_files_in_which_nothing_can_be_checked_are_refused(small: Arrays, tmp_path: Path) -> None:
    for arrays, told in (
        ({"meta.json": small["meta.json"]}, "no images x"),
        ({"meta.json": small["meta.json"], "x": small["x"]}, "no task"),
        ({"a": np.zeros(1)}, "no file of golden vectors"),
        ({"herding0/features": np.zeros((3, 2), np.float32)}, "holds nothing that could be checked"),
        ({"lr_used/many": np.zeros(3)}, "holds nothing that could be checked"),
        ({"meta.json": np.array('{"variant": "M"}')}, "no images x"),
    ):
        with pytest.raises(ValueError, match=told):
            compared(arrays, tmp_path)


# ---- recipes ---------------------------------------------------------------------------------------------------------

RANKS, RATES = "herding0/select20", "lr_used/30_epochs"
ORDER = "repeated_augmentation/n600_world2_rank1_epoch3"


@pytest.fixture(scope="module")
def recipe() -> Arrays:
    files = [np.load(GOLDEN / f"recipe_{name}.npz") for name in ("herding", "schedule")]
    return {name: file[name] for file in files for name in file.files if not name.startswith("herding1")}


def test_recipes_are_reproduced_whole_and_in_parts(recipe: Arrays, tmp_path: Path) -> None:
    whole = compared(recipe, tmp_path)
    assert whole.passed
    assert set(whole.counts) == {Verdict.EQUAL}
    assert len(whole.rows) == len(recipe) - 2, "all but the features"
    for group in ("herding0/", "lr_used/", "repeated_augmentation/"):
        assert compared({n: a for n, a in recipe.items() if n.startswith(group)}, tmp_path).passed
    for name in ("recipe_herding", "recipe_schedule"):
        file = VectorFile(GOLDEN / f"{name}.npz")
        assert kind_of(file).title == "recipe of DyTox"
        assert compare(file).passed


def swapped(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array[1::-1], array[2:]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "change"),
    [
        (RANKS, swapped),
        (RANKS, moved(1)),
        (RANKS, lambda a: a[:-1]),
        (RANKS, lambda a: a + np.nan),
        ("herding0/features", lambda a: a * np.nan),
        ("herding0/features", lambda a: a[0]),
        (RATES, moved(1e-9)),
        (RATES, moved(np.nan)),
        (RATES, lambda a: a[:-1]),
        (RATES, lambda a: np.roll(a, 1)),
        (ORDER, moved(-1)),
        (ORDER, lambda a: a[1:]),
    ],
)
def test_recipes_that_differ_are_found(recipe: Arrays, entry: str, change: Any, tmp_path: Path) -> None:
    failed = {
        row.entry for row in compared(recipe | {entry: change(recipe[entry])}, tmp_path).rows if row.verdict.failed
    }
    assert failed
    assert failed == ({entry} if "features" not in entry else {n for n in recipe if n.startswith("herding0/s")})


def test_the_count_of_wrong_integers_is_reported(recipe: Arrays, tmp_path: Path) -> None:
    rows = compared({"herding0/features": recipe["herding0/features"], RANKS: swapped(recipe[RANKS])}, tmp_path).rows
    assert rows[0].note == "2 of 20 differ, the first at 0"


def test_ranks_without_features_and_features_without_ranks(recipe: Arrays, tmp_path: Path) -> None:
    without = {name: array for name, array in recipe.items() if name != "herding0/features"}
    failed = {(row.entry, row.verdict) for row in compared(without, tmp_path).rows if row.verdict.failed}
    assert failed == {("herding0/features", Verdict.LACKING)}
    more = recipe | {"herding7/features": recipe["herding0/features"], "lr_used/many": np.zeros(1)}
    unchecked = {row.entry for row in compared(more, tmp_path).rows if row.verdict is Verdict.UNCHECKED}
    assert unchecked == {"herding7/features", "lr_used/many"}


def test_orders_of_other_sizes(tmp_path: Path) -> None:
    """The sampler, literally: permutation by epoch, three copies, every W-th from r on, cut to N // 256 * 256 / W."""
    arrays = {}
    for n, world, rank, epoch in ((256, 1, 0, 1), (777, 3, 2, 0), (100, 2, 1, 5), (5000, 8, 7, 2)):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).tolist()
        copies = [index for index in order for _ in range(3)]
        copies += copies[: -len(copies) % world]
        drawn = copies[rank::world][: n // 256 * 256 // world]
        arrays[f"repeated_augmentation/n{n}_world{world}_rank{rank}_epoch{epoch}"] = np.array(drawn, dtype=np.int64)
    assert compared(arrays, tmp_path).passed
    impossible = {"repeated_augmentation/n600_world2_rank2_epoch0": np.zeros(256, np.int64)}
    assert "rank 2 of 2" in compared(impossible, tmp_path).rows[0].note
