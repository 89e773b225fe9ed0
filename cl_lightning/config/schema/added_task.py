"""Options that ``learn=`` adds to a finished run, as typed dataclasses; they are not for the command line."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.config.schema import path_options
from cl_lightning.config.schema.bounds import choice, share
from cl_lightning.config.schema.data import EVALUATE_ON, FILES, ON_BROKEN, ORIENTATION, TEST_SPLIT


@dataclass(kw_only=True)
class LearntFolderConfig:
    """A folder whose classes were added to a finished run as a task."""

    name: str
    """Name of the folder when its classes were added."""
    folder: str = path_options.folder()
    """Present path."""
    evaluate_on: str = choice(EVALUATE_ON)
    test_share: float = share()
    test_split: str = choice(TEST_SPLIT)
    files: str = choice(FILES)
    on_broken: str = choice(ON_BROKEN)
    orientation: str = choice(ORIENTATION)
    allow_similar: bool
    """True if a class may have nearly the name of a known one."""
    changed: list[str]
    """Changes from the task before: ``key=now (not before)``."""


@dataclass(kw_only=True)
class ExtendsConfig:
    """The finished run that this one extends, and the folders added; written by ``learn=``, never typed."""

    run: str = path_options.folder()
    """Folder of that run: read until this run has a checkpoint of its own."""
    folders: list[LearntFolderConfig]
    """All folders added so far, in order; this run learns the last one."""
