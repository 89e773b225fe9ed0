"""Attack the program for a given time: `make soak [MINUTES=10]`, `python -m scripts.soak --minutes 10`.

    python -m scripts.soak --minutes 30 --seed 7          all attacks, each for its share of the time
    python -m scripts.soak --only kills,bundles           some of them
    python -m scripts.soak --again kills:7:12             one trial again: it is printed with each fault

Runs of every method, `learn=`, sequences and several processes are killed at random instants and in the middle of what
must be whole; two processes want one folder; checkpoints and bundles are torn, flipped and crafted; pictures and
configurations are changed between two parts of a run; command lines are composed of every option and a list of values
that nobody means. Counted are tracebacks that are the user's, wrong things taken in silence, and losses. What a fault
has left stays in the folder that is printed. The exit code is 1 if there was any.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.kill_test import warm_up
from scripts.soak.attack import Attack, Fault, Tally
from scripts.soak.changed import Changed
from scripts.soak.damaged import Bundles, Checkpoints
from scripts.soak.damaged_parts import Parts
from scripts.soak.full_disk import FullDisk
from scripts.soak.kills import Kills
from scripts.soak.lines import CommandLines
from scripts.soak.pairs import Pairs
from scripts.soak.ranks import Ranks
from scripts.soak.runs import Peace

SHARES = {
    "kills": 5,
    "lines": 2,
    "checkpoints": 1,
    "parts": 1,
    "bundles": 1,
    "pairs": 2,
    "changed data": 1,
    "ranks": 3,
    "full disk": 1,
}
"""Attack -> share of the time."""


def attacks(peace: Peace) -> dict[str, Attack]:
    """Return all attacks."""
    of_runs = (Kills, Pairs, Checkpoints, Parts, Bundles, Changed, Ranks, FullDisk)
    made: list[Attack] = [*(attack(peace) for attack in of_runs), CommandLines()]
    return {attack.name: attack for attack in made}


class Soak:
    """A series of attacks in one folder, and the faults found."""

    def __init__(self, made: dict[str, Attack], folder: Path, seed: int, say: Callable[[str], None] = print) -> None:
        self._attacks, self._folder, self._seed, self._say = made, folder, seed, say
        self._tallies = {name: Tally() for name in made}
        self._spent = dict.fromkeys(made, 0.0)
        self._trials = dict.fromkeys(made, 0)
        self.faults: list[str] = []

    def last(self, seconds: float) -> None:
        """Try, one attack after another, until the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            name = min(self._attacks, key=lambda each: self._spent[each] / SHARES[each])
            self.try_once(name, self._trials[name])

    def try_once(self, name: str, number: int) -> None:
        """Make the trial of this number, and record its outcome."""
        folder, started = self._folder / f"{name.replace(' ', '_')}_{number}", time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            chance = random.Random(f"{self._seed} {name} {number}")
            self._tallies[name] += self._attacks[name].trial(chance, folder)
        except Fault as fault:
            self._note(name, number, str(fault), folder)
        except Exception:
            self._note(name, number, f"traceback: {traceback.format_exc()[-3000:]}", folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        self._trials[name] += 1
        self._spent[name] += time.monotonic() - started

    def _note(self, name: str, number: int, text: str, folder: Path) -> None:
        again = f'python -m scripts.soak --again "{name}:{self._seed}:{number}"'
        self._say(f"FAULT in {name}: {text}\n  what is left is in {folder}; again: {again}")
        self.faults.append(text)

    def report(self) -> None:
        """Print the number of trials and faults."""
        for name, attack in self._attacks.items():
            tally = self._tallies[name]
            self._say(f"{name}: {tally.tried.total()} {attack.unit} in {self._spent[name]:.0f} s")
            for title, counts in (("tried", tally.tried), ("came", tally.answers)):
                if counts:
                    self._say(f"  {title}: {', '.join(f'{what} {count}' for what, count in sorted(counts.items()))}")
        kinds = [fault.partition(":")[0] for fault in self.faults]
        told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("traceback", "accepted", "lost", "hung"))
        self._say(f"seed {self._seed}: {len(self.faults)} faults ({told})")


def main(arguments: Sequence[str]) -> int:
    """Execute a command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m scripts.soak", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="a new one each time")
    parser.add_argument("--only", default="", help=f"of {', '.join(SHARES)}, with commas between them")
    parser.add_argument("--again", default="", metavar="ATTACK:SEED:TRIAL", help="one trial that had a fault")
    typed = parser.parse_args(arguments)
    again = typed.again.split(":") if typed.again else []
    only = again[:1] or [name for name in typed.only.split(",") if name]
    if any(name not in SHARES for name in only) or (again and len(again) != 3):
        parser.error(f"attacks are {', '.join(SHARES)}; a trial is ATTACK:SEED:TRIAL")
    seed = int(again[1]) if again else random.SystemRandom().randrange(10**6) if typed.seed is None else typed.seed
    folder = Path(tempfile.mkdtemp(prefix="soak_"))
    print(f"seed {seed}, in {folder}", flush=True)
    os.environ["CL_LIGHTNING_CACHE"] = str(folder / "cache")
    warm_up()
    (folder / "peace").mkdir()
    made = attacks(Peace(folder / "peace"))
    soak = Soak({name: made[name] for name in only or made}, folder, seed, lambda text: print(text, flush=True))
    try:
        if again:
            soak.try_once(again[0], int(again[2]))
        else:
            soak.last(60 * typed.minutes)
    except KeyboardInterrupt:
        print("stopped")
    soak.report()
    if not soak.faults:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
