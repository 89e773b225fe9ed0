"""What the data suggest scales what nobody has typed: epochs, warm-up and rates of each phase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cl_lightning.config.add_task import load_learn
from cl_lightning.config.identity import differences, numeric_settings
from cl_lightning.config.saved import load_plain, to_plain
from cl_lightning.config.schema import Config
from cl_lightning.core.missing_keys import complete_configuration
from cl_lightning.core.types import Phase, View
from cl_lightning.factory.phases import build_phase
from cl_lightning.run.protocol import epochs, lr_scale, method_options
from tests.config.made import filled

FOLDER = ("data=image_folder", "data.root=/nowhere", "data.increment=2")


def phase(config: Config, name: str) -> Phase:
    return build_phase(name, getattr(config.method, name), config, View.NEW, ())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], "50 main + 20 finetuning"),
        (["method.main.epochs=5"], "5 main + 20 finetuning"),
        (["method.main.epochs=500"], "500 main + 20 finetuning"),
        (["method.main={epochs: 5}"], "5 main + 20 finetuning"),
        (["method.main.epochs=5", "epochs_scale=0.5"], "3 main + 20 finetuning"),
        (["method.main.epochs=5", "epochs_scale=0.1"], "1 main + 20 finetuning"),
        (["method.main.epochs=5", "data.suggests.epochs_scale=3"], "5 main + 20 finetuning"),
        (["method.main.epochs=5", "method.main.epochs_scale=2"], "10 main + 20 finetuning"),
        (["method.main.epochs_scale=0.02"], "10 main + 20 finetuning"),
        (["method.finetuning.epochs=7", "data.suggests.balanced_epochs_scale=0.1"], "50 main + 7 finetuning"),
        (["method.main.epochs=7", "data.suggests.balanced_epochs_scale=0.1"], "7 main + 2 finetuning"),
        (["method.finetuning.epochs=7", "balanced_epochs_scale=0.5"], "50 main + 4 finetuning"),
        (["method=meat", "model=vit_tiny", "method.main.epochs=7"], "50 backbone + 7 main"),
        (["method=meat", "model=vit_tiny", "method.backbone.epochs=7"], "7 backbone + 3 main"),
        (["method=der", "method.classifier.epochs=7", "data.suggests.balanced_epochs_scale=0.1"],
         "17 main + 7 classifier"),
    ],
)  # fmt: skip
def test_typed_epochs_are_run_as_typed_unless_a_scale_was_typed_too(typed: list[str], expected: str) -> None:
    config = filled(*FOLDER, *typed)
    assert epochs(config) == expected
    assert epochs(load_plain(to_plain(config))) == expected, "as it is saved"


def test_a_scale_of_debug_or_of_an_experiment_is_somebody_s_wish() -> None:
    """Return what these files hold is in the configuration before data are asked."""
    config = filled("method.main.epochs=5", "epochs_scale=0.001", "balanced_epochs_scale=0.001")
    assert (epochs(config), config.method.main.epochs_scale) == ("1 main + 1 finetuning", None)


@pytest.mark.parametrize(
    ("typed", "warmup", "of"),
    [
        ([], 0, 50),
        (["method.main.epochs=5"], 0, 5),  # as many as without: the published five of 500 would be all of them
        (["method.main.warmup_epochs=3"], 3, 50),
        (["method.main.epochs=20", "method.main.warmup_epochs=3"], 3, 20),
        (["method.main.epochs=20", "epochs_scale=1"], 5, 20),
        (["data.suggests.epochs_scale=1", "method.main.epochs=250"], 5, 250),
    ],
)
def test_warm_up_is_counted_in_epochs_too(typed: list[str], warmup: int, of: int) -> None:
    main = phase(filled(*FOLDER, *typed), "main")
    assert (main.schedule.warmup_epochs, main.epochs) == (warmup, of)


@pytest.mark.parametrize(
    ("typed", "main", "finetuning", "told"),
    [
        ([], 2e-3, 2e-4, 4.0),
        (["method.main.lr=0.001"], 1e-3, 2e-4, "main 1, finetuning 4"),
        (["method.main.lr=0.001", "method.finetuning.lr=0.001"], 1e-3, 1e-3, 1.0),
        (["method.main.lr=0.001", "lr_scale=2"], 2e-3, 1e-4, 2.0),
        (["method.main.lr=0.001", "method.main.lr_scale=3"], 3e-3, 2e-4, "main 3, finetuning 4"),
    ],
)
def test_a_typed_rate_is_the_rate(typed: list[str], main: float, finetuning: float, told: object) -> None:
    config = filled(*typed)
    rates = [phase(config, name).optimiser.lr for name in ("main", "finetuning")]
    assert rates == pytest.approx([main, finetuning])
    assert lr_scale(config) == told
    assert lr_scale(load_plain(to_plain(config))) == told


def test_configurations_from_before_give_the_numbers_of_before() -> None:
    """They have no scales of phases; what was saved beside typed epochs is in force."""
    plain = to_plain(filled(*FOLDER, "method.main.epochs=5", "epochs_scale=0.1"))
    for name in ("main", "finetuning"):
        for own in ("epochs_scale", "lr_scale"):
            assert plain["method"][name].pop(own) is None
    config = load_plain(complete_configuration(plain))
    assert epochs(config) == "1 main + 20 finetuning"
    options = method_options(config.method)
    assert options["main"] == plain["method"]["main"], "checkpoints are compared with it"
    assert differences(numeric_settings(plain), numeric_settings(to_plain(config))) == []
    assert set(numeric_settings(to_plain(config))) == set(numeric_settings(plain)), "compare puts them into one group"


def test_another_scale_of_a_phase_is_another_run() -> None:
    one, other = (numeric_settings(to_plain(filled(*typed))) for typed in ((), ("method.main.epochs=500",)))
    assert differences(one, other) == [
        "method.main.epochs_scale=None (not 1.0)",
        "method.main.warmup_epochs=5.0 (not 0.4)",
    ]
    assert "method.main.epochs_scale=1.0 (not None)" in differences(other, one)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    (tmp_path / "pets").mkdir()
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("before", "typed", "expected", "own"),
    [
        ([], [], "40 main + 20 finetuning", None),
        ([], ["method.main.epochs=5"], "5 main + 20 finetuning", 1.0),
        (["epochs_scale=0.2"], ["method.main.epochs=5"], "1 main + 20 finetuning", None),
        ([], ["method.main.epochs=5", "epochs_scale=0.5"], "3 main + 20 finetuning", None),
        (["method.main.epochs=9"], [], "9 main + 20 finetuning", 1.0),
        (["method.main.epochs=9"], ["method.main.epochs=5"], "5 main + 20 finetuning", 1.0),
        (["method.main.epochs=9"], ["epochs_scale=0.5"], "5 main + 20 finetuning", None),
    ],
)
def test_beside_learn_as_well(before: list[str], typed: list[str], expected: str, own: Any, pets: Path) -> None:
    (pets.parent / "run").mkdir()
    (pets.parent / "run" / "config.yaml").write_text(yaml.safe_dump(to_plain(filled(*before))))
    config = load_learn(pets.parent / "run", [f"data.new={pets}", *typed])
    assert (epochs(config), config.method.main.epochs_scale) == (expected, own)
