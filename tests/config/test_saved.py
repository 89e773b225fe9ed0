"""The configuration of a run that goes on: its own, with what changes no number."""

from __future__ import annotations

from pathlib import Path

import yaml

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.saved import load_saved, to_plain


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


def test_how_much_is_told_is_asked_for_anew(tmp_path: Path) -> None:
    config = compose_typed([f"run_dir={tmp_path}", "verbose=0"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_plain(config)))
    assert load_saved(tmp_path).verbose == 1
    assert load_saved(tmp_path, ["verbose=2"]).verbose == 2
