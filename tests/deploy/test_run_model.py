"""A run's folder is enough to use what it has learnt: no data, no teacher, no memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cl_lightning.checkpoint.files import load_checkpoint, save_whole
from cl_lightning.checkpoint.state import Cursor, RunState
from cl_lightning.config.compose import compose_typed
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Readout
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.deploy.run_model import open_run, position_in_run
from cl_lightning.factory.data import build_memory
from cl_lightning.factory.methods import build_method
from cl_lightning.run.run_dir import RunDirectory
from tests.deploy.conftest import Run
from tests.deploy.runs import CNN, NAMES, live_scores, pictures, write_run


def test_scores_are_those_of_the_runs_method(dytox: Run, icarl: Run, der: Run) -> None:
    images = pictures(9)
    for run in (dytox, icarl, der):
        for readout in run.model.readouts:
            assert torch.equal(run.model.scores(images, readout), live_scores(run.method, images, readout))


def test_names_and_tasks_are_those_learnt(dytox: Run) -> None:
    model = dytox.model
    assert model.class_names == NAMES[:4]
    assert model.task_sizes == (2, 2)
    assert model.stage == "unfinished: used as it was after task 2 of 5, 4 of 10 classes"
    assert [model.task_of(label) for label in range(4)] == [1, 1, 2, 2]
    assert [list(model.classes_of(task)) for task in (None, 1, 2)] == [[0, 1, 2, 3], [0, 1], [2, 3]]


def test_where_a_checkpoint_was_written_is_reported() -> None:
    assert position_in_run(3, 3, [4, 3, 3]) == "all 3 tasks, 10 classes"
    assert position_in_run(1, 1, [5]) == "its only task, 5 classes"
    assert position_in_run(1, 1, [4, 3, 3]) == "unfinished: used as it was after task 1 of 3, 4 of 10 classes"
    assert position_in_run(1, 2, [4, 3, 3]) == "interrupted within task 2 of 3, 7 of 10 classes"


def test_probabilities_are_those_that_the_run_was_trained_for(dytox: Run, icarl: Run, der: Run) -> None:
    assert dict(dytox.model.readouts) == {"linear": Readout("sigmoid")}
    assert dict(der.model.readouts) == {"linear": Readout("softmax", temperature=5.0)}
    nme, linear = icarl.model.readouts.values()
    assert (nme.probability, linear.probability) == ("softmax", "sigmoid")
    assert nme.means is not None
    assert nme.means.shape == (4, 64)


@pytest.mark.slow
def test_before_its_second_stage_der_has_no_temperature(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "method=der", *CNN, finished=1)
    assert open_run(tmp_path / "run").readouts["linear"] == Readout("softmax")


@pytest.mark.slow
def test_dytox_under_a_recipe_that_classifies_by_softmax_has_softmax(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "method=dytox_plus", "recipe=paper_2022_03", "model=convit_tiny", finished=1)
    assert open_run(tmp_path / "run").readouts == {"linear": Readout("softmax")}


def test_probabilities_of_scores_worked_out_by_hand() -> None:
    scores = torch.tensor([[0.0, 1.0986123]])  # log 3
    assert Readout("softmax").probabilities(scores).tolist() == [pytest.approx([0.25, 0.75])]
    assert Readout("sigmoid").probabilities(scores).tolist() == [pytest.approx([0.5, 0.75])]
    assert Readout("softmax", temperature=0.5).probabilities(scores).tolist() == [pytest.approx([0.1, 0.9])]


@pytest.mark.slow
def test_a_place_within_a_task_is_used_where_it_is_named(tmp_path: Path) -> None:
    method = write_run(tmp_path / "run", "method=icarl", *CNN, finished=1, within=True)
    assert open_run(tmp_path / "run").class_names == NAMES[:2], "by default, the newest finished task"
    model = open_run(tmp_path / "run", Path("task_001_item_01.pt"))
    assert model.stage == "interrupted within task 2 of 5, 4 of 10 classes"
    images = pictures(3)
    assert torch.equal(model.scores(images, "linear"), live_scores(method, images, "linear"))
    with pytest.raises(UserError, match="--readout nme has the means of 2 of 4 classes.*type --readout linear"):
        model.readout(None)


@pytest.mark.slow
def test_a_run_without_a_finished_task_says_what_there_is(tmp_path: Path) -> None:
    write_run(tmp_path / "run", *CNN, "method=wa", finished=0, within=True)
    with pytest.raises(UserError, match=r"has not finished a task yet.*--checkpoint task_000_item_01\.pt"):
        open_run(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "task_000_item_01.pt").unlink()
    with pytest.raises(UserError, match="has no checkpoint: type resume="):
        open_run(tmp_path / "run")


def test_a_diverged_model_is_not_asked(dytox: Run) -> None:
    run_model = open_run(dytox.folder)
    with torch.no_grad():
        next(run_model.network.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="not finite: it had diverged"):
        run_model.scores(pictures(1), "linear")


def changed(run: Run, folder: Path, **values: object) -> Path:
    """A copy of the run, with other values in its checkpoint."""
    source = run.folder / "checkpoints" / "task_001.pt"
    save_whole(folder / "checkpoints" / "task_001.pt", {**load_checkpoint(source), **values})
    (folder / "config.yaml").write_text((run.folder / "config.yaml").read_text())
    return folder


@pytest.mark.slow
def test_checkpoints_that_cannot_be_used_are_reported_in_one_line(dytox: Run, icarl: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has format 2, this program reads format 3"):
        open_run(changed(dytox, tmp_path / "old", version=2))
    run_dir = changed(dytox, tmp_path / "torn")
    file = run_dir / "checkpoints" / "task_001.pt"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match="cannot be used"):
        open_run(run_dir)
    with pytest.raises(UserError, match="is of a run with method=icarl, .* is one with method=dytox"):
        open_run(dytox.folder, icarl.folder / "checkpoints" / "task_001.pt")
    with pytest.raises(UserError, match=r"--checkpoint nine\.pt does not exist: type --checkpoint task_001\.pt"):
        open_run(dytox.folder, Path("nine.pt"))


def test_a_folder_that_is_no_run_says_what_one_is(dytox: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder: type the folder of a run"):
        open_run(tmp_path / "missing")
    with pytest.raises(UserError, match=r"it has no config\.yaml: type the folder of a run"):
        open_run(tmp_path)
    with pytest.raises(UserError, match=r"but 1 of the folders in it are: type .*run, for example"):
        open_run(dytox.folder.parent)
    for text in ("method: [", "seed: 1", "- 1"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml cannot be read by this version"):
            open_run(tmp_path)


def test_questions_that_the_model_cannot_answer(dytox: Run) -> None:
    model = dytox.model
    with pytest.raises(UserError, match="--task 3 is not among the 2 tasks .*: type --task 1 to 2"):
        model.classes_of(3)
    with pytest.raises(UserError, match="--readout nme does not exist: .* has linear, type --readout linear"):
        model.readout("nme")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("method=wa", "model=timm_backbone", "model.name=test_resnet"),
        ("method=wa", "model=timm_backbone", "model.name=test_resnet", "model.frozen=true"),
        ("method=classifier_only", "model=timm", "model.name=test_vit", "model.patch_size=4"),
    ],
)
def test_a_run_from_pretrained_weights_is_used_without_them(overrides: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is downloaded: what the run has learnt is in its checkpoint."""
    config = compose_typed([f"run_dir={tmp_path}/run", *overrides, "model.pretrained=true"])
    scenario = without_images("digits", NAMES, [2] * 5, 8, 1)
    method = build_method(config, scenario, Key(0))
    writer = RunDirectory(config, scenario, method, tmp_path / "run")
    (tmp_path / "run").mkdir()
    writer.start()
    method.network.grow(2, Key(1))
    state = RunState(build_memory(config), cursor=Cursor(items=1))
    writer.save_checkpoint(state)
    weights = open_run(tmp_path / "run", tmp_path / "run/checkpoints/task_000_item_01.pt").network.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in method.network.state_dict().items())
