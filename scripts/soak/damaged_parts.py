"""Parts of checkpoints that are torn, altered, exchanged or missing: nothing is read as if it were whole."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

from cl_lightning.checkpoint.files import last_checkpoint, list_checkpoints
from cl_lightning.core.errors import UserError
from cl_lightning.core.network_parts import FOLDER
from scripts.soak import checkpoints
from scripts.soak.attack import Fault, Tally
from scripts.soak.runs import Peace

_AT_ONCE = 10


class Parts:
    """A part that checkpoints of a run refer to is damaged: none of them is read as it is."""

    name = "parts"
    unit = "files"

    def __init__(self, peace: Peace) -> None:
        self._peace = peace

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Damage some parts of a copy of the checkpoints, one after another."""
        copy, tally = folder / "checkpoints", Tally()
        shutil.copytree(self._peace.folder_of(self._peace.words("parts")) / "checkpoints", copy)
        files = sorted((copy / FOLDER).glob("*.pt"))
        if len(files) < 2:
            raise RuntimeError(f"{copy} has {len(files)} parts: this attack needs two")
        for _ in range(_AT_ONCE):
            part, other = chance.sample(files, 2)
            content = part.read_bytes()
            name = _damage(chance, part, other)
            tally.tried[name] += 1
            tally.answers[_read(copy, part, name)] += 1
            part.write_bytes(content)
        return tally


def _damage(chance: random.Random, part: Path, other: Path) -> str:
    """Damage ``part`` and return the name of that."""
    kind = chance.choice(("missing", "exchanged", "damaged", "damaged"))
    if kind == "missing":
        part.unlink()
    elif kind == "exchanged":
        part.write_bytes(other.read_bytes())
    else:
        kind, damaged = checkpoints.damage(chance, part.read_bytes())
        part.write_bytes(damaged)
    return kind


def _read(folder: Path, part: Path, name: str) -> str:
    """Return the answer of a reader of the checkpoints."""
    log = logging.getLogger("cl_lightning.checkpoint.files")
    silent, log.disabled = log.disabled, True  # each file that is passed over is a line
    try:
        found = last_checkpoint(folder)
    except (ValueError, UserError) as error:
        if "\n" in str(error):
            raise Fault("traceback", f"{name}: not one line: {error}") from error
        return "refused"
    finally:
        log.disabled = silent
    if found is None:
        raise Fault("lost", f"{name} of {part.name}: nothing is said, and the run would begin anew")
    if found[0] == list_checkpoints(folder)[-1]:
        raise Fault("accepted", f"{name} of {part.name}: {found[0].name} was read")
    return "one before"
