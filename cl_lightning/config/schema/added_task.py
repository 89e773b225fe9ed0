"""What ``learn=`` adds to a finished run, as typed dataclasses; nobody types these."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from cl_lightning.config.schema import kinds
from cl_lightning.config.schema.bounds import choice, share
from cl_lightning.config.schema.data import EVALUATE_ON, FILES, ON_BROKEN, ORIENTATION, TEST_SPLIT


@dataclass
class LearntFolderConfig:
    """A folder whose classes were added to a finished run as a task."""

    name: str = MISSING
    """Of the folder, as it was called when its classes were added."""
    folder: str = kinds.folder()
    """Where it is now."""
    evaluate_on: str = choice("auto", EVALUATE_ON)
    test_share: float = share(0.2)
    test_split: str = choice("per_class", TEST_SPLIT)
    files: str = choice("any", FILES)
    on_broken: str = choice("error", ON_BROKEN)
    orientation: str = choice("ignore", ORIENTATION)
    allow_similar: bool = False
    """Whether a class may be called nearly as one that is known."""
    changed: list[str] = field(default_factory=list)
    """In what the task is learnt otherwise than the one before: ``key=now (not before)``."""


@dataclass
class ExtendsConfig:
    """Which finished run this one goes on with, and what it adds to it; written by ``learn=``, never typed."""

    run: str = kinds.folder()
    """Its folder: read until this run has kept a state of its own."""
    folders: list[LearntFolderConfig] = field(default_factory=list)
    """All that were added so far, in order; the last one is what this run learns."""
