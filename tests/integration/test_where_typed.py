"""A path means what it meant where it was typed, wherever the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.integration.commands import typed, write_digits

SMALL = ["data=image_folder", "data.increment=2", "data.image_size=8", "model=convit_tiny", "model.patch_size=4"]
SMALL += ["debug=smoke", "memory.size=4", "data.flip=false", "data.test_share=0.4", "trainer.progress=none", "-q"]
ODD = "pics, (ü) [1] a=b"


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a run on ``ODD`` began, and was left after its first task."""
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / ODD)
    options = ["trainer.stop_after_task=0", "hydra.job.chdir=true", "hydra.run.dir=aside"]
    options += ["logger=wandb", "logger.mode=disabled", "logger.name=März, 1"]
    assert typed(*SMALL, *options, f"data.root={ODD}", "run_dir=run") == 0
    return tmp_path


def saved(run: Path) -> dict[str, dict[str, str]]:
    return dict(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")))


def test_a_root_is_that_of_the_folder_in_which_it_was_typed(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere there are other files under the same names, none of them a picture. A job that works in a folder of its
    own reads the same ones.
    """
    assert saved(begun / "run")["data"]["root"] == str(begun / ODD)
    assert saved(begun / "run")["logger"]["name"] == "März, 1"
    other = begun / "elsewhere"
    for file in list((begun / ODD).rglob("*.png")):
        (other / file.relative_to(begun)).parent.mkdir(parents=True, exist_ok=True)
        (other / file.relative_to(begun)).write_bytes(b"no picture")
    monkeypatch.chdir(other)
    assert typed("resume=../run", "verbose=0") == 0, capfd.readouterr().err
    assert saved(begun / "run")["data"]["root"] == str(begun / ODD)
    assert (begun / "run" / "checkpoints" / "task_001.pt").is_file()

    (begun / "moved, 2").symlink_to(begun / ODD)
    assert typed("resume=../run", "verbose=0", "data.root=../moved, 2") == 0, capfd.readouterr().err
    assert saved(begun / "run")["data"]["root"] == str(begun / "moved, 2")

    was = saved(begun / "run")
    relative = yaml.safe_dump(was | {"data": was["data"] | {"root": ODD}})
    (begun / "run" / "config.yaml").write_text(relative, encoding="utf-8")
    capfd.readouterr()
    monkeypatch.chdir(begun)
    assert typed("resume=run", "verbose=0") == 0
    told = capfd.readouterr().err.splitlines()
    assert [line for line in told if "relative" in line] == [
        f"warning: data.root={ODD} is relative in config.yaml of this run: {begun / ODD} is read, type "
        "data.root=DIR if its images are elsewhere"
    ], "the rule of runs that were made before paths were resolved"
    assert saved(begun / "run")["data"]["root"] == str(begun / ODD), "from now on it is"
