"""The folder of a run as it is entered: by one writer, never through links, and for the very run that is there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cl_lightning.config.saved import to_plain
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError
from cl_lightning.run.enter_run_dir import elsewhere, enter_run_dir
from tests.config.made import filled


def config(run_dir: Path, *overrides: str) -> Config:
    return filled("data.root=/data", *overrides, f"run_dir={run_dir}")


def begun(run_dir: Path, *overrides: str) -> Path:
    """A run that is there already."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(to_plain(config(run_dir, *overrides))))
    return run_dir


def entered(given: Config, *, resume: bool = False) -> bool:
    """Whether a run that is there is gone on with."""
    with enter_run_dir(given, resume=resume) as (goes_on, _):
        return goes_on


def test_a_new_folder_is_made_and_a_new_run_begun(tmp_path: Path) -> None:
    seen: list[Path] = []
    with enter_run_dir(config(tmp_path / "a" / "run"), resume=False, began=seen.append) as (goes_on, lock):
        assert not goes_on
        assert os.fstat(lock)
        assert seen == [tmp_path / "a" / "run"]
        assert seen[0].is_dir()
    assert not (tmp_path / "a" / "run").exists(), "no empty folder is left behind"


def test_it_is_resolved_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    seen: list[Path] = []
    with enter_run_dir(config(tmp_path / "link"), resume=False, began=seen.append):
        pass
    assert seen == [tmp_path / "real"]


def test_there_is_one_writer_at_a_time(tmp_path: Path) -> None:
    given = config(tmp_path / "run")
    with enter_run_dir(given, resume=False), pytest.raises(UserError), enter_run_dir(given, resume=False):
        pytest.fail("two writers")
    assert not entered(given)


@pytest.mark.parametrize("name", ["checkpoints", "exemplars", "report", "wandb", "tensorboard", ".hydra"])
def test_nothing_is_written_through_a_link(name: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path)
    with pytest.raises(UserError, match="type run_dir=DIR, a folder that can be written to"):
        entered(config(tmp_path / "run"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"run is a file: type run_dir=DIR with another name"):
        entered(config(tmp_path / "run"))


# ---- a run that is there -----------------------------------------------------------------------------------------


def test_the_same_run_is_gone_on_with_where_that_is_asked_for(tmp_path: Path) -> None:
    run_dir = begun(tmp_path / "run")
    assert entered(config(run_dir), resume=True)
    assert entered(config(run_dir, "if_exists=resume"))
    assert not entered(config(run_dir)), "what becomes of it then is decided elsewhere"
    assert not entered(config(tmp_path / "new", "if_exists=resume"))


def test_what_changes_no_number_makes_no_other_run(tmp_path: Path) -> None:
    run_dir = begun(tmp_path / "run")
    again = config(run_dir, "if_exists=resume", "trainer.progress=none", "verbose=2", "logger=none")
    assert entered(again)


def test_another_run_is_refused_with_what_is_other(tmp_path: Path) -> None:
    run_dir = begun(tmp_path / "run", "seed=3")
    with pytest.raises(UserError) as refused:
        entered(config(run_dir, "if_exists=resume", "memory.size=7"))
    told = str(refused.value)
    assert told.startswith(f"run_dir={run_dir} holds another run, with ")
    assert "seed=3 (not 0)" in told
    assert told.endswith(": type another run_dir")


def test_a_relative_path_of_then_is_the_absolute_one_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = begun(tmp_path / "run")
    saved = yaml.safe_load((run_dir / "config.yaml").read_text())
    saved["data"]["root"] = "here"
    (run_dir / "config.yaml").write_text(yaml.safe_dump(saved))
    given = config(run_dir, "if_exists=resume")
    assert entered(replace(given, data=replace(given.data, root=str(tmp_path / "here"))))


def test_what_to_type_where_nobody_may_write(tmp_path: Path) -> None:
    assert elsewhere(tmp_path, resume=False) == "type run_dir=DIR, a folder that can be written to"
    assert elsewhere(tmp_path, resume=True).startswith("make it writable, or type resume=COPY")
