"""Pairs of processes in one folder: one makes the run, the other ends at once and changes nothing."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from scripts.soak.attack import Fault, Tally
from scripts.soak.program import Death, End, Started, run
from scripts.soak.runs import Peace, difference

_KIND = "icarl"
_HELD = "is being written by"
_DONE = ("holds a run already", _HELD)


class Pairs:
    """The same command twice, ``resume=`` twice, two seeds into one folder; one of them may be killed on the way."""

    name = "pairs"
    unit = "pairs"

    def __init__(self, peace: Peace) -> None:
        self._peace = peace

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Start two processes, and check the result."""
        words, run_dir = self._peace.words(_KIND), folder / "run"
        expected, seconds = self._peace.outcome(words), self._peace.seconds(words)
        how = chance.choice(("the same", "another seed", "if_exists=resume", "resume="))
        first = [*words, f"run_dir={run_dir}", *(["if_exists=resume"] if how == "if_exists=resume" else [])]
        second = [*first, "seed=1"] if how == "another seed" else first
        if how == "resume=":
            run(first, folder, Death(seconds * chance.uniform(0.4, 0.8)))
            if (run_dir / "config.yaml").exists():
                first = second = [f"resume={run_dir}"]
        killed = chance.random() < 0.3
        begun = Started(first, folder, Death(seconds * chance.uniform(0.2, 0.9)) if killed else None)
        time.sleep(chance.choice((0.0, 0.01, 0.5, seconds / 2)))
        other = Started(second, folder)
        ends = [begun.wait().refuse_traceback(), other.wait().refuse_traceback()]
        _judge(how, ends, killed)
        # Whatever the two did, the run can be resumed, and is one of them and not a mixture.
        if not (run_dir / "config.yaml").exists():
            return Tally()
        last = run([f"resume={run_dir}"], folder).refuse_traceback()
        if last.code:
            raise Fault("lost", f"{how}: resume= ended with {last.code}: {last.said[-2000:]}")
        unlike = difference(run_dir, expected)
        if unlike and how == "another seed":
            unlike = difference(run_dir, self._peace.outcome([*words, "seed=1"]))
        if unlike:
            raise Fault("lost", f"{how}: {unlike} not as in peace")
        tally = Tally()
        tally.tried[how] += 1
        tally.answers[", ".join(sorted(str(end.code) for end in ends))] += 1
        return tally


def _judge(how: str, ends: list[End], killed: bool) -> None:
    allowed = {0, 2} | ({-signal.SIGKILL} if killed else set())
    for end in ends:
        if end.code not in allowed:
            raise Fault("lost", f"{how}: exit code {end.code}: {end.said[-2000:]}")
        if end.code == 2 and not any(text in end.one_line for text in (*_DONE, "holds another run")):
            raise Fault("lost", f"{how}: refused for another reason: {end.one_line}")
    if not killed and all(end.code == 2 for end in ends):
        raise Fault("lost", f"{how}: both were refused: {[end.one_line for end in ends]}")
