"""The form of an attack on the program, and of what it found."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Kind = Literal["traceback", "accepted", "lost", "hung"]
"""Kind of a fault: a traceback for the user, something wrong that was accepted silently, something that existed and
is not, a process that does not end.
"""


class Fault(Exception):  # noqa: N818 (it is not an error of this program)
    """The program did what it must not."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass
class Tally:
    """The number of things that were tried, by name, and of what the program answered."""

    tried: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Tally) -> Tally:
        self.tried += other.tried
        self.answers += other.answers
        return self


class Attack(Protocol):
    """One kind of attack. A trial is a function of its ``chance`` alone, as far as clocks allow."""

    name: str
    unit: str
    """Name of its trials in the plural: kills, files, lines."""

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Try once, or a few times, in ``folder``, which is new and empty. Raises ``Fault``."""
        ...
