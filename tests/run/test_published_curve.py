"""The published curve of a run's protocol: found before training, and by nobody during it."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.config import compose
from cl_lightning.config.compose import compose_typed
from cl_lightning.learning.engine import Engine
from cl_lightning.published.tables import Job, Table
from cl_lightning.report.data import read_report_data
from cl_lightning.run import job, published_curve, train
from tests.integration.commands import typed

ERRATUM = ["run_dir=unused", "method=dytox", "data=cifar100_10steps"]
ONE_TASK = ["method=finetune", "data=digits", "data.increment=10", "epochs_scale=0.001"]


@pytest.mark.parametrize(
    ("overrides", "first"),
    [
        (["data.order=3", "seed=7", "report.attention=true"], 91.9),
        (["epochs_scale=0.5"], None),
        (["data=digits"], None),
    ],
)
def test_a_published_curve_is_shown_beside_its_own_protocol_alone(overrides: list[str], first: float | None) -> None:
    found = published_curve.published_curve(compose_typed([*ERRATUM, *overrides]))
    assert (None if found is None else found.accuracy[0]) == first


def test_what_cannot_be_looked_for_keeps_nobody_from_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[str]:
        raise ValueError("a table is wrong")

    monkeypatch.setattr(published_curve, "table_names", broken)
    with caplog.at_level(logging.WARNING):
        assert published_curve.published_curve(compose_typed(ERRATUM)) is None
    assert "no published curve (a table is wrong)" in caplog.text


@pytest.mark.parametrize(
    ("page", "rank", "asked"),
    [
        pytest.param(True, None, True, id="one process"),
        pytest.param(True, 0, True, id="the first of two"),
        pytest.param(True, 1, False, id="the second of two"),
        pytest.param(False, None, False, id="no page"),
    ],
)
def test_only_who_writes_a_page_looks_for_it(
    monkeypatch: pytest.MonkeyPatch, page: bool, rank: int | None, asked: bool
) -> None:
    """The two are of two machines, each started by another program."""
    found: list[Any] = []
    for name, value in () if rank is None else (("RANK", rank), ("WORLD_SIZE", 2), ("LOCAL_RANK", 0)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(published_curve, "published_curve", found.append)
    monkeypatch.setattr(train, "execute", lambda *_, **__: 0.5)
    typed = ["run_dir=unused", "batch.replicas=2", f"report.page={page}"]
    assert job.attempt(lambda: compose_typed(typed)) == 0.5
    assert bool(found) == asked


@pytest.mark.slow
def test_nothing_composes_a_configuration_once_training_has_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tables are made to hold a curve of this very run's protocol, which the page then shows."""
    jobs, fit, composed = Table.jobs, Engine.fit, compose.typed_and_unread
    training: list[str] = []

    def as_this_run(table: Table, *_: Any) -> list[Job]:
        return [dataclasses.replace(job, overrides=tuple(ONE_TASK)) for job in jobs(table)]

    def begins(engine: Engine, *given: Any) -> Any:
        training.append("begun")
        return fit(engine, *given)

    def not_any_more(*given: Any) -> Any:
        assert not training, "a configuration is composed in a run"
        return composed(*given)

    monkeypatch.setattr(Table, "jobs", as_this_run)
    monkeypatch.setattr(Engine, "fit", begins)
    monkeypatch.setattr(compose, "typed_and_unread", not_any_more)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_dir = tmp_path / "run"
    shown = ["report.page=true", "logger=wandb", "logger.mode=offline", "trainer.progress=none"]
    assert typed(*ONE_TASK, *shown, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}") == 0
    assert training
    published = read_report_data(run_dir).published
    assert published is not None
    assert "published" in (run_dir / "report.html").read_text()
    assert json.loads((run_dir / "results.json").read_text())["protocol"]["method"] == "finetune"
