"""The first signal is a wish, the second Ctrl-C an order; whoever only helps leaves after a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from cl_lightning.core.exit_codes import STOPPED
from cl_lightning.distributed.signals import deferred_interrupt, deferred_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with deferred_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.by is number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_ends_what_is_being_done() -> None:
    with deferred_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler that repeats itself changes nothing
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_outside_of_the_main_thread_nothing_is_touched() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with deferred_signals() as stop:
            seen.append((bool(stop), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_who_only_helps_is_gone_after_a_while() -> None:
    code = "import os, signal, time\nfrom cl_lightning.distributed.signals import deferred_signals\n"
    code += "with deferred_signals(0.2):\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], timeout=50, check=False).returncode == STOPPED


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """Python's own handler, also where the tests were started in the background, which makes shells ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_an_import_is_not_interrupted_in_the_middle() -> None:
    done = []

    def imported() -> None:
        with deferred_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the rest of it")

    with pytest.raises(KeyboardInterrupt):
        imported()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_is_reported_where_nothing_came() -> None:
    with deferred_interrupt():
        pass
