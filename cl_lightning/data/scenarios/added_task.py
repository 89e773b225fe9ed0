"""A scenario of learnt tasks and one task more: old images are exemplars, new ones come from a folder.

Every image keeps its key; those of the folder of task t are ``+t/<class>/<file>``. Small images that live in arrays
stay so: the folder is then decoded once, to their size and number of channels. Files stay files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch import Tensor

from cl_lightning.core.errors import NOT_GIVEN, InvalidFileError, InvalidSettingError
from cl_lightning.core.types import Task
from cl_lightning.data.scenarios.image_identity import identity_of
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource, FolderSource, ImageSource
from cl_lightning.data.sources.exemplar_store import ExemplarStore
from cl_lightning.data.sources.unicode_names import nfc, similar


@dataclass(frozen=True, eq=False)
class Part:
    """Images that become part of a larger table."""

    source: ImageSource
    labels: Tensor
    """(rows of ``source``,) int64 global labels; -1 where a row is left out."""
    task: int | None = None
    """Task of the images, counted from 1, if they come from a folder of its own: the prefix of their keys."""


def extend(
    name: str, store: ExemplarStore, old_tests: Sequence[Part], new: Scenario, *, allow_similar: bool = False
) -> Scenario:
    """Return the scenario of the learnt tasks of ``store``, followed by the only task of ``new``.

    Old tasks train on exemplars (through the memory alone) and are evaluated on the available ``old_tests``: a task
    without a row there is evaluated on nothing.

    Raises:
        ValueError: a class of ``new`` is known already; or, without ``allow_similar``, its name differs from a known
        one
            only in case, spaces, hyphens or underscores. Or files would be read otherwise than before.
    """
    known = store.source.class_names
    _check_new(new.class_names, known, allow_similar)
    sizes = (*store.sizes, len(new.class_names))
    bounds, number = list(accumulate(sizes, initial=0)), len(sizes)
    names = (*known, *new.class_names)
    old = Part(store.source, store.source.labels)
    added = new_part(new.train, new.train_labels, bounds[-2], number)
    train = _joined(f"{name}/train", [old, added], names, store)
    added = new_part(new.test, new.test_labels, bounds[-2], number)
    test = _joined(f"{name}/test", [*old_tests, added], names, store)
    aside, aside_labels = None, None
    if new.validation is not None and new.validation_labels is not None:
        held_out = new_part(new.validation, new.validation_labels, bounds[-2], number)
        aside = _joined(f"{name}/validation", [held_out], names, store)
        aside_labels = aside.labels
    tasks = [
        Task(
            index, tuple(range(first, end)), names[first:end],
            _rows(train.labels, first, end), _rows(test.labels, first, end),
        )
        for index, (first, end) in enumerate(pairwise(bounds))
    ]  # fmt: skip
    return Scenario(
        name=name,
        train=train,
        test=test,
        tasks=tuple(tasks),
        class_names=names,
        order=tuple(range(len(names))),
        train_labels=train.labels,
        test_labels=test.labels,
        image_size=store.image_size,
        channels=store.channels,
        evaluates_on=new.evaluates_on,
        validation=aside,
        validation_labels=aside_labels,
        evaluation_folder=new.evaluation_folder,
        unused_folder=new.unused_folder,
        left_out=new.left_out,
        fingerprints=(*store.fingerprints, new.train.fingerprint),
        identities=(*store.identities, identity_of(new)),
        newest=new,
    )


def _check_new(names: Sequence[str], known: Sequence[str], allow_similar: bool) -> None:
    written = set(map(nfc, known))
    again = [class_name for class_name in names if nfc(class_name) in written]
    if again:
        mend = f"rename the folder {again[0]}, or leave it out"
        raise InvalidFileError(f'"{again[0]}"', "is known already", mend, kind="class")
    alike = None if allow_similar else similar(names, known)
    if alike:
        raise InvalidFileError(
            f'"{alike[0]}"',
            f'is called nearly as "{alike[1]}", which is known already',
            f"rename the folder {alike[0]}",
            {"allow_similar": "true if it is another class"},
            kind="class",
        )


def new_part(source: ImageSource, labels: Tensor, first: int, task: int) -> Part:
    """Return the images of a task whose classes are numbered from 0 in ``labels`` and from ``first`` in the whole."""
    return Part(source, torch.where(labels < 0, -1, labels + first), task)


def _rows(labels: Tensor, first: int, end: int) -> Tensor:
    return torch.nonzero((labels >= first) & (labels < end)).flatten()


def _joined(
    name: str, parts: Sequence[Part], names: tuple[str, ...], like: ExemplarStore
) -> ArraySource | FolderSource:
    """Return one table of all rows with a label, arrays or files as the exemplars are."""
    rows = [torch.nonzero(part.labels >= 0).flatten() for part in parts]
    labels = torch.cat([part.labels[chosen] for part, chosen in zip(parts, rows, strict=True)])
    keys = tuple(key for part, chosen in zip(parts, rows, strict=True) for key in _keys(part, chosen))
    contents = torch.cat([part.source.contents[chosen] for part, chosen in zip(parts, rows, strict=True)])
    if isinstance(like.source, ArraySource):
        pixels = [_pixels(part.source, chosen, like) for part, chosen in zip(parts, rows, strict=True)]
        return ArraySource(name, torch.cat(pixels), labels, names, keys, contents)
    paths = tuple(path for part, chosen in zip(parts, rows, strict=True) for path in _paths(part.source, chosen))
    most = max(part.source.max_pixels for part in parts if isinstance(part.source, FolderSource))
    upright = _upright(parts, rows)
    return FolderSource(name, Path("/"), paths, labels, names, keys, contents, upright=upright, max_pixels=most)


def _upright(parts: Sequence[Part], rows: Sequence[Tensor]) -> bool:
    """Return True if all files are turned as their EXIF orientation says, False if none is."""
    used = {part.source.upright for part, chosen in zip(parts, rows, strict=True)
            if isinstance(part.source, FolderSource) and len(chosen)}  # fmt: skip
    if len(used) > 1:
        reason = "is another than the run's own pictures are read with"
        raise InvalidSettingError("orientation", NOT_GIVEN, reason, mend="leave it out, and the folder is read so too")
    return True in used


def _keys(part: Part, rows: Tensor) -> list[int | str]:
    own = [part.source.key(row) for row in rows.tolist()]
    return own if part.task is None else [f"+{part.task}/{key}" for key in own]


def _pixels(source: ImageSource, rows: Tensor, like: ExemplarStore) -> Tensor:
    if isinstance(source, ArraySource):
        return source.pixels[rows]
    assert isinstance(source, FolderSource)
    found = [source.load_as(row, like.image_size, like.channels) for row in rows.tolist()]
    return torch.stack(found) if found else torch.empty(0, like.channels, like.image_size, like.image_size).byte()


def _paths(source: ImageSource, rows: Tensor) -> list[str]:
    assert isinstance(source, FolderSource), "arrays do not go among files"
    return [str((source.root / source.paths[row]).absolute()) for row in rows.tolist()]
