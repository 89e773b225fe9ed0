"""Runs of several processes, any of which is killed, or asked to end, at a random instant."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from scripts.soak.attack import Fault, Tally
from scripts.soak.program import PATIENCE, End, run
from scripts.soak.runs import REPLICAS, Peace, difference

_WORDS = (*REPLICAS, "trainer=ddp_cpu", "trainer.threads=1", "trainer.checkpoint_steps=3", "trainer.log_every=2")
_QUIET = ("trainer.progress=none", "report.page=false", "evaluate_phases=true")
_LEFT_BEHIND = 15.0
"""Seconds that processes may run on when the one that was started has ended."""


class Ranks:
    """Kills by SIGKILL and SIGTERM of the launcher, of rank 0, of another rank; then ``resume=``."""

    name = "ranks"
    unit = "kills"

    def __init__(self, peace: Peace) -> None:
        self._peace = peace

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Kill one run once or twice, and then run it to its end."""
        words, run_dir, tally = [*_WORDS, *_QUIET], folder / "run", Tally()
        expected = self._peace.outcome(words)  # of as many processes: others round otherwise
        for _ in range(chance.choice((1, 2))):
            begun = (run_dir / "config.yaml").exists()
            typed = [f"resume={run_dir}"] if begun else [*words, f"run_dir={run_dir}"]
            name, end = _killed(chance, typed, folder)
            if end.code == 0:
                break
            tally.tried[name] += 1
            tally.answers[f"exit code {end.code}"] += 1
        begun = (run_dir / "config.yaml").exists()
        typed = [f"resume={run_dir}"] if begun else [*words, f"run_dir={run_dir}"]
        end = run(typed, folder).refuse_traceback()
        if end.code:
            raise Fault("lost", f"{typed} ended with {end.code}: {end.said[-2000:]}")
        unlike = difference(run_dir, expected)
        if unlike:
            raise Fault("lost", f"{unlike} not as in peace")
        return tally


def _killed(chance: random.Random, typed: list[str], folder: Path) -> tuple[str, End]:
    """Start processes, and kill one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / f"said_{time.monotonic_ns()}.txt"
    with told.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "cl_lightning", *typed], cwd=folder, stdout=said, stderr=said, start_new_session=True
        )
    name, number = chance.choice(("started", "rank 0", "rank 1")), chance.choice((signal.SIGKILL, signal.SIGTERM))
    wait, started = chance.uniform(3.0, 25.0), time.monotonic()
    while time.monotonic() - started < wait and process.poll() is None:
        time.sleep(0.05)
    ranks = _children(process.pid)
    target = process.pid if name == "started" else ranks[int(name[-1])] if len(ranks) > 1 else process.pid
    with suppress(ProcessLookupError):
        if process.poll() is None:
            os.kill(target, number)
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Fault("hung", f"{number.name} to {name}: it did not end within {PATIENCE:.0f} s") from None
    _all_gone(ranks, f"{number.name} to {name}")
    return f"{number.name} to {name}", End(code, told.read_text("utf-8", "replace")).refuse_traceback()


def _children(parent: int) -> list[int]:
    """Return the processes that ``parent`` has started, in order."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            if entry.name.isdecimal() and int(_stat(int(entry.name))[1]) == parent:
                found.append(int(entry.name))
    return sorted(found)


def _stat(pid: int) -> list[str]:
    """Return state, parent and so on: the fields after the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _all_gone(pids: list[int], after: str) -> None:
    deadline = time.monotonic() + _LEFT_BEHIND
    while time.monotonic() < deadline:
        if not any(_is_running(pid) for pid in pids):
            return
        time.sleep(0.1)
    raise Fault("hung", f"{after}: {sum(map(_is_running, pids))} processes were left behind")


def _is_running(pid: int) -> bool:
    with suppress(OSError, IndexError):
        return _stat(pid)[0] != "Z"
    return False
