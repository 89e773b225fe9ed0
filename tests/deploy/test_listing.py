"""Predictions as text: the same numbers as a table, CSV and JSON, whatever names files and classes have."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

from cl_lightning.deploy.listing import listing, name_of
from cl_lightning.deploy.predictions import Classifier, Guess, Outcome, Prediction
from cl_lightning.deploy.reading import Skipped
from tests.deploy.test_model import model

ODD = Path(os.fsdecode(b"a\xff\n.png"))
OUTCOME = Outcome(
    [
        Prediction(Path("cat/1.png"), (Guess("cat", 0.75, 1, 2.5), Guess("dog", 0.25, 2, -1.0))),
        Prediction(ODD, (Guess("=1+1", 1 / 3, 1, 0.0),)),
    ],
    [Skipped(Path("b.txt"), "no image")],
    1.5,
)
CLASSIFIER = Classifier(replace(model(), commit="abc"), "linear", range(2, 4))


def test_a_table_for_people() -> None:
    lines = listing(OUTCOME, CLASSIFIER, "table").splitlines()
    assert [line.split() for line in lines] == [
        ["file", "class", "probability", "task"], ["cat/1.png", "cat", "0.7500", "1"], ["dog", "0.2500", "2"],
        [r"a\udcff\n.png", "=1+1", "0.3333", "1"],
    ]  # fmt: skip
    assert len({len(line) for line in lines}) == 1
    assert lines[2].startswith(" " * len(r"a\udcff\n.png"))


def test_scores_stand_in_the_place_of_probabilities_that_there_are_not() -> None:
    ranked = Outcome([Prediction(Path("a.png"), (Guess("cat", None, 1, 0.75), Guess("dog", None, 2, -0.5)))], [], 0.0)
    table = [line.split() for line in listing(ranked, CLASSIFIER, "table").splitlines()]
    assert table == [["file", "class", "score", "task"], ["a.png", "cat", "0.7500", "1"], ["dog", "-0.5000", "2"]]
    _, first, _ = csv.reader(io.StringIO(listing(ranked, CLASSIFIER, "csv")))
    assert first == ["a.png", "1", "cat", "", "1", "0.75"]
    (image,) = json.loads(listing(ranked, CLASSIFIER, "json"))["images"]
    assert image["guesses"][0] == {"class": "cat", "probability": None, "task": 1, "score": 0.75}


def test_wide_letters_take_two_columns() -> None:
    wide = Outcome([Prediction(Path("ab"), (Guess("猫", 1.0, 1, 0.0),))], [], 0.0)
    *_, line = listing(wide, CLASSIFIER, "table").splitlines()
    assert line == "ab    猫          1.0000     1"


def test_csv_for_programs_without_formulas() -> None:
    head, *rows = csv.reader(io.StringIO(listing(OUTCOME, CLASSIFIER, "csv")))
    assert head == ["file", "rank", "class", "probability", "task", "score"]
    assert [row[1:] for row in rows[:2]] == [["1", "cat", "0.75", "1", "2.5"], ["2", "dog", "0.25", "2", "-1"]]
    assert rows[2][2] != "=1+1"
    assert rows[2][2].endswith("=1+1")
    assert rows[2][3] == "0.333333"


def test_json_with_everything() -> None:
    found = json.loads(listing(OUTCOME, CLASSIFIER, "json"))
    assert found["model"] == {"from": "run", "stage": "whole", "protocol": {}, "commit": "abc"}
    assert (found["readout"], found["classes"]) == ("linear", ["c", "d"])
    first, second = found["images"]
    assert first["file"] == "cat/1.png"
    assert first["guesses"][1] == {"class": "dog", "probability": 0.25, "task": 2, "score": -1.0}
    assert second["file"] == "a\\udcff\n.png", "its control characters are its name"
    assert found["skipped"] == [{"file": "b.txt", "reason": "no image"}]


def test_a_name_is_one_line() -> None:
    assert name_of(ODD) == r"a\udcff\n.png"
