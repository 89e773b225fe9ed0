"""The identity of a run's images: recorded with its state and its results, and compared when it is resumed.

Checkpoints hold digests of each part, results these and the numbers of images, and a listing in the run's folder names
every image, so that a difference can be reported by names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cl_lightning.checkpoint.state import evaluated_images
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError
from cl_lightning.core.types import Plain
from cl_lightning.data.scenarios.duplicates import EqualImages, Equals, equal_images
from cl_lightning.data.scenarios.image_identity import WORDS, Identity, identity_of, joined_digest
from cl_lightning.data.scenarios.image_list import (
    LISTING,
    how_it_differs,
    listing_of,
    merged,
    named,
    read_listing,
    write_listing,
)
from cl_lightning.data.scenarios.scenario import Scenario

log = logging.getLogger(__name__)


class DataRecord:
    """The record of a run's images."""

    def __init__(self, config: Config, scenario: Scenario, run_dir: Path) -> None:
        self._config = config
        self._scenario = scenario
        self._run_dir = run_dir
        # Only what this run itself has learnt from is compared here; the images of runs before it are compared where
        # their test images are read.
        self._own = scenario if scenario.newest is None else scenario.newest
        self._task = None if scenario.newest is None else len(scenario.tasks)
        self._resumed = False
        self._recorded = False

    @cached_property
    def identities(self) -> list[Identity | None]:
        """Identity of the data set, then of each folder that was learnt after it (the order of
        ``Scenario.fingerprints``); None where it is not known.
        """
        return list(self._scenario.identities) or [identity_of(self._scenario)]

    def check(self, payload: dict[str, Any]) -> None:
        """Compare a checkpoint's images with those that are there; warn if it has no record of them.

        Raises:
            UserError: images have changed, are gone, or are new.
        """
        saved = payload["identity"]
        recorded = (saved.get("images") or [None])[-1]
        now = self.identities[-1]
        assert now is not None, "what is learnt now is at hand"
        self._resumed, self._recorded = True, recorded is not None
        other = [part for part in now if recorded is not None and _digest(recorded, part) != _digest(now, part)]
        if other or saved["train_fingerprint"] != self._scenario.train.fingerprint:
            difference = how_it_differs([self._run_dir / LISTING], self._own, self._task)
            difference = difference or _by_numbers(recorded, now, other) + self._missing(payload["memory"]["lists"])
            raise UserError(f"resume={self._run_dir} was made from other images: {difference}; {self._mend()}")
        if recorded is None:
            self._check_numbers(payload)
            log.warning(
                "%s was begun before runs recorded what is in their images: whether these have changed since is not "
                "known; from now on it is",
                self._run_dir,
            )

    def _check_numbers(self, payload: dict[str, Any]) -> None:
        """Raise ``UserError`` if a task was evaluated on another number of images: no more is known here."""
        for task, before in zip(self._scenario.tasks, evaluated_images(payload), strict=False):
            if before and len(task.test) and before != len(task.test):
                raise UserError(
                    f"resume={self._run_dir} was made from other images: task {task.index + 1} was evaluated on "
                    f"{before} images, and there are {len(task.test)} now; {self._mend()}"
                )

    def _missing(self, lists: Sequence[Mapping[int, Sequence[int | str]]]) -> str:
        """Return a clause that names the exemplars which are not there, else an empty text."""
        keys = list(dict.fromkeys(key for exemplars in lists for own in exemplars.values() for key in own))
        gone = []
        for key in keys:
            try:
                self._scenario.train.row(key)
            except ValueError:
                gone.append(str(key))
        return f"; of {len(keys)} that it remembers {len(gone)} are missing: {named(gone)}" if gone else ""

    def _mend(self) -> str:
        root = "data.root=DIR"
        if self._task is not None:
            root = "data.new=DIR"
        elif self._config.data.sets:
            root = "data.sets.0.root=DIR (or of another entry)"
        return f"put them back, type {root} beside resume= if they are elsewhere, or start a new run"

    def complete(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Return the checkpoint with the images' identity that it lacks; None if it has it."""
        if self._recorded:
            return None
        return {**payload, "identity": {**payload["identity"], "images": self.identities}}

    def write(self) -> None:
        """Write the listing, unless it is there. Raises ``OSError`` where there is no room or no right to write."""
        file, extends = self._run_dir / LISTING, self._config.extends
        if self._resumed and self._recorded and file.exists():
            return
        earlier = read_listing(file) if self._resumed else None
        if earlier is None and extends is not None:
            earlier = read_listing(Path(extends.run) / LISTING)
        # Old images stay listed as they were when they were learnt: exemplars are but a few of them.
        write_listing(file, merged(earlier or {}, listing_of(self._scenario)))

    @cached_property
    def _equal(self) -> EqualImages:
        return equal_images(self._scenario)

    def warn(self) -> None:
        """Log equal images, one line for each kind: those of the user's own folders on the console too, those of
        published sets, where they are a known property, in the log alone.
        """
        data, found = self._config.data, self._equal
        own = self._config.extends is not None or "image_folder" in (data.name, *(entry.name for entry in data.sets))
        level = logging.WARNING if own else logging.INFO
        evaluated = WORDS[self._scenario.evaluates_on]
        if found.trained_on.images:
            log.log(
                level,
                "%d of %d %s images are training images too, byte for byte (%s): accuracy on them says nothing of new "
                "images; take them out of one of the two",
                found.trained_on.images,
                sum(len(task.test) for task in self._scenario.tasks),
                evaluated,
                _pairs(found.trained_on),
            )
        if found.two_classes.images:
            log.log(
                level,
                "%d images stand under more than one class, byte for byte (%s): nothing can tell them apart; leave "
                "each in one class",
                found.two_classes.images,
                _pairs(found.two_classes),
            )

    def results(self) -> dict[str, Plain]:
        """Return the entries of ``results.json`` on images: their identity, how many there are of each class, and which
        are equal.
        """
        found, evaluated = self._equal, self._scenario.evaluates_on
        equal = {f"train_and_{evaluated}": found.trained_on, "two_classes": found.two_classes}
        return {
            "data_identity": {part: self._joined(part) for part in WORDS},
            "images": {part: self._images(part) for part in self._parts},
            "equal_images": {name: _plain(one) for name, one in equal.items()},
        }

    @property
    def _parts(self) -> list[str]:
        """Parts that this run reads; images set aside to decide when to stop too."""
        aside = ["validation"] if self._scenario.validation is not None else []
        return [part for part in WORDS if part in ("train", *aside, self._scenario.evaluates_on)]

    def _joined(self, part: str) -> str | None:
        if part not in self._parts:
            return None
        digests = [None if identity is None else _digest(identity, part) for identity in self.identities]
        if part == self._scenario.evaluates_on:
            digests = [one if evaluated else "" for one, evaluated in zip(digests, self._evaluated(), strict=True)]
        return joined_digest(digests)

    def _evaluated(self) -> list[bool]:
        """Return whether test images are at hand, for each origin of tasks."""
        tasks, added = self._scenario.tasks, len(self.identities) - 1
        return [len(task.test) > 0 for task in [tasks[0], *tasks[len(tasks) - added :]]]

    def _images(self, part: str) -> dict[str, int | None]:
        """Return the number of images of each class; None for one learnt by a run that did not record it."""
        names = self._scenario.class_names
        if part != "train":
            labels = self._scenario.test_labels
            if part != self._scenario.evaluates_on and self._scenario.validation_labels is not None:
                labels = self._scenario.validation_labels
            counts = labels[labels >= 0].bincount(minlength=len(names)).tolist()
            return dict(zip(names, counts, strict=True))
        known = {name: n for identity in self.identities if identity for name, n in identity["train"]["images"].items()}
        return {name: known.get(name) for name in names}


def _digest(identity: Identity, part: str) -> str | None:
    return identity[part]["digest"] if part in identity else None


def _by_numbers(before: Identity | None, now: Identity, other: Sequence[str]) -> str:
    """Return how the images differ where no listing names them: in their order or their number."""
    if before is not None and not other:
        return "the same images are in another order"
    return ", ".join(_numbers(part, before, now) for part in other or ("train",))


def _numbers(part: str, before: Identity | None, now: Identity) -> str:
    number = sum(now[part]["images"].values())
    then = "those" if before is None or part not in before else f"the {sum(before[part]['images'].values())}"
    return f"the {number} {WORDS[part]} images that are there are not {then} of then"


def _pairs(found: Equals) -> str:
    more = found.cases - len(found.examples)
    return ", ".join(f"{one} is {two}" for one, two in found.examples) + (" ..." if more > 0 else "")


def _plain(found: Equals) -> Plain:
    return {"images": found.images, "examples": [list(pair) for pair in found.examples]}
