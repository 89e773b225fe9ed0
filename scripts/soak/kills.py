"""Runs of every kind, killed at random instants and during critical writes, until they end."""

from __future__ import annotations

import random
import signal
from pathlib import Path

from scripts.kill_test import FEW, SITES
from scripts.soak.attack import Fault, Tally
from scripts.soak.program import Death, run
from scripts.soak.runs import KINDS, Peace, difference

_ASKED = {signal.SIGTERM: (75, 143, -signal.SIGTERM), signal.SIGINT: (75, 130, -signal.SIGINT)}
"""Exit codes of a run asked to stop: interrupted, stopped before it had begun, or killed before it listened."""


class Kills:
    """Kills by SIGKILL, SIGTERM and Ctrl-C; then ``resume=``, and the next one."""

    name = "kills"
    unit = "kills"

    def __init__(self, peace: Peace, kinds: tuple[str, ...] = tuple(KINDS)) -> None:
        self._peace = peace
        self._kinds = kinds

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Kill one run until it ends; it must equal the undisturbed one."""
        kind = chance.choice(self._kinds)
        words, tally, run_dir = self._peace.words(kind), Tally(), folder / "run"
        expected, seconds = self._peace.outcome(words), self._peace.seconds(words)
        while True:
            begun = (run_dir / "config.yaml").exists()
            typed = [f"resume={run_dir}"] if begun else [*words, f"run_dir={run_dir}"]
            death = _death(chance, seconds)
            end = run(typed, folder, death).refuse_traceback()
            if end.code == 0:
                break
            if end.code not in _ASKED.get(death.signal, (-signal.SIGKILL,)):
                raise Fault("lost", f"{kind}, after {death.name}: exit code {end.code}: {end.said[-2000:]}")
            tally.tried[f"{kind}"] += 1
            tally.answers[death.name] += 1
        unlike = difference(run_dir, expected)
        if unlike:
            raise Fault("lost", f"{kind}: {unlike} not as in peace")
        return tally


def _death(chance: random.Random, seconds: float) -> Death:
    kind = chance.random()
    if kind < 0.15:
        return Death(chance.uniform(0.0, seconds), signal=chance.choice((signal.SIGTERM, signal.SIGINT)))
    if kind < 0.55:
        return Death(chance.uniform(0.0, seconds / 2))
    site = chance.choice(list(SITES))
    return Death(site=site, call=chance.randint(1, FEW.get(site, 4)))
