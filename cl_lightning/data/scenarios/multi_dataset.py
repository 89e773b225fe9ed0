"""Scenarios of several data sets: the tasks of one after those of another, classes named by both.

MEAT (Xue et al., CVPR 2022) learns such sequences, as most of task-incremental learning does. For all other code the
result is a scenario like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cl_lightning.core.errors import NOT_GIVEN, InvalidSettingError
from cl_lightning.data.scenarios.scenario import Scenario, refuse_two_validations, split_scenario
from cl_lightning.data.sources.base import FolderSource, Table
from cl_lightning.data.sources.concat import join
from cl_lightning.data.sources.skipped_files import LeftOut


@dataclass(frozen=True, eq=False)
class DatasetTasks:
    """A loaded data set and its tasks."""

    name: str
    train: Table
    """Training source whose labels number the classes to learn, in order of arrival."""
    test: Table | None
    sizes: tuple[int, ...]
    """Number of classes of each of its tasks."""


def concat_scenarios(
    name: str, links: Sequence[DatasetTasks], *, image_size: int, validation: float = 0.0, evaluate_share: bool = True
) -> Scenario:
    """Concatenate the tasks of all ``links``, in order. Images are ``image_size`` pixels square and in colour.

    Class ``apple`` of CIFAR-100 is called ``cifar100/apple``. A ``validation`` share is held out of each class of every
    set, as :func:`~cl_lightning.data.scenarios.scenario.split_scenario` does it; ``evaluate_share`` as there.

    Raises ValueError if two links have a class of the same name, or a class lacks images.
    """
    _check_names(links)
    train = join(f"{name}/train", [_named(link.train, link.name) for link in links], image_size)
    tests = [_named(link.test, link.name) for link in links if link.test is not None]
    test = join(f"{name}/test", tests, image_size) if len(tests) == len(links) else None
    number = len(train.class_names)
    scenario = split_scenario(
        name,
        train,
        test,
        order=range(number),
        increment=[size for link in links for size in link.sizes],
        validation=validation,
        evaluate_share=evaluate_share,
        image_size=image_size,
    )
    evaluated = {} if validation and evaluate_share else _evaluated(links)
    refuse_two_validations(validation > 0 and evaluated.get("evaluates_on") == "validation")
    counts = [len(link.train.class_names) for link in links]
    return dataclasses.replace(
        scenario,
        set_of_class=tuple(k for k, count in enumerate(counts) for _ in range(count)),
        **evaluated,
        left_out=_left_out(links),
    )


def _evaluated(links: Sequence[DatasetTasks]) -> dict[str, Any]:
    """Return the evaluation part. One validation part makes it ``validation``: the number is then no test result."""
    scanned = [(link.name, link.test.scanned) for link in links if isinstance(link.test, FolderSource)]
    return {
        "evaluates_on": "validation" if any(each.is_validation for _, each in scanned) else "test",
        "evaluation_folder": _listed((name, each.evaluated) for name, each in scanned),
        "unused_folder": _listed((name, each.unused) for name, each in scanned),
    }


def _listed(folders: Iterable[tuple[str, str | None]]) -> str | None:
    return ", ".join(f"{name}/{folder}" for name, folder in folders if folder is not None) or None


def _left_out(links: Sequence[DatasetTasks]) -> tuple[LeftOut, ...] | None:
    """Return the skipped files of all sets, each once; None if none is in files."""
    trains = {str(link.train.root): link for link in links if isinstance(link.train, FolderSource)}
    if not trains:
        return None
    return tuple(
        dataclasses.replace(each, example=f"{link.name}/{each.example}")
        for link in trains.values()
        if isinstance(link.train, FolderSource)
        for each in link.train.scanned.left_out
    )


def of_classes(source: Table, order: Sequence[int]) -> Table:
    """Return the images of these classes alone, renumbered in this order; keys are not changed."""
    label_of = torch.full((len(source.class_names),), -1)
    label_of[torch.tensor(order)] = torch.arange(len(order))
    rows = torch.nonzero(label_of[source.labels] >= 0).flatten()
    chosen = source if len(rows) == len(source) else source.select(rows, source.name)
    names = tuple(source.class_names[own] for own in order)
    return dataclasses.replace(chosen, labels=label_of[chosen.labels], class_names=names)


def _named(source: Table, name: str) -> Table:
    return dataclasses.replace(source, class_names=tuple(f"{name}/{own}" for own in source.class_names))


def _check_names(links: Sequence[DatasetTasks]) -> None:
    met: dict[str, int] = {}
    for number, link in enumerate(links, start=1):
        for own in link.train.class_names:
            before = met.setdefault(f"{link.name}/{own}", number)
            if before != number:
                reason = f"has class {own} of {link.name} in entries {before} and {number}"
                mend = "leave it out of one, for example with select: [CLASS, ...], or rename its folder"
                raise InvalidSettingError("sets", NOT_GIVEN, reason, mend=mend)
