"""What may be said beside ``learn=``, and what is told of the rest; nothing is written here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from cl_lightning.config.add_task import load_learn, moved
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import load_plain, to_plain
from cl_lightning.config.schema.added_task import ExtendsConfig, LearntFolderConfig
from cl_lightning.core.errors import UserError
from tests.integration.commands import a_few_and_the_rest
from tests.integration.commands import typed as typed_command


@pytest.fixture(scope="module")
def saved() -> str:
    config = compose_typed(["run_dir=elsewhere", "data.classes=4", "trainer.stop_after_task=1", "if_exists=resume"])
    return yaml.safe_dump(to_plain(config))


READING = ("evaluate_on", "test_share", "test_split", "files", "on_broken", "orientation")


@pytest.fixture
def run(saved: str, tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(saved)
    (tmp_path / "pets").mkdir()
    return tmp_path / "run"


def test_the_run_s_own_configuration_with_one_folder_more(run: Path) -> None:
    config = load_learn(run, [f"data.new={run.parent}/pets"])
    assert config.run_dir == str(run.parent / "run_plus_pets")
    read = {name: getattr(config.data, name) for name in READING}
    entry = LearntFolderConfig(name="pets", folder=str(run.parent / "pets"), **read, allow_similar=False, changed=[])
    assert config.extends == ExtendsConfig(run=str(run), folders=[entry])
    assert (config.data.classes, config.trainer.stop_after_task, config.if_exists) == (4, None, "refuse")
    assert sorted(path.name for path in run.parent.iterdir()) == ["pets", "run"]


@pytest.mark.slow
def test_it_is_read_back_and_extended_again(run: Path) -> None:
    first = load_learn(run, [f"data.new={run.parent}/pets"])
    (run / "config.yaml").write_text(yaml.safe_dump(to_plain(first)))
    assert load_plain(yaml.safe_load((run / "config.yaml").read_text())) == first
    again = load_learn(run, [f"data.new={run.parent}/pets", f"run_dir={run.parent}/again"])
    assert again.extends is not None
    assert first.extends is not None
    assert again.extends.folders == first.extends.folders * 2


def test_how_long_and_how_a_task_is_learnt_may_change_and_is_noted(run: Path) -> None:
    config = load_learn(
        run, [f"data.new={run.parent}/pets", "epochs_scale=2", "method.main.lr=0.1", "trainer.progress=none"]
    )
    assert (config.epochs_scale, config.method.main.lr, config.trainer.progress) == (2.0, 0.1, "none")
    assert config.extends is not None
    assert config.extends.folders[0].changed == [
        "epochs_scale=2.0 (not 0.08)", "method.main.lr=0.1 (not 0.0005)", "method.main.lr_scale=1.0 (not None)"
    ]  # fmt: skip


def test_the_balance_of_the_new_task_may_differ_and_is_noted(run: Path) -> None:
    config = load_learn(run, [f"data.new={run.parent}/pets", "data.balance=loss"])
    assert config.data.balance == "loss"
    assert config.extends is not None
    assert config.extends.folders[0].changed == ["data.balance=loss (not none)"]


@pytest.mark.slow
def test_how_the_folder_is_read_is_the_folder_s_alone(run: Path) -> None:
    config = load_learn(run, [f"data.new={run.parent}/pets", "data.test_share=0.5", "data.on_broken=skip"])
    assert config.extends is not None
    assert (config.extends.folders[0].test_share, config.extends.folders[0].on_broken) == (0.5, "skip")
    assert (config.data.test_share, config.data.on_broken) == (0.2, "error")


MISTAKES = {
    "epochs_scal=2": r"epochs_scal=2 is not possible beside learn= \(did you mean epochs_scale\?\)",
    "method.token_rat=2": r"method.token_rat=2 is not possible beside learn=: network .* type (?!.*token_rate)",
    "epochs=2": r"epochs=2 is not possible beside learn= \(did you mean method.main.epochs\?\)",
    "data.validation=0.1": "data.validation=0.1 is not possible beside learn=: network",
    "method=wa": "network and method are those of the run",
    "method.token_expansion=false": "network and method are those of the run",
    "epochs_scale=many": "epochs_scale=many is not possible .*could not be converted to Float",
    "epochs_scale=0": "epochs_scale=0.0 is out of range",
    "method.main.epoch=3": "method.main.epoch=3 is not possible .*not in 'PhaseConfig'",
    "data.test_share=1.5": "data.test_share=1.5 is not a share",
    "data.test_share=half": "data.test_share=half is not possible",
    "data.on_broken=ignore": "type data.on_broken=error or data.on_broken=skip",
    "data.new=": "needs new classes: type data.new=FOLDER",
    "data.new=nowhere": "data.new=nowhere does not exist",
}


@pytest.mark.parametrize("typed", a_few_and_the_rest(MISTAKES))
def test_what_is_not_possible_is_reported_in_one_line(run: Path, typed: str) -> None:
    with pytest.raises(UserError, match=MISTAKES[typed]) as error:
        load_learn(run, [f"data.new={run.parent}/pets", typed])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_place_that_is_taken_is_refused(run: Path) -> None:
    (run.parent / "taken").mkdir()
    assert load_learn(run, [f"data.new={run.parent}/pets", f"run_dir={run.parent}/taken"]), "it is empty"
    (run.parent / "taken" / "x").touch()
    for place, told in (
        (run.parent / "taken", "exists already: type another"),
        (run, "holds a run already: type resume="),
    ):
        with pytest.raises(UserError, match=told):
            load_learn(run, [f"data.new={run.parent}/pets", f"run_dir={place}"])


@pytest.mark.parametrize(
    ("text", "told"), [(None, "has no config.yaml"), ("seed: [", "damaged"), ("seed: 1", "damaged")]
)
def test_a_folder_that_is_no_run_is_refused(run: Path, text: str | None, told: str) -> None:
    (run / "config.yaml").unlink() if text is None else (run / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=f"^learn={run} .*{told}"):
        load_learn(run, [f"data.new={run.parent}/pets"])


def test_a_folder_that_was_moved_is_named_beside_resume(run: Path) -> None:
    config = load_learn(run, [f"data.new={run.parent}/pets"])
    (run.parent / "pets").rename(run.parent / "animals")
    there = moved(config, f"{run.parent}/animals").extends
    assert there is not None
    assert (there.folders[0].name, there.folders[0].folder) == ("pets", f"{run.parent}/animals")
    assert config.extends is not None
    assert config.extends.folders[0].folder == f"{run.parent}/pets", "a copy"
    with pytest.raises(UserError, match="does not exist"):
        moved(config, f"{run.parent}/pets")
    with pytest.raises(UserError, match="was not made by learn="):
        moved(dataclasses.replace(config, extends=None), f"{run.parent}/animals")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data.new=x"], "data.new= is what a finished run learns: type learn=RUN_DIR data.new=FOLDER"),
        (["extends.run=x"], "extends is written by learn=, not typed"),
        (["learn=", "data.new=x"], "learn= takes one folder"),
        (["learn=a", "learn=b"], "learn= takes one folder"),
        (["learn=a", "data.new=x", "-m"], "-m does not go with learn="),
        (["learn=a", "resume=b"], "resume= does not go with learn="),
    ],
)
def test_what_does_not_go_together_is_reported(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed_command(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}")
