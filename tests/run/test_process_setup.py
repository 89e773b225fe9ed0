"""What a job does to its process before it learns."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from cl_lightning.config.compose import compose_typed
from cl_lightning.models import kernels
from cl_lightning.run import process_setup
from cl_lightning.run.process_setup import job_environment


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
