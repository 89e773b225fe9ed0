"""Scenarios: a data set split into tasks that bring new classes. No other module uses continuum for that.

continuum's ``ClassIncremental`` makes the split (of row numbers, not of pixels); all other code uses our own
:class:`~cl_lightning.core.types.Task` and *global labels*: classes numbered in order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from cl_lightning.core.classes import rows_by_class
from cl_lightning.core.errors import NOT_GIVEN, InvalidFileError, InvalidSettingError
from cl_lightning.core.rng import Key, scalar
from cl_lightning.core.types import Task
from cl_lightning.data.sources.base import ArraySource, FolderSource, ImageSource, Scanned
from cl_lightning.data.sources.skipped_files import LeftOut

_DEFAULT_SIZE = 224
_EXAMPLE_AT_MOST = 12


@dataclass(frozen=True, eq=False)
class Scenario:
    """An ordered stream of tasks, and the tables that their rows point into."""

    name: str
    train: ImageSource
    test: ImageSource
    """Source of the evaluation images; with a validation share, the training source again."""
    tasks: tuple[Task, ...]
    class_names: tuple[str, ...]
    """Names by global label."""
    order: tuple[int, ...]
    """Global label -> the data set's own class index."""
    train_labels: Tensor
    """(rows of ``train``,) int64 global labels; -1 where a row is not trained on, or its class is left out."""
    test_labels: Tensor
    """(rows of ``test``,) int64 global labels; -1 where a row is not evaluated on."""
    image_size: int
    """Side of the square images that the network sees; see ``read_size``."""
    channels: int
    evaluates_on: Literal["test", "validation"]
    """``validation`` if images were held out for it, or a validation part was asked for or preferred to no test part:
    so that nobody takes such a number for a test result.
    """
    fingerprints: tuple[str, ...] = ()
    """Fingerprints, if tasks were added to a finished run: of the training images of each origin, the first data set's
    first. Empty otherwise.
    """
    identities: tuple[Mapping[str, Any] | None, ...] = ()
    """Identity by content (:mod:`~cl_lightning.data.scenarios.image_identity`) of each of ``fingerprints``; None:
    unknown.
    """
    newest: Scenario | None = None
    """Scenario of the last added task alone, if tasks were added to a finished run."""
    validation: ImageSource | None = None
    """Source of the images that were set aside by a validation share; None: there are none."""
    validation_labels: Tensor | None = None
    """(rows of ``validation``,) int64 global labels; -1 where a row is not set aside."""
    held_out: Tensor | None = None
    """(rows of ``train``,) bool, with a validation share: its images, those of classes that are left out too."""
    set_of_class: tuple[int, ...] = ()
    """Index, by global label, of the data set of several that brought the class; empty for a single one."""
    evaluation_folder: str | None = None
    """Folder of the evaluation images below the data root, for data in folders with such parts."""
    unused_folder: str | None = None
    """An existing part of such data that is not read."""
    left_out: tuple[LeftOut, ...] | None = None
    """Files beside the images that are not read; None if there are no folders."""
    stored_size: int | None = None
    """Side of the arrays that the images are stored and augmented as, where they are resized for the network. None:
    ``image_size``.
    """

    @property
    def read_size(self) -> int:
        """Side at which images are read: that of arrays, and the network's of files."""
        return self.image_size if self.stored_size is None else self.stored_size

    def class_rows(self, label: int) -> Tensor:
        """Return (n,) int64, the training rows of a global class, ascending."""
        return self._class_rows[label].clone()  # a view of all rows would be written to checkpoints whole

    @cached_property
    def _class_rows(self) -> tuple[Tensor, ...]:
        return rows_by_class(self.train_labels, len(self.class_names))

    def validation_rows(self, classes: Sequence[int]) -> Tensor:
        """Return (n,) int64, the rows of ``validation`` that were set aside of these global classes, ascending; none
        without a share.
        """
        if self.validation_labels is None:
            return torch.empty(0, dtype=torch.int64)
        return torch.nonzero(torch.isin(self.validation_labels, torch.tensor(classes))).flatten()


def without_images(
    name: str, class_names: Sequence[str], sizes: Sequence[int], image_size: int, channels: int
) -> Scenario:
    """Return a scenario without images, of tasks of ``sizes`` classes: enough to build networks and methods, and to
    load their trained state.
    """
    names, none = tuple(class_names), torch.empty(0, dtype=torch.int64)
    source = ArraySource(name, torch.empty(0, channels, image_size, image_size, dtype=torch.uint8), none, names)
    tasks = _tasks(sizes, names, [none] * len(sizes), [none] * len(sizes))
    order = tuple(range(len(names)))
    return Scenario(name, source, source, tasks, names, order, none, none, image_size, channels, "test")


def split_scenario(
    name: str,
    train: ImageSource,
    test: ImageSource | None,
    *,
    order: Sequence[int],
    increment: int | Sequence[int],
    initial: int | None = None,
    validation: float = 0.0,
    evaluate_share: bool = True,
    image_size: int | None = None,
) -> Scenario:
    """Split a data set into tasks of new classes.

    - ``order``: the classes to learn, each once (:func:`~cl_lightning.data.scenarios.class_orders.class_order`); images
      of classes that are left out belong to no task.
    - ``increment``: classes per task, or the list of all tasks' sizes; one task with every class is joint training.
    - ``initial``: classes of the first task; None or 0 for as many as in the others.
    - ``validation``: share of each class's training images, in [0, 1), that is held out. At least one image a class;
      the choice depends on the images' keys alone.
    - ``evaluate_share``: evaluate on that share *instead of* the test images, which the scenario then does not hold
      (``test`` may be None).
    - ``image_size``: side of the images that the network sees; arrays keep their own, folders default to 224.

    Raises ValueError if the tasks do not add up to the classes, or a class lacks images.
    """
    sizes = task_sizes(name, len(order), increment, initial)
    held_out = _held_out(train, validation)
    trained_on = torch.where(held_out, -1, train.labels)
    share = torch.where(held_out, train.labels, -1)
    on_share = validation > 0 and evaluate_share
    evaluation, evaluated_on = (train, share) if on_share else _same_classes(train, test)
    train_rows, train_labels = _split(trained_on, order, sizes)
    test_rows, test_labels = _split(evaluated_on, order, sizes)
    names = tuple(train.class_names[own] for own in order)
    side, channels = _shape(name, train, image_size)
    evaluated = evaluation.scanned if isinstance(evaluation, FolderSource) and not on_share else Scanned()
    refuse_two_validations(evaluated.is_validation and validation > 0)
    return Scenario(
        name=name,
        train=train,
        test=evaluation,
        tasks=_tasks(sizes, names, train_rows, test_rows),
        class_names=names,
        order=tuple(order),
        train_labels=train_labels,
        test_labels=test_labels,
        image_size=side,
        channels=channels,
        evaluates_on="validation" if on_share or evaluated.is_validation else "test",
        validation=train if validation else None,
        validation_labels=_split(share, order, sizes)[1] if validation else None,
        held_out=held_out if validation else None,
        evaluation_folder=evaluated.evaluated,
        unused_folder=evaluated.unused,
        left_out=train.scanned.left_out if isinstance(train, FolderSource) else None,
    )


def task_sizes(
    name: str, num_classes: int, increment: int | Sequence[int], initial: int | None = None
) -> tuple[int, ...]:
    """Return the classes of each task. Raises ValueError, naming valid values, unless they add up to ``num_classes``.

    >>> task_sizes("cifar100", 100, increment=10, initial=50)
    (50, 10, 10, 10, 10, 10)
    """
    if not all(type(size) is int for size in (increment if isinstance(increment, list | tuple) else [increment])):
        raise InvalidSettingError("increment", increment, "is neither a number of classes nor a list", 2)
    if not isinstance(increment, int):
        return _listed_sizes(name, num_classes, list(increment), initial)
    first = initial or 0
    if not 0 <= first <= num_classes:
        reason = f"is not among the {num_classes} classes of {name}"
        raise InvalidSettingError("initial", first, reason, (f"1 to {num_classes}", None))
    left = num_classes - first
    if left == 0:
        return (first,)
    if increment < 1 or left % increment:
        raise _does_not_divide(name, num_classes, increment, first)
    return ((first,) if first else ()) + (increment,) * (left // increment)


def _listed_sizes(name: str, num_classes: int, sizes: list[int], initial: int | None) -> tuple[int, ...]:
    if initial:
        raise InvalidSettingError(
            "initial", initial, f"has no meaning beside a list of sizes, {_in_words(sizes)}", None
        )
    if any(size < 1 for size in sizes) or sum(sizes) != num_classes:
        reason = f"does not sum to the {num_classes} classes of {name} in parts of at least one"
        raise InvalidSettingError("increment", sizes, reason, f"{_divisors(num_classes)}, or a list that does")
    return tuple(sizes)


def _does_not_divide(name: str, num_classes: int, increment: int, first: int) -> InvalidSettingError:
    left = num_classes - first
    of = f"the {num_classes} classes of {name}"
    if first:
        of = f"the {left} of {num_classes} classes of {name} that the initial {first} leave"
    sizes = [increment] * (left // increment) if increment > 0 else []
    sizes = ([first] if first else []) + sizes
    if sizes and sizes != [first] and len(sizes) <= _EXAMPLE_AT_MOST:
        rest = num_classes - sum(sizes)
        sizes = [*sizes, rest] if len(sizes) == 1 else [*sizes[:-1], sizes[-1] + rest]  # one task alone would be joint
        example = f"a list such as {_in_words(sizes)}"
        if first:
            example += " without initial classes"
    else:
        example = f"a list of sizes that sums to {num_classes}"
    return InvalidSettingError("increment", increment, f"does not divide {of}", f"{_divisors(left)}, or {example}")


def _divisors(number: int) -> str:
    words = [str(size) for size in range(1, number + 1) if number % size == 0]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _in_words(sizes: list[int]) -> str:
    return str(sizes).replace(" ", "")


def _held_out(train: ImageSource, share: float) -> Tensor:
    """Return (n,) bool: the training rows that are evaluated on instead of being trained on."""
    chosen = torch.zeros(len(train), dtype=torch.bool)
    if not 0 <= share < 1:
        raise InvalidSettingError("validation", share, "is not a share in [0, 1)", "0.1, or 0 for none")
    if share == 0:
        return chosen
    stream = Key(0).fold("validation")
    by_class = rows_by_class(train.labels, len(train.class_names))
    for class_name, rows in zip(train.class_names, by_class, strict=True):
        if len(rows) < 2:
            reason = f"needs two images of each class, {class_name} in {train.name} has {len(rows)}"
            raise InvalidSettingError("validation", share, reason, 0)
        draws = torch.tensor([scalar(stream.fold(train.key(row))) for row in rows.tolist()], dtype=torch.float64)
        count = min(max(1, int(share * len(rows) + 0.5)), len(rows) - 1)
        chosen[rows[draws.argsort(stable=True)[:count]]] = True
    return chosen


def refuse_two_validations(two: bool) -> None:
    """Raise ValueError if a validation part is to be evaluated on, and a share to decide when to stop: both would be
    called validation images, and there is no test result.
    """
    if two:
        reason = "leaves no test images beside the share that data.validation sets aside"
        raise InvalidSettingError("evaluate_on", NOT_GIVEN, reason, "val to evaluate on that share")


def _same_classes(train: ImageSource, test: ImageSource | None) -> tuple[ImageSource, Tensor]:
    if test is None:
        reason = "sets no images aside, and there are no test images to evaluate on"
        raise InvalidSettingError("validation", 0, reason, 0.1)
    if test.class_names != train.class_names:
        reason = f"and {test.name} number other classes"
        raise InvalidFileError(train.name, reason, "give both parts the same classes")
    for source in (train, test):
        counts = torch.bincount(source.labels, minlength=len(source.class_names))
        for class_name, count in zip(source.class_names, counts.tolist(), strict=True):
            if count == 0:
                reason = f"has no image in {source.name}"
                raise InvalidFileError(class_name, reason, "add some, or remove the class", kind="class")
    return test, test.labels


def _split(labels: Tensor, order: Sequence[int], sizes: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Return the rows of each task, and every row's global label; rows whose own label is -1 belong to no task."""
    # Slow to import.
    from continuum.datasets import InMemoryDataset
    from continuum.scenarios import ClassIncremental
    from continuum.tasks import TaskType

    if len(set(order)) < len(order):
        raise InvalidSettingError("order", NOT_GIVEN, "has a class twice, which cannot arrive twice", "each class once")
    # continuum wants every class of a data set in some task, so it gets the global labels of the classes in use.
    label_of = torch.full((int(max(int(labels.max()), *order)) + 2,), -1)  # one more, for the label -1
    label_of[torch.tensor(order)] = torch.arange(len(order))
    arrival = label_of[labels]
    used = torch.nonzero(arrival >= 0).flatten()
    # continuum counts tasks wrongly where a label between 0 and the largest does not occur.
    if len(arrival[used].unique()) < len(order):
        raise InvalidSettingError("order", NOT_GIVEN, "has a class without an image", mend="add some, or leave it out")
    table = InMemoryDataset(used.numpy(), arrival[used].numpy(), data_type=TaskType.TENSOR)
    parts = ClassIncremental(table, increment=list(sizes))
    return [torch.as_tensor(part.get_raw_samples()[0]) for part in parts], arrival


def _tasks(
    sizes: Sequence[int], names: tuple[str, ...], train_rows: list[Tensor], test_rows: list[Tensor]
) -> tuple[Task, ...]:
    tasks: list[Task] = []
    start = 0
    for index, (size, train, test) in enumerate(zip(sizes, train_rows, test_rows, strict=True)):
        classes = tuple(range(start, start + size))
        tasks.append(Task(index, classes, names[start : start + size], train, test))
        start += size
    return tuple(tasks)


def _shape(name: str, train: ImageSource, image_size: int | None) -> tuple[int, int]:
    if not isinstance(train, ArraySource):
        return image_size or _DEFAULT_SIZE, 3
    _, channels, height, width = train.pixels.shape
    if height != width:
        raise InvalidFileError(name, f"are {width} x {height} pixels, not square", kind="the images of")
    if image_size not in (None, width):
        raise InvalidSettingError("image_size", image_size, f", but {name} has {width} x {width} pixels", width)
    return width, channels
