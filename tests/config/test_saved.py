"""The configuration of a run that goes on: its own, with what changes no number."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import load_learnt, load_saved, old_paths, to_plain
from cl_lightning.config.schema import Config
from cl_lightning.core import missing_keys
from cl_lightning.core.errors import UserError


def test_a_group_beside_resume_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    """``trainer=gpu`` says where, and must not take away the loaders that the run was given."""
    config = compose_typed(
        [f"run_dir={tmp_path}", "trainer.workers=8", "logger=wandb", "logger.project=mine", "trainer.devices=1"]
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_plain(config)))
    for overrides in (["trainer=cpu", "trainer.log_every=7"], ["trainer.log_every=7", "trainer=cpu"]):
        resumed = load_saved(tmp_path, [*overrides, "logger=none"])
        assert resumed.trainer.accelerator == "cpu"
        assert (resumed.trainer.workers, resumed.trainer.log_every) == (8, 7)
        assert (resumed.logger.csv, resumed.logger.project) == (False, "mine")


def test_phases_may_be_evaluated_from_now_on_also_of_a_run_that_did_not_know_of_it(tmp_path: Path) -> None:
    plain = to_plain(compose_typed([f"run_dir={tmp_path}"]))
    for saved, kept in ((plain, False), (plain | {"evaluate_phases": True}, True)):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
        assert load_saved(tmp_path).evaluate_phases is kept
        assert load_saved(tmp_path, ["evaluate_phases=true"]).evaluate_phases is True
        assert load_saved(tmp_path, ["evaluate_phases=false"]).evaluate_phases is False
    del plain["evaluate_phases"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert load_saved(tmp_path).evaluate_phases is False


def test_texts_beside_resume_are_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML would read ``a: b`` as a mapping, ``1_0`` as ten and ``${x}`` as an interpolation."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "${x}").mkdir()
    config = compose_typed(
        ["run_dir=run", "data=image_folder", "data.increment=1", "data.root=${x}", "logger=wandb", "logger.group=a${"]
    )
    Path("run").mkdir()
    Path("run", "config.yaml").write_text(yaml.safe_dump(to_plain(config)))
    assert load_saved(Path("run")) == config
    assert config.data.root == str(tmp_path / "${x}")
    resumed = load_saved(Path("run"), ["logger.name=a: b", "logger.group=1_0", "data.root=b, c", "logger.entity=null"])
    assert (resumed.logger.name, resumed.logger.group, resumed.logger.entity) == ("a: b", "1_0", None)
    assert resumed.data.root == str(tmp_path / "b, c")


def test_a_root_of_several_sets_beside_resume_is_resolved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sets = "[{name: digits}, {name: image_folder, root: a}, {name: image_folder, root: '~/b'}]"
    config = compose_typed(["run_dir=run", "data=sequence", f"data.sets={sets}"])
    assert [entry.root for entry in config.data.sets] == [None, str(tmp_path / "a"), str(Path.home() / "b")]
    Path("run").mkdir()
    plain = to_plain(config)
    Path("run", "config.yaml").write_text(yaml.safe_dump(plain))
    assert load_saved(Path("run"), ["data.sets.1.root=ü, 2"]).data.sets[1].root == str(tmp_path / "ü, 2")

    plain["data"]["sets"][1]["root"] = "a"  # as it was saved before
    (line,) = old_paths(plain, [])
    told = f"data.sets.1.root=a is relative in config.yaml of this run: {tmp_path / 'a'} is read"
    assert line == f"{told}, type data.sets.1.root=DIR if its images are elsewhere"
    assert old_paths(plain, ["data.sets.1.root=/b"]) == []
    digits = {"run_dir": "run", "data": {"name": "digits", "root": "data"}, "method": {"backbone_file": "w.pth"}}
    assert old_paths(digits, []) == [
        f"method.backbone_file=w.pth is relative in config.yaml of this run: {tmp_path / 'w.pth'} is read"
    ], "and no root, which nobody reads"
    Path("run", "checkpoints").mkdir()
    Path("run", "checkpoints", "task_000.pt").touch()
    assert old_paths(digits, []) == [], "what was in the file is in the checkpoint"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], "there is no such folder: type resume=RUN_DIR, the folder of a run"),
        ([".hydra/config.yaml", "run.log"], "it ended before it had begun to learn: mend what RUN/run.log says"),
        ([".hydra/config.yaml"], "it has no config.yaml: type resume=RUN_DIR, the folder of a run"),
        ([".hydra/config.yaml", "0/config.yaml", "1/config.yaml"], "but 2 of the folders in it are: type resume=RUN/0"),
    ],
)
def test_a_folder_that_is_no_run_says_what_it_is(files: list[str], told: str, tmp_path: Path) -> None:
    """Hydra's own folder has a config.yaml too, and is hidden."""
    for name in files:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    run = tmp_path / "run"
    with pytest.raises(UserError, match=re.escape(f"resume={run} is no run, {told.replace('RUN/', f'{run}/')}")):
        load_saved(run)
    with pytest.raises(
        UserError,
        match=re.escape(told.replace("RUN/", f"{run}/").replace("resume=RUN_DIR, ", "").replace("resume=", "")),
    ):
        load_learnt(run)


def test_a_folder_of_hydra_alone_tells_where_the_run_is(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text('- seed=1\n- run_dir="a, b"\n')
    with pytest.raises(UserError, match=r"it has only what was typed, and run_dir=a, b was: type resume=a, b$"):
        load_saved(tmp_path)


def test_verbosity_is_asked_for_anew(tmp_path: Path) -> None:
    config = compose_typed([f"run_dir={tmp_path}", "verbose=0"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_plain(config)))
    assert load_saved(tmp_path).verbose == 1
    assert load_saved(tmp_path, ["verbose=2"]).verbose == 2


@pytest.mark.parametrize("load", [load_saved, load_learnt])
def test_a_run_from_before_there_were_labels_has_the_one_of_its_method(
    load: Callable[[Path], Config], tmp_path: Path
) -> None:
    plain = to_plain(compose_typed([f"run_dir={tmp_path}", "method=icarl", "model=convit_tiny"]))
    del plain["method"]["origin"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert load(tmp_path).method.origin == "published recipe"
    plain["method"]["origin"] = "reference"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert load(tmp_path).method.origin == "reference", "what the file says stands"


def test_so_has_one_of_a_method_that_this_package_never_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = to_plain(compose_typed([f"run_dir={tmp_path}", "method=icarl"]))
    del plain["method"]["origin"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    monkeypatch.setattr(missing_keys, "CONFIGURATION", ())
    assert load_saved(tmp_path).method.origin == "published recipe"
