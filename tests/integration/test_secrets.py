"""A run that somebody sent asks for the user's environment: no command fills that in, or writes it anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.compare.__main__ import main as compare
from cl_lightning.export import main as export
from cl_lightning.predict import main as predict
from cl_lightning.report.__main__ import main as report
from tests.integration.commands import typed, write_digits

SECRET, ASKED = "hunter2", "${oc.env:PASSWORD}"


def holding_secret(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_no_command_fills_in_what_a_foreign_run_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    small = ["method=icarl", "model=resnet8", "data.classes=4", "data.increment=2", "epochs_scale=0.004"]
    assert typed(*small, "memory.size=20", "report.page=false", "trainer.progress=none", f"run_dir={run_dir}") == 0
    monkeypatch.setenv("PASSWORD", SECRET)
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["logger"] |= dict.fromkeys(("name", "group", "project", "entity"), ASKED)
    config["data"]["root"] = f"/{ASKED}"
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    pictures = write_digits(tmp_path / "pictures")
    for folder in pictures.iterdir():
        folder.rename(pictures / f"new{folder.name}")
    assert typed(f"resume={run_dir}") == 0
    assert bundle(["export", str(run_dir), f"{tmp_path}/b"]) == 0
    assert bundle(["import", f"{tmp_path}/b", f"{tmp_path}/imported"]) == 0
    assert typed(f"learn={tmp_path}/imported", f"data.new={pictures}", f"run_dir={tmp_path}/more") == 0
    assert predict([str(run_dir), str(pictures)]) == 0
    assert export([str(run_dir), "--out", f"{tmp_path}/out", "--formats", "safetensors"]) == 0
    assert report([str(run_dir)]) in (0, None)
    assert compare([str(run_dir), f"{tmp_path}/more", "--across", "data"]) in (0, 2)
    told = capfd.readouterr()
    assert SECRET not in told.out + told.err
    assert holding_secret(tmp_path) == []
    for name in ("run", "imported", "more"):
        assert yaml.safe_load((tmp_path / name / "config.yaml").read_text())["logger"]["group"] == ASKED
