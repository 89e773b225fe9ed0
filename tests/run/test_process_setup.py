"""What a job does to its process before it learns."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.schema import Config
from cl_lightning.distributed.signals import StoppedError
from cl_lightning.models import kernels
from cl_lightning.run import process_setup
from cl_lightning.run.process_setup import job_environment
from tests.config.made import filled


@pytest.mark.parametrize(("precision", "on_gpu", "tried"), [
    ("bf16-mixed", True, 1), ("32-true", True, 0), ("bf16-mixed", False, 0),
])  # fmt: skip
def test_kernels_are_tried_where_they_would_serve(
    precision: str, on_gpu: bool, tried: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(kernels, "smoke_test", lambda: calls.append(1))
    config = compose_typed([f"run_dir={tmp_path}", f"trainer.precision={precision}", "trainer.keep_memory=false"])
    with job_environment(config, tmp_path, is_main=False, on_gpu=on_gpu):
        assert len(calls) == tried


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_without_room_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still to be written when it is closed has nowhere to go; the run has ended with a line of its own."""
    monkeypatch.setattr(process_setup, "open_to_append", lambda _: os.open("/dev/full", os.O_WRONLY))
    config = compose_typed([f"run_dir={tmp_path}", "trainer.keep_memory=false"])
    with job_environment(config, tmp_path, is_main=True, on_gpu=False):
        logging.getLogger("cl_lightning").info("said")


def settled(tmp_path: Path, *overrides: str) -> Config:
    return filled(f"run_dir={tmp_path}", "trainer.keep_memory=false", *overrides)


def test_what_a_job_changes_is_taken_back(tmp_path: Path) -> None:
    root, package = logging.getLogger(), logging.getLogger("cl_lightning")
    before = root.level, package.level, torch.get_num_threads(), list(root.handlers), list(package.handlers)
    with job_environment(settled(tmp_path, "trainer.threads=3", "verbose=2"), tmp_path, is_main=True, on_gpu=False):
        os.environ["CL_LIGHTNING_OF_THE_JOB"] = "1"
        assert torch.get_num_threads() == 3
        assert package.level == logging.DEBUG
    assert "CL_LIGHTNING_OF_THE_JOB" not in os.environ
    assert (root.level, package.level, torch.get_num_threads(), root.handlers, package.handlers) == before


@pytest.mark.parametrize(
    ("verbose", "writes", "console"),
    [
        (1, True, ["warning: careful", "error: broken"]),
        (0, True, ["warning: careful", "error: broken"]),
        (2, True, ["debug: detail", "info: news", "warning: careful", "error: broken"]),
        (1, False, ["error: broken"]),
    ],
)
def test_how_much_is_told_where(
    verbose: int, writes: bool, console: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("cl_lightning.test")
    with job_environment(settled(tmp_path, f"verbose={verbose}"), tmp_path, is_main=writes, on_gpu=False):
        log.debug("detail")
        log.info("news")
        log.info("said already", extra={"displayed": True})
        log.warning("careful")
        log.error("broken")
    assert capsys.readouterr().err.splitlines() == console
    file = tmp_path / "run.log"
    assert file.exists() == writes
    if writes:
        kept = [line.partition("cl_lightning.test: ")[2] for line in file.read_text().splitlines()]
        assert [line for line in kept if line != "detail"] == ["news", "said already", "careful", "broken"]


def test_a_bug_s_traceback_is_in_the_log_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), job_environment(settled(tmp_path), tmp_path, is_main=True, on_gpu=False):
        raise ZeroDivisionError("a bug")
    assert "Traceback" in (tmp_path / "run.log").read_text()
    assert capsys.readouterr().err == ""


def test_a_run_that_was_stopped_says_so_in_its_log(tmp_path: Path) -> None:
    with pytest.raises(StoppedError), job_environment(settled(tmp_path), tmp_path, is_main=True, on_gpu=False):
        raise StoppedError("stopped at task 1/2")
    text = (tmp_path / "run.log").read_text()
    assert "stopped at task 1/2" in text
    assert "Traceback" not in text
