"""What ``learn=`` adds to a finished run, as typed dataclasses; nobody types these."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.config.schema import kinds
from cl_lightning.config.schema.bounds import choice, share
from cl_lightning.config.schema.data import EVALUATE_ON, FILES, ON_BROKEN, ORIENTATION, TEST_SPLIT


@dataclass(kw_only=True)
class LearntFolderConfig:
    """A folder whose classes were added to a finished run as a task."""

    name: str
    """Of the folder, as it was called when its classes were added."""
    folder: str = kinds.folder()
    """Where it is now."""
    evaluate_on: str = choice(EVALUATE_ON)
    test_share: float = share()
    test_split: str = choice(TEST_SPLIT)
    files: str = choice(FILES)
    on_broken: str = choice(ON_BROKEN)
    orientation: str = choice(ORIENTATION)
    allow_similar: bool
    """Whether a class may be called nearly as one that is known."""
    changed: list[str]
    """In what the task is learnt otherwise than the one before: ``key=now (not before)``."""


@dataclass(kw_only=True)
class ExtendsConfig:
    """Which finished run this one goes on with, and what it adds to it; written by ``learn=``, never typed."""

    run: str = kinds.folder()
    """Its folder: read until this run has kept a state of its own."""
    folders: list[LearntFolderConfig]
    """All that were added so far, in order; the last one is what this run learns."""
