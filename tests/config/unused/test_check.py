"""Lines on options that nobody reads: in a command, in a multirun, beside a run that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from cl_lightning.config.add_task import load_learn
from cl_lightning.config.command_line.overrides import keys_set
from cl_lightning.config.saved import load_saved, to_plain
from cl_lightning.config.sweep import unused
from cl_lightning.config.unused.check import Unread, told
from cl_lightning.core.errors import UserError
from tests.config.made import compose, filled


def test_each_is_named_with_what_reads_it_in_one_line() -> None:
    typed = ["method.mixup={smoothing: 0.2}", "data.root=DIR", "memory=none", "memory.size=3", "logger.name=x"]
    line = told(compose(typed)[1])
    assert line.startswith(
        "method.mixup.smoothing (in method.mixup={smoothing: 0.2}) is read by nobody here: type method.mixup.alpha=0.8 "
        "as well, or leave it out; data.root=DIR is read by nobody here (the default data, digits, have no "
        "folder): type data=image_folder"
    )
    assert line.endswith("type memory=total or memory=per_class as well, or leave it out (and 1 more)")
    assert "\n" not in line


def test_what_a_file_sets_is_not_typed() -> None:
    """An experiment may set what only some of its methods read; its epochs are somebody's wish all the same."""
    assert {"method.sam.rho", "method.mixup.alpha", "experiment"} <= keys_set(["experiment=daformer_m_as_dytox"])
    assert "memory.size" in keys_set(["experiment=ablation_kd"]), "of the file that it starts from"
    assert keys_set(["debug=smoke", "hydra.run.dir=x"]) == {"debug", "epochs_scale", "balanced_epochs_scale"}


@pytest.fixture
def by_all(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of jobs that were composed."""
    count: list[int] = []

    def apart(overrides: list[str]) -> tuple[object, list[Unread]]:
        count.append(1)
        return compose([override for override in overrides if not override.startswith("sweep=")])

    monkeypatch.setattr(unused, "compose_one_of_many", apart)
    return count


@pytest.mark.parametrize(
    ("typed", "params", "expected", "composed"),
    [
        (["method=dytox,wa", "seed=0,1,2"], {}, None, 0),
        (["method=joint,wa", "memory.size=20", "seed=0,1,2"], {}, None, 2),
        (["method=joint,meat", "memory.size=20,30"], {}, "memory.size=20,30 is read by none of the jobs: type a", 4),
        (["method.mixup.smoothing=0.1"], {"method.mixup.alpha": "0,0.5"}, None, 2),
        (["method.mixup.smoothing=0.1"], {"seed": "0,1,2"}, "method.mixup.smoothing=0.1 is read by none", 1),
        (["method.mixup.alpha=interval(0,0.8)", "method.mixup.smoothing=0.1"], {}, None, 2),
        (["method.mixup.smoothing=interval(0.1,0.2)"], {}, "method.mixup.smoothing=interval(0.1,0.2) is read by", 2),
        (["hydra.sweep.dir=d", "sweep=seeds", "data.root=a,b"], {"seed": "0,1"}, "data.root=a,b is read by none", 2),
    ],
)  # fmt: skip
def test_in_a_multirun_one_job_that_reads_it_is_enough(
    typed: list[str], params: dict[str, str], expected: str | None, composed: int, by_all: list[int]
) -> None:
    hydra = OmegaConf.create({"overrides": {"task": typed}, "sweeper": {"params": params or None}})
    line = unused.unread_by_all(hydra)
    assert line == expected or (expected is not None and line is not None and line.startswith(expected))
    assert len(by_all) == composed, "jobs are composed until each option has its reader, and no further"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "pets").mkdir()
    (tmp_path / "run").mkdir()
    plain = to_plain(filled("memory=none"))
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(plain))
    return tmp_path / "run"


def test_beside_a_run_that_exists_too(run: Path) -> None:
    new = f"data.new={run.parent}/pets"
    for typed, only in (("data.root=there", "data=image_folder"), ("logger.mode=offline", "logger=wandb")):
        line = f"{typed} is read by nobody in this run, only with {only}"
        with pytest.raises(UserError, match=f"^{re.escape(line)}.*: leave it out$"):
            load_saved(run, [typed])
        with pytest.raises(UserError, match=f"^{re.escape(line)}"):
            load_learn(run, [new, typed])
    with pytest.raises(UserError, match=r"^method\.finetuning\.lr=1 is read by nobody in this run"):
        load_learn(run, [new, "method.finetuning.lr=1"])
    assert load_saved(run, ["logger=wandb", "logger.mode=offline"]).logger.mode == "offline"
    assert load_learn(run, [new, "data.test_share=0.3", "method.main.lr=1"]).method.main.lr == 1
