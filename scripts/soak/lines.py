"""Command lines of every option and invalid values: a line for the user, and never a traceback."""

from __future__ import annotations

import random
from pathlib import Path

from cl_lightning.config.yaml_files import options
from scripts.soak.attack import Fault, Tally
from scripts.soak.command_lines import outcome, saved_run, trial

_AT_ONCE = 25


class CommandLines:
    """Command lines composed and checked in this process, without a run."""

    name = "lines"
    unit = "command lines"

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Compose some command lines."""
        tally, run = Tally(), saved_run(folder, f"method={chance.choice(options('method'))}")
        for _ in range(_AT_ONCE):
            arguments = trial(chance, run)
            came = outcome(arguments)
            if came.kind == "traceback":
                raise Fault("traceback", f"{arguments}\n{came.text}")
            tally.tried["command lines"] += 1
            tally.answers[came.kind] += 1
        return tally
