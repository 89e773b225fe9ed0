"""Early stopping: its needs, its limits, and the images that are evaluated on then."""

from __future__ import annotations

import pytest

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.early_stopping import early_stopping_text, evaluates_share, stoppable_phases
from cl_lightning.core.errors import UserError

pytestmark = pytest.mark.slow

STOPS = ["run_dir=run", "early_stopping.patience=5", "data.validation=0.1"]
CONSTANT = "method.main.schedule=constant"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            [STOPS[1], CONSTANT],
            "early_stopping.patience=5 needs images that are not trained on, to judge by: type data.validation=0.1 as",
        ),
        (
            [STOPS[1]],
            "early_stopping.patience=5 needs images that are not trained on, to judge by: type data.validation=0.1 "
            "method.main.schedule=constant as well, which sets",
        ),
        (
            STOPS,
            "early_stopping.patience=5 would end method.main.schedule=cosine before the rate has come down: type "
            "method.main.schedule=constant, or early_stopping.allow_unfinished_schedule=true to do so all the same",
        ),
        ([*STOPS, "method=wa"], "early_stopping.patience=5 would end method.main.schedule=steps before"),
        (
            [*STOPS, "method=meat", CONSTANT],
            "early_stopping.patience=5 would end method.backbone.schedule=cosine before",
        ),
        (
            [*STOPS, "method=meat", CONSTANT, "method.backbone.schedule=constant", "method.readouts=[entropy]"],
            "early_stopping.patience=5 reads the scores within a phase, which the read-outs ['entropy'] do not have",
        ),
        (["early_stopping.patience=0"], "early_stopping.patience=0 is out of range: type early_stopping.patience=N"),
        (
            ["early_stopping.monitor=val_loss"],
            "early_stopping.monitor=val_loss is not a choice: type early",
        ),
        (
            ["early_stopping.min_delta=0.1"],
            "early_stopping.min_delta=0.1 is read by nobody here: type early",
        ),
        (["data.validation=0.1", "data.evaluate_on=test"], "data.evaluate_on=test "),
    ],
)
def test_what_cannot_be_is_one_line_on_what_to_type(typed: list[str], line: str) -> None:
    with pytest.raises(UserError) as refused:
        compose_typed(["run_dir=run", *typed])
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    ("typed", "share"),
    [
        ([], False),
        (["data.validation=0.1"], True),
        ([*STOPS[1:], CONSTANT], False),
        ([*STOPS[1:], CONSTANT, "data.evaluate_on=test"], False),
        ([*STOPS[1:], CONSTANT, "data.evaluate_on=val"], True),
        ([*STOPS[1:], "early_stopping.allow_unfinished_schedule=true"], False),
        ([*STOPS[1:], CONSTANT, "data=sequence", "data.sets=[{name: digits}]", "data.evaluate_on=val"], True),
    ],
)
def test_images_that_chose_the_network_are_evaluated_on_only_where_that_was_typed(
    typed: list[str], share: bool
) -> None:
    assert evaluates_share(compose_typed(["run_dir=run", *typed])) is share


def test_balanced_phases_are_never_ended() -> None:
    """Their schedule may be what it likes."""
    config = compose_typed([*STOPS, CONSTANT, "method.finetuning.schedule=cosine"])
    assert set(stoppable_phases(config)) == {"main"}
    constant = [CONSTANT, "method.backbone.schedule=constant"]
    assert set(stoppable_phases(compose_typed([*STOPS, *constant, "method=meat"]))) == {"backbone", "main"}


def test_the_rule_as_a_text() -> None:
    assert early_stopping_text(compose_typed(["run_dir=run"])) == "none"
    assert early_stopping_text(compose_typed([*STOPS, CONSTANT])) == "accuracy, patience 5"
    loss = ["early_stopping.monitor=loss", "early_stopping.min_delta=0.01"]
    assert early_stopping_text(compose_typed([*STOPS, CONSTANT, *loss])) == "loss, patience 5, min_delta 0.01"
