"""Right answers of a trained model, class by class, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cl_lightning.core.errors import UnreadableImageError, UserError
from cl_lightning.core.types import CLASS_INCREMENTAL, TASK_INCREMENTAL, TASK_INFERENCE, Readout
from cl_lightning.deploy.evaluation import LabelledImages, competition, evaluate
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.reading import Skipped
from tests.deploy.test_model import model

pytestmark = pytest.mark.slow

TAKEN_FOR = [0, 1, 1, 2, 0, 4, 3]
LABELS = [0, 0, 1, 2, 2, 4, 4]
"""Of tasks (a b), (c d) and (e)."""


def reader(*, broken: int | None = None) -> LabelledImages:
    """Images whose first pixel is the class that they are taken for."""

    def read(number: int) -> Tensor:
        if number == broken:
            raise UnreadableImageError(Path(f"{number}.png"), ": it is torn")
        return torch.full((1, 4, 4), TAKEN_FOR[number], dtype=torch.uint8)

    return LabelledImages([Path(f"{n}.png") for n in range(7)], torch.tensor(LABELS), read, "nowhere")


def told() -> TrainedModel:
    """A model that takes an image for the class of its first pixel; its second read-out says always b."""

    def predict(images: Tensor) -> dict[str, Tensor]:
        pixel = (images[:, 0, 0, 0] * 0.25 + 0.5) * 255
        return {
            "linear": 10 * torch.eye(5)[pixel.round().long()],
            "always b": torch.eye(5)[1].expand(len(images), -1),
        }

    return model(predict=predict, readouts={"linear": Readout(), "always b": Readout()})


def nothing(done: int, skipped: list[Skipped]) -> None:
    pass


def test_classes_are_counted_in_each_protocol_and_read_out() -> None:
    seen: list[int] = []
    found = evaluate(told(), reader(), competition(told()), 3, lambda done, _: seen.append(done))
    assert seen == [3, 6, 7]
    right = {name: counts.hits1.tolist() for name, counts in found.counts.items()}
    assert right == {
        (CLASS_INCREMENTAL, "linear"): [1, 1, 1, 0, 1],
        (CLASS_INCREMENTAL, "always b"): [0, 1, 0, 0, 0],
        (TASK_INCREMENTAL, "linear"): [1, 1, 2, 0, 2],
        (TASK_INCREMENTAL, "always b"): [0, 1, 2, 0, 2],
        (TASK_INFERENCE, "linear"): [2, 1, 1, 0, 1],
        (TASK_INFERENCE, "always b"): [2, 1, 0, 0, 0],
    }
    assert next(iter(found.counts)) == (CLASS_INCREMENTAL, "linear")
    assert found.images == 7
    assert [counts.total.tolist() for counts in found.counts.values()] == [[2, 1, 2, 0, 2]] * 6
    assert found.answers["linear"].confusion[2].tolist() == [1, 0, 1, 0, 0]
    assert found.answers["linear"].reliability[:, :, 0].sum(dim=1).tolist() == [5, 2], "old classes, and the newest"


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_the_size_of_batches_does_not_matter(batch: int) -> None:
    found = evaluate(told(), reader(), competition(told()), batch, nothing)
    assert found.counts[CLASS_INCREMENTAL, "linear"].hits1.tolist() == [1, 1, 1, 0, 1]


def test_the_main_protocol_of_the_method_comes_first() -> None:
    of_task = model(protocol={"evaluation": TASK_INCREMENTAL})
    assert competition(of_task).protocols[0] == TASK_INCREMENTAL
    assert competition(of_task).offsets == (0, 2, 4, 5)


def test_of_one_task_its_own_classes_compete() -> None:
    who = competition(told(), task=2)
    assert (who.labels, who.offsets, who.protocols) == (range(2, 4), (0, 2), (TASK_INCREMENTAL,))
    found = evaluate(told(), reader().of_labels(who.labels), who, 4, nothing)
    assert found.images == 2
    assert found.counts[TASK_INCREMENTAL, "linear"].hits1.tolist() == [2, 0]
    assert found.answers["linear"].confusion.tolist() == [[2, 0], [0, 0]]
    with pytest.raises(UserError, match="--task 4 is not among the 3 tasks"):
        competition(told(), task=4)


def test_one_read_out_or_all_that_know_all_classes() -> None:
    assert competition(told(), "always b").readouts == ("always b",)
    half = model(readouts={"nme": Readout(means=torch.zeros(3, 1)), "linear": Readout()})
    assert competition(half).readouts == ("linear",)
    with pytest.raises(UserError, match="--readout nme has the means of 3 of 5 classes"):
        competition(half, "nme")
    with pytest.raises(UserError, match="--readout x does not exist"):
        competition(half, "x")


def test_an_image_that_cannot_be_read_is_named_and_counts_nowhere() -> None:
    named: list[Skipped] = []
    found = evaluate(told(), reader(broken=5), competition(told()), 2, lambda _, skipped: named.extend(skipped))
    assert named == list(found.skipped) == [Skipped(Path("5.png"), "it is torn")]
    assert found.counts[CLASS_INCREMENTAL, "linear"].total.tolist() == [2, 1, 2, 0, 1]
