"""A job of submitit leaves its run first, and is started again then; nothing is held back elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cl_lightning.distributed.signals import deferred_signals
from cl_lightning.distributed.slurm_requeue import requeued_when_left


class Submitit:
    """What submitit does at its signal."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def requeue(self, signum: int, frame: object) -> None:
        self.calls.append("requeue")
        raise SystemExit(-1)

    def bypass(self, signum: int, frame: object) -> None:
        self.calls.append("bypass")


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Submitit]:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    job = Submitit()
    before = [(number, signal.getsignal(number)) for number in (signal.SIGUSR2, signal.SIGTERM)]
    signal.signal(signal.SIGUSR2, job.requeue)
    signal.signal(signal.SIGTERM, job.bypass)
    yield job
    for number, handler in before:
        signal.signal(number, handler)


class Left(BaseException):
    """How a run ends that was asked to."""


def test_a_run_is_left_before_the_job_is_started_again(submitit: Submitit) -> None:
    steps = 0
    with pytest.raises(SystemExit), requeued_when_left():  # noqa: PT012 (what is asked for happens inside)
        with deferred_signals() as stop:
            for steps in range(1, 10):
                if steps == 3:
                    signal.raise_signal(signal.SIGUSR2)
                    assert submitit.calls == [], "not in the middle of a step"
                if stop:
                    break
        assert submitit.calls == []
        raise Left
    assert (steps, submitit.calls) == (3, ["requeue"])
    assert signal.getsignal(signal.SIGUSR2) == submitit.requeue


def test_a_run_that_ends_by_itself_is_not_started_again(submitit: Submitit) -> None:
    with requeued_when_left(), deferred_signals() as stop:
        signal.raise_signal(signal.SIGUSR2)
        assert stop.by == signal.SIGTERM
    assert submitit.calls == []


def test_before_the_run_begins_nothing_is_held_back(submitit: Submitit) -> None:
    with pytest.raises(SystemExit), requeued_when_left():
        signal.raise_signal(signal.SIGUSR2)
    assert submitit.calls == ["requeue"], "once"


def test_sigterm_alone_does_not_start_the_job_again(submitit: Submitit) -> None:
    with pytest.raises(Left), requeued_when_left():  # noqa: PT012
        with deferred_signals() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop
        raise Left
    assert submitit.calls == []


def test_elsewhere_the_signal_stays_as_it_was(submitit: Submitit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    with requeued_when_left():
        assert signal.getsignal(signal.SIGUSR2) == submitit.requeue
