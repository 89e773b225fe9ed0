"""The pictures of a folder with one folder a class, matched with the classes of a model by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cl_lightning.core.errors import InvalidFileError, UserError, as_user_error
from cl_lightning.data.sources.class_folders import class_folders, class_images
from cl_lightning.data.sources.image_folder import SPELLINGS
from cl_lightning.data.sources.read_options import TEST, VAL
from cl_lightning.data.sources.skipped_files import Aside
from cl_lightning.data.sources.unicode_names import nfc, similar
from cl_lightning.deploy.evaluation import LabelledImages
from cl_lightning.deploy.model import TrainedModel

_NAMED = 6
"""Number of classes that a line names."""


@dataclass(frozen=True)
class MatchedFolder:
    """The images of a folder, and what was not matched."""

    images: LabelledImages
    unknown: tuple[str, ...]
    """Names of folders that are none of the model's classes, or not of the task that was asked for."""
    unusable: tuple[str, ...]
    """Lines on class folders without an image that can be read."""

    def lines(self, model: TrainedModel, labels: range) -> list[str]:
        """Return what the user should know: folders that are left out, and classes without images."""
        there = set(self.images.labels.tolist())
        empty = [model.class_names[label] for label in labels if label not in there]
        elsewhere = set(map(nfc, model.class_names))
        strangers = [name for name in self.unknown if name not in elsewhere]
        others = [name for name in self.unknown if name in elsewhere]
        no_class = f"left out, of no class of the model: {shortened(strangers)}{_hint(strangers, empty)}"
        return [
            *([no_class] if strangers else []),
            *([f"left out, of other tasks: {shortened(others)}"] if others else []),
            *self.unusable,
            *([f"without images, {len(empty)} of {len(labels)} classes: {shortened(empty)}"] if empty else []),
        ]


def labelled_folder(folder: Path, model: TrainedModel, labels: range, aside: Aside) -> MatchedFolder:
    """Return the images in ``folder/<class>/``, or in its test or validation part, of the classes ``labels``.

    Names are matched as data sets are read: an accent is one letter however it is written. ``aside`` collects files
    that are no images.

    Raises:
        UserError: no such folder, no folders in it, or none with the name of a class.
    """
    with as_user_error():
        if not folder.is_dir():
            raise UserError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}: {_WANTED}")
        names = {nfc(model.class_names[label]): label for label in labels}
        root, matched, unknown = _matched(folder, names, model.preprocessing.files, aside)
        return _read(folder, root, matched, unknown, model, aside)


_WANTED = "type a folder with one folder of pictures a class"


def _matched(
    folder: Path, names: dict[str, int], rule: str, aside: Aside
) -> tuple[Path, dict[str, int], tuple[str, ...]]:
    """Return the folder of the class folders, path below it -> label, and the names that were not matched."""
    tried: dict[Path, list[str]] = {}
    for root in [folder, *_parts(folder)]:
        found = Aside()
        own = class_folders(root, rule, found)
        matched = {own[name]: names[name] for name in own if name in names}
        nested = {name: label for name, label in names.items() if "/" in name and (root / name).is_dir()}
        matched |= nested  # classes of several data sets: digits/3
        if matched:
            aside.merge(found)
            outer = {name.partition("/")[0] for name in nested}
            return root, matched, tuple(name for name in own if name not in names and name not in outer)
        tried[root] = list(own)
    place, there = next(((root, own) for root, own in reversed(tried.items()) if own), (folder, []))
    if not there:
        raise UserError(f"{folder} has no class folders: {_WANTED}")
    raise UserError(
        f"{place} has no class of the model: its folders are {shortened(there)}, the model's classes are "
        f"{shortened(list(names))}{_hint(there, list(names))}: name folders after classes"
    )


def _parts(folder: Path) -> Iterator[Path]:
    """Yield the test part and then the validation part of a folder, where there are some."""
    inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    for part in (TEST, VAL):
        yield from (folder / name for name in inner if name.casefold() in SPELLINGS[part])


def _read(
    folder: Path, root: Path, matched: dict[str, int], unknown: tuple[str, ...], model: TrainedModel, aside: Aside
) -> MatchedFolder:
    files: list[Path] = []
    labels: list[int] = []
    unusable: list[str] = []
    for own, label in sorted(matched.items(), key=lambda pair: pair[1]):
        try:
            found = class_images(root, own, model.preprocessing.files, aside)
        except InvalidFileError as error:
            unusable.append(f"class {model.class_names[label]} is left out: its folder {error.reason}")
            continue
        files += [root / path for path in found]
        labels += [label] * len(found)
    if not files:
        raise UserError(f"{root} holds no image of a class of the model ({'; '.join(unusable)}): {_WANTED}")
    read = model.preprocessing.read
    part = "" if root == folder else f", the part {root.name} of {folder}"
    images = LabelledImages(files, torch.tensor(labels), lambda number: read(files[number]), f"{root}{part}")
    return MatchedFolder(images, unknown, tuple(unusable))


def shortened(names: Sequence[str]) -> str:
    """Return the names, the first ones of many."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _hint(found: Sequence[str], names: Sequence[str]) -> str:
    """Return a question where a folder's name is nearly that of a class, else an empty text."""
    for name in found:
        twin = similar([name], names)
        close = [twin[1]] if twin else difflib.get_close_matches(name, names, n=1)
        if close:
            return f" (is {name} meant to be {close[0]}?)"
    return ""
