"""Classification of files: who wins, what the numbers mean, and files that are no images."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from cl_lightning.core.types import Readout
from cl_lightning.deploy.predictions import Classifier, classify, meaning
from cl_lightning.deploy.reading import Skipped
from tests.deploy.runs import pictures, save_pictures
from tests.deploy.test_model import model

SCORES = torch.tensor([[0.0, 2.0, 1.0, 2.0, -1.0], [5.0, 0.0, 0.0, 0.0, 5.0]])


def classifier(labels: range = range(5), top: int = 1, readout: Readout | None = None) -> Classifier:
    scores = lambda images: {"linear": SCORES[torch.arange(len(images)) % 2]}  # noqa: E731
    made = model(predict=scores, readouts={"linear": readout or Readout()})
    return Classifier(made, "linear", labels, top)


IMAGES = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)


def test_of_equal_scores_the_class_that_arrived_first_wins() -> None:
    first, second = classifier(top=3).guesses(IMAGES)
    assert [(guess.name, guess.task, guess.score) for guess in first] == [("b", 1, 2.0), ("d", 2, 2.0), ("c", 2, 1.0)]
    assert [guess.name for guess in second] == ["a", "e", "b"]


def test_probabilities_are_over_the_classes_that_compete() -> None:
    (best,), _ = classifier(range(2, 5)).guesses(IMAGES)
    assert (best.name, best.task) == ("d", 2)
    assert best.probability == pytest.approx(math.e**2 / (math.e + math.e**2 + 1 / math.e))
    assert [len(each) for each in classifier(range(2, 4), top=9).guesses(IMAGES)] == [2, 2]


def test_scores_that_were_learnt_one_by_one_are_probabilities_one_by_one() -> None:
    (best,), _ = classifier(readout=Readout("sigmoid", temperature=2.0)).guesses(IMAGES)
    assert best.probability == pytest.approx(1 / (1 + math.exp(-1)))


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_files_come_back_in_their_order_whatever_the_batch(batch: int, tmp_path: Path) -> None:
    files = save_pictures(tmp_path, pictures(5, 4))
    files[3].write_bytes(b"no image")
    files.insert(1, tmp_path / "gone.png")
    seen: list[tuple[int, int]] = []
    made = model(
        predict=lambda images: {
            "linear": images.flatten(1).mean(dim=1, keepdim=True) * torch.tensor([1.0, -1, 0, 0, 0])
        }
    )
    outcome = classify(
        Classifier(made, "linear", range(5)), files, batch, lambda done, skipped: seen.append((done, len(skipped)))
    )
    readable = [file for file in files if file.name not in ("gone.png", "003.png")]
    assert [each.file for each in outcome.predictions] == readable
    expected = ["a" if int(image.float().mean() > 127.5) else "b" for image in pictures(5, 4)]
    del expected[3]
    assert [each.guesses[0].name for each in outcome.predictions] == expected
    assert [each.file.name for each in outcome.skipped] == ["gone.png", "003.png"]
    assert outcome.skipped[0] == Skipped(tmp_path / "gone.png", "No such file or directory")
    assert seen[-1][0] == 6
    assert sum(skipped for _, skipped in seen) == 2
    assert len(seen) == -(-6 // batch)


def test_scores_that_rank_only_have_no_probability() -> None:
    ranked = classifier(top=2, readout=Readout("none")).guesses(IMAGES)
    likely = classifier(top=2).guesses(IMAGES)
    assert [[(guess.name, guess.score) for guess in row] for row in ranked] == [
        [(guess.name, guess.score) for guess in row] for row in likely
    ]
    assert all(guess.probability is None for row in ranked for guess in row)


def test_nothing_is_classified_at_once() -> None:
    outcome = classify(classifier(), [], 4, lambda *_: pytest.fail("nothing was done"))
    assert (outcome.predictions, outcome.skipped) == ([], [])


@pytest.mark.parametrize(
    ("readout", "words"),
    [
        (Readout(), "softmax of score over the classes that compete, as in training"),
        (Readout(temperature=2.5), "softmax of score / 2.5 over the classes that compete, as in training"),
        (
            Readout("sigmoid", 2.0),
            "sigmoid of each class's score / 2 by itself, as in training: they need not sum to one",
        ),
        (Readout("none"), "none, the scores rank the classes and nothing makes probabilities of them"),
    ],
)
def test_what_a_probability_is_of(readout: Readout, words: str) -> None:
    assert meaning(readout) == words
    if not readout.ranks_only:
        assert "they rank the classes" in meaning(dataclasses.replace(readout, means=torch.zeros(5, 1)))
