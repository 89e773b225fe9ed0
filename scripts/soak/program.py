"""The program as a user starts it, but forked from a process that has imported everything: it starts at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.kill_test import SITES, mine
from scripts.soak.attack import Fault

PATIENCE = 300.0
"""Seconds after which a process counts as hung."""


@dataclass(frozen=True)
class End:
    """The end of a process: its code and output."""

    code: int
    """Exit code; -N if signal N killed it."""
    said: str

    def refuse_traceback(self) -> End:
        """Raise ``Fault`` if the output has a traceback; else return the end."""
        if "Traceback (most recent call last)" in self.said:
            raise Fault("traceback", self.said[-4000:])
        return self

    @property
    def one_line(self) -> str:
        """Line of an error. Raises ``Fault`` if there is none, or more than one."""
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        if len(lines) != 1:
            raise Fault("traceback", f"exit code {self.code} with {len(lines)} lines of error: {self.said[-2000:]}")
        return lines[0]


@dataclass(frozen=True)
class Death:
    """The time or site at which a process is to die, and the signal."""

    after: float | None = None
    """Seconds after its start."""
    site: str | None = None
    """One of ``SITES``: a critical function."""
    call: int = 1
    """Number of the call of that function."""
    signal: signal.Signals = signal.SIGKILL

    @property
    def name(self) -> str:
        """Name in the list of trials."""
        return f"{self.signal.name}, {self.site or 'random instant'}"


class Started:
    """A process that runs ``python -m cl_lightning`` with ``arguments``."""

    def __init__(self, arguments: Sequence[str], folder: Path, death: Death | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._told = folder / f"said_{time.monotonic_ns()}.txt"
        self._death = death or Death()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(arguments, folder, self._told, self._death)
        self._started = time.monotonic()

    def wait(self) -> End:
        """Wait for it, and kill it when due. Raises ``Fault`` if it does not end."""
        due = self._death.after
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            seconds = time.monotonic() - self._started
            if pid:
                return End(os.waitstatus_to_exitcode(status), self._told.read_text("utf-8", "replace"))
            if due is not None and seconds >= due:
                os.kill(self.pid, self._death.signal)
                due = None
            if seconds > PATIENCE:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise Fault("hung", f"it did not end within {PATIENCE:.0f} s: {self._told.read_text()[-2000:]}")
            time.sleep(0.002)


def run(arguments: Sequence[str], folder: Path, death: Death | None = None) -> End:
    """Run the program in the working directory ``folder`` until it ends or dies."""
    return Started(arguments, folder, death).wait()


def _become(arguments: Sequence[str], folder: Path, told: Path, death: Death) -> None:
    """Run the program in this forked process."""
    code = 1
    try:
        descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        os.chdir(folder)
        sys.argv = ["cl_lightning", *arguments]
        if death.site is not None:
            mine(*SITES[death.site], death.call, death.signal)
        from cl_lightning.__main__ import main

        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
