"""Each clean image passes a frozen trunk once; the vectors are those of the images, and of no other weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Mixing, Outputs, Phase, PlanItem, Task
from cl_lightning.data.augmentation.pipeline import Augmentation
from cl_lightning.data.loading import PixelStore
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.learning.engine import Engine
from cl_lightning.learning.feature_files import FeatureFiles
from cl_lightning.learning.feature_store import FeatureStore, is_as_in_evaluation, weights_digest
from cl_lightning.learning.inputs import ImageInputs
from cl_lightning.learning.trainer import quieten_lightning
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.models.build import build_network
from tests.learning.a_phase import CLEAN, CONVIT, IMAGES, LABELS, LIST, PHASE, PIXELS, SOURCE, TASKS, Bench

RESNET = {"kind": "cifar_resnet", "depth": 8, "channels": 1}
TRANSFORMER = {"kind": "class_token", "encoder": {**CONVIT, "drop_path": 0.3}}


VIT = {**CONVIT, "kind": "plain_vit"}
STRUCTURE = {"kind": "embedding_network", "bias": True, "classes": [2]}


class CountingTrunk:
    """Counts the images that pass a network's backbone."""

    def __init__(self, network: Any) -> None:
        self.seen = 0
        network.backbone.register_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, given: Any) -> None:
        self.seen += len(given[0])


class HeadAlone(Method):
    """A linear classifier on a frozen backbone."""

    def plan(self, task: Task) -> list[PlanItem]:
        raise AssertionError("nobody asks")

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        return {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}


def head_alone(backbone: dict[str, Any] = TRANSFORMER) -> HeadAlone:
    method = HeadAlone(build_network({**STRUCTURE, "backbone": backbone}, Key(0)))
    method.network.classifier.reads_frozen_features = lambda: True
    return method


def bench(folder: Path, *, limit: int = 1 << 20, files: FeatureFiles | None = None, **changed: Any) -> Bench:
    quieten_lightning()
    made = Bench(folder, pipeline=dataclasses.replace(CLEAN, **changed))
    made.engine.options = dataclasses.replace(made.engine.options, features_limit=limit, feature_files=files)
    return made


HEAD = dataclasses.replace(PHASE, trains=("classifier",), sampling=LIST, epochs=3)


def scores_of(engine: Engine, method: Method) -> Tensor:
    """Scores of all test images of the first task, by row."""
    rows, found = TASKS[0].test, []
    engine.visit_test(method.network, rows, lambda batch: found.append(method.predict(batch.images)["linear"].clone()))
    return torch.cat(found)


def test_what_is_evaluated_or_embedded_again_passes_once(tmp_path: Path) -> None:
    method, engine = head_alone(), bench(tmp_path).engine
    plain = scores_of(bench(tmp_path, limit=0).engine, method)
    counted = CountingTrunk(method.network)
    assert torch.equal(scores_of(engine, method), scores_of(engine, method))
    assert counted.seen == len(TASKS[0].test)
    torch.testing.assert_close(scores_of(engine, method), plain, atol=1e-5, rtol=1e-5)
    # The source of test images is that of the training images here.
    embedded = engine.embed(method.network, TASKS[0].train, method.embed)
    assert counted.seen == len(TASKS[0].test) == len(embedded)
    torch.testing.assert_close(embedded, method.embed(IMAGES[TASKS[0].train]), atol=1e-5, rtol=1e-5)


def test_training_and_test_images_are_told_apart(tmp_path: Path) -> None:
    """The same rows of two sources, one after the other."""
    method, engine = head_alone(), bench(tmp_path).engine
    other = ArraySource("others", 255 - PIXELS, LABELS, tuple("abcde"))
    engine.images["test"] = ImageInputs(other, LABELS, PixelStore(other), CLEAN)
    rows = TASKS[0].train
    assert torch.equal(rows, TASKS[0].test)
    learnt = engine.embed(method.network, rows, method.embed)
    scores = scores_of(engine, method)
    shown = CLEAN.on_device(other.pixels[rows], rows, 0)
    torch.testing.assert_close(scores, method.predict(shown)["linear"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(learnt, method.embed(IMAGES[rows]), atol=1e-5, rtol=1e-5)


def test_mirrored_and_augmented_images_are_not_taken_for_clean_ones(tmp_path: Path) -> None:
    method, engine = head_alone(), bench(tmp_path, augmentation=Augmentation(crop_padding=2)).engine
    rows = TASKS[0].train
    clean = engine.embed(method.network, rows, method.embed)
    counted = CountingTrunk(method.network)
    mirrored = engine.embed(method.network, rows, method.embed, flip=True)
    assert not torch.allclose(mirrored, clean)
    (augmented,) = engine.map_groups(method.network, [rows], method.embed, lambda f: f, key=Key(1))
    assert not torch.allclose(augmented, clean)
    assert counted.seen == 2 * len(rows)
    (again,) = engine.map_groups(method.network, [rows], method.embed, lambda f: f)
    assert torch.equal(again, clean)
    assert counted.seen == 2 * len(rows)


def test_a_head_is_trained_on_vectors_and_becomes_the_same(tmp_path: Path) -> None:
    kept, plain = head_alone(), head_alone()
    counted = CountingTrunk(kept.network)
    bench(tmp_path).fit(kept, TASKS[0], HEAD)
    assert counted.seen == len(TASKS[0].train), "three epochs, one pass"
    bench(tmp_path, limit=0).fit(plain, TASKS[0], HEAD)
    for ours, theirs in zip(kept.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("phase", "backbone", "changed"),
    [
        pytest.param(HEAD, TRANSFORMER, {"augmentation": Augmentation(crop_padding=1)}, id="augmented"),
        pytest.param(dataclasses.replace(HEAD, mixing=Mixing(0.8)), TRANSFORMER, {}, id="mixed"),
        pytest.param(dataclasses.replace(HEAD, drop_path_in_frozen=True), TRANSFORMER, {}, id="stochastic depth"),
        pytest.param(dataclasses.replace(HEAD, trains=("backbone", "classifier")), TRANSFORMER, {}, id="trained"),
        pytest.param(HEAD, RESNET, {}, id="batch statistics"),
    ],
)
def test_where_passes_differ_a_phase_sees_images(
    phase: Phase, backbone: dict[str, Any], changed: dict[str, Any], tmp_path: Path
) -> None:
    method = head_alone(backbone)
    counted = CountingTrunk(method.network)
    bench(tmp_path, **changed).fit(method, TASKS[0], phase)
    assert counted.seen >= 3 * len(TASKS[0].train)


def test_a_clean_phase_of_a_run_that_augments_sees_vectors(tmp_path: Path) -> None:
    method = head_alone()
    counted = CountingTrunk(method.network)
    made = bench(tmp_path, augmentation=Augmentation(crop_padding=1))
    made.fit(method, TASKS[0], dataclasses.replace(HEAD, augmented=False))
    assert counted.seen < 2 * len(TASKS[0].train)


def test_features_that_are_too_large_are_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    method = head_alone()
    size = 4 * len(LABELS) * method.network.backbone.dim
    few, enough = (bench(tmp_path, limit=limit).engine for limit in (size - 1, size))
    counted = CountingTrunk(method.network)
    for engine, passes in ((few, 2), (enough, 1)):
        before = counted.seen
        for _ in range(2):
            scores_of(engine, method)
        assert counted.seen - before == passes * len(TASKS[0].test)
    assert "they are computed each time" in caplog.text


def test_other_weights_have_other_vectors(tmp_path: Path) -> None:
    method, engine = head_alone(), bench(tmp_path).engine
    before = engine.embed(method.network, TASKS[0].train, method.embed)
    next(method.network.backbone.parameters()).data.mul_(1.5)
    after = engine.embed(method.network, TASKS[0].train, method.embed)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, method.embed(IMAGES[TASKS[0].train]), atol=1e-5, rtol=1e-5)


def test_a_later_run_reads_files(tmp_path: Path) -> None:
    method = head_alone()
    counted = CountingTrunk(method.network)
    found = [
        bench(tmp_path, files=FeatureFiles(tmp_path / "kept")).engine.embed(method.network, rows, method.embed)
        for rows in (TASKS[0].train, TASKS[0].train)
    ]
    assert torch.equal(*found)
    assert counted.seen == len(TASKS[0].train)
    assert len(list((tmp_path / "kept").iterdir())) == 2, "a class, a file"


class Trunk(nn.Linear):
    """A trunk without images."""

    def structure(self) -> dict[str, Any]:
        return {"kind": "linear"}


def test_classes_are_groups_whatever_is_asked_for_first() -> None:
    asked: list[list[int]] = []

    def compute(weights: str, groups: Any) -> list[Tensor]:
        asked.extend(group.tolist() for group in groups)
        return [group[:, None].float().expand(-1, 3) for group in groups]

    store, trunk = FeatureStore(), Trunk(2, 3)
    rows = torch.tensor([11, 0, 5, 1])
    features = store.of(trunk, SOURCE, LABELS, rows, compute)
    assert asked == [[0, 5], [1, 11]]
    assert features.pixels[rows].tolist() == [[float(row)] * 3 for row in rows.tolist()]
    store.of(trunk, SOURCE, LABELS, torch.tensor([0, 6, 10]), compute)
    assert asked[2:] == [[10], [6]], "only what is missing"
    trunk.weight.data.add_(1)
    store.of(trunk, SOURCE, LABELS, torch.tensor([0]), compute)
    assert asked[4:] == [[0]], "other weights begin anew"


def test_no_rows_are_no_features() -> None:
    features = FeatureStore().of(
        Trunk(2, 3), SOURCE, LABELS, torch.empty(0, dtype=torch.int64), lambda weights, groups: []
    )
    assert len(features) == len(PIXELS)


def test_a_digest_sees_weights_and_statistics() -> None:
    backbone: Any = build_network({**STRUCTURE, "backbone": RESNET}, Key(0)).backbone  # type: ignore[union-attr]
    before = weights_digest(backbone)
    assert weights_digest(backbone) == before
    norm = next(module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_mean += 1  # type: ignore[operator]
    assert weights_digest(backbone) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(RESNET, {**RESNET, "last_relu": False}, id="no last ReLU"),
        pytest.param(VIT, {**VIT, "num_heads": 4}, id="other heads"),
    ],
)
def test_a_digest_sees_what_the_same_weights_are_used_for(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Else a later run would read another network's vectors from a file."""
    first, second = (build_network({**STRUCTURE, "backbone": each}, Key(0)).backbone for each in (one, other))  # type: ignore[union-attr]
    state = first.state_dict()  # type: ignore[union-attr]
    assert state.keys() == second.state_dict().keys()  # type: ignore[union-attr]
    second.load_state_dict(state)  # type: ignore[union-attr,operator]
    assert weights_digest(first) != weights_digest(second)


def test_modes_that_change_vectors() -> None:
    assert is_as_in_evaluation(nn.Sequential(nn.LayerNorm(3), nn.Dropout(0.0)))
    for module in (nn.Dropout(0.1), nn.BatchNorm2d(3)):
        assert not is_as_in_evaluation(nn.Sequential(module))
        assert is_as_in_evaluation(nn.Sequential(module).eval())
