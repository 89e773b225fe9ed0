"""The search by Optuna: resumed with other trials, of the same configuration alone, and its one last line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from cl_lightning.core.errors import UserError

optuna = pytest.importorskip("optuna")

from cl_lightning.config.sweep.optuna_search import Search  # noqa: E402


class Doing(Sweeper):
    """A sweeper that does this."""

    def __init__(self, does: Callable[[], Any]) -> None:
        self.does = does

    def setup(self, **given: Any) -> None:
        """Nothing."""

    def sweep(self, arguments: list[str]) -> Any:
        return self.does()


def config(folder: Path, *typed: str, storage: str | None = None, study: str | None = "search", **own: Any) -> Any:
    """What Hydra composed: a few options, and its own node."""
    return OmegaConf.create(
        {
            "seed": 5,
            "lr_scale": 1.0,
            "memory": {"size": 50},
            **own,
            "hydra": {
                "overrides": {"task": list(typed)},
                "sweep": {"dir": str(folder)},
                "sweeper": {
                    "storage": storage, "study_name": study, "params": None,
                    "sampler": {"_target_": "optuna.samplers.TPESampler", "seed": None},
                },
            },
        }
    )  # fmt: skip


def made(config: DictConfig, does: Callable[[], Any] = lambda: None, values: dict[int, float] | None = None) -> Search:
    return Search(config, lambda: Doing(does), values or {})


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/search.db"


def add_trials(storage: str, count: int) -> None:
    study = optuna.load_study(study_name="search", storage=storage)
    for _ in range(count):
        study.add_trial(optuna.trial.create_trial(value=0.5))


# ---- the sampler's seed ------------------------------------------------------------------------------------------


def test_the_sampler_s_seed_is_the_run_s_and_the_trials_that_there_are(tmp_path: Path, storage: str) -> None:
    alone = config(tmp_path)
    made(alone)
    assert alone.hydra.sweeper.sampler.seed == 5
    first, second = config(tmp_path, storage=storage), config(tmp_path, storage=storage)
    made(first)
    add_trials(storage, 3)
    made(second)
    assert (first.hydra.sweeper.sampler.seed, second.hydra.sweeper.sampler.seed) == (5, 8)


def test_a_seed_that_was_typed_stays_and_a_sampler_without_one_gets_none(tmp_path: Path) -> None:
    typed, none = config(tmp_path), config(tmp_path)
    typed.hydra.sweeper.sampler.seed = 77
    del none.hydra.sweeper.sampler["seed"]
    for each in (typed, none):
        made(each)
    assert typed.hydra.sweeper.sampler.seed == 77
    assert "seed" not in none.hydra.sweeper.sampler


# ---- a search that is gone on with -------------------------------------------------------------------------------


def test_what_is_searched_for_may_differ_and_nothing_else(tmp_path: Path, storage: str) -> None:
    search = "lr_scale=interval(1,4)"
    made(config(tmp_path, search, storage=storage))
    made(config(tmp_path, search, storage=storage, lr_scale=3.0))
    with pytest.raises(UserError) as refused:
        made(config(tmp_path, search, storage=storage, memory={"size": 20}))
    assert str(refused.value) == (
        f"hydra.sweeper.study_name=search in {storage} is a search with memory.size=50 (not 20): "
        "type another hydra.sweeper.study_name"
    )


def test_a_search_in_a_storage_needs_a_name(tmp_path: Path, storage: str) -> None:
    with pytest.raises(UserError, match=r"needs a name: type hydra.sweeper.study_name=NAME"):
        made(config(tmp_path, storage=storage, study=None))


def test_a_storage_that_is_not_possible_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^hydra.sweeper.storage=nothing://x is not possible: "):
        made(config(tmp_path, storage="nothing://x"))


# ---- its end -----------------------------------------------------------------------------------------------------


def write_best(folder: Path, value: float) -> None:
    (folder / "optimization_results.yaml").write_text(f"best_value: {value}\nbest_params: {{memory.size: 20, b: x}}\n")


def test_the_best_trial_is_told_with_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_best(tmp_path, 0.8125)
    made(config(tmp_path), values={0: 0.5, 3: 0.8125}).sweep([])
    assert capsys.readouterr().out.splitlines()[0] == (
        f"best: 81.25 % average incremental accuracy on validation images, with memory.size=20 b=x ({tmp_path}/3)"
    )
    made(config(tmp_path), values={0: 0.5}).sweep([])
    assert "(an earlier part of the search)" in capsys.readouterr().out


def noted() -> ValueError:
    error = ValueError("a job's own")
    error.add_note("in job 1 of the multirun")
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("No trials are completed yet."), "no trial of the search went well: see what each said"),
        (ValueError("wrong\nmore"), "the search cannot go on: wrong"),
        (optuna.exceptions.StorageInternalError("locked"), "the search cannot go on: locked"),
    ],
    ids=["all failed", "value", "storage"],
)
def test_what_ends_a_search_is_one_line(error: Exception, line: str, tmp_path: Path) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(UserError) as told:
        made(config(tmp_path), fail).sweep([])
    assert str(told.value) == line


@pytest.mark.parametrize("error", [noted(), RuntimeError("a bug")], ids=["of a job", "a bug"])
def test_errors_of_jobs_and_bugs_pass(error: Exception, tmp_path: Path) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        made(config(tmp_path), fail).sweep([])
    assert raised.value is error
