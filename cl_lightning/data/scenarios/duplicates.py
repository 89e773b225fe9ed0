"""Duplicate images: equal content among training and evaluation images, or in two classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cl_lightning.data.scenarios.image_identity import shown_key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.content_digest import DIGEST_SIZE

_EXAMPLES = 2


@dataclass(frozen=True)
class Equals:
    """Number of duplicates, and examples."""

    images: int
    cases: int
    """Number of different contents, or of pairs of a training image and an evaluation image."""
    examples: tuple[tuple[str, str], ...]
    """Pairs of names of equal images."""


@dataclass(frozen=True)
class EqualImages:
    """Duplicates among the images that are trained or evaluated on."""

    trained_on: Equals
    """Evaluation images that are training images too; the training image comes first."""
    two_classes: Equals
    """Images that are in more than one class."""


@dataclass(frozen=True)
class _Image:
    part: str
    key: str
    label: int


def equal_images(scenario: Scenario) -> EqualImages:
    """Find equal images by the digests of their contents."""
    found: list[tuple[list[_Image], list[_Image]]] = []  # training and evaluation images of one content
    for group in _groups(scenario):
        train = [image for image in group if image.part == "train"]
        found.append((train, [image for image in group if image.part != "train"]))
    learnt = [(train[0], image) for train, evaluated in found if train for image in evaluated]
    mixed = [
        (group[0], next(image for image in group if image.label != group[0].label), len(group))
        for group in (train + evaluated for train, evaluated in found)
        if len({image.label for image in group}) > 1
    ]

    def names(pairs: Sequence[tuple[_Image, _Image]]) -> tuple[tuple[str, str], ...]:
        some = pairs[:_EXAMPLES]
        return tuple(
            (shown_key(scenario, one.part, one.key), shown_key(scenario, two.part, two.key)) for one, two in some
        )

    return EqualImages(
        Equals(len(learnt), len(learnt), names(learnt)),
        Equals(sum(count for *_, count in mixed), len(mixed), names([(one, two) for one, two, _ in mixed])),
    )


def _groups(scenario: Scenario) -> Iterator[list[_Image]]:
    """Yield images of equal content, in groups of at least two."""
    tables = [
        ("train", scenario.train, scenario.train_labels),
        (scenario.evaluates_on, scenario.test, scenario.test_labels),
    ]
    rows = [torch.nonzero(labels >= 0).flatten() for _, _, labels in tables]
    contents = torch.cat([source.contents[own] for (_, source, _), own in zip(tables, rows, strict=True)]).numpy()
    every = torch.cat(rows)
    # Half a digest finds quickly which images may be equal.
    _, which, count = np.unique(
        contents[:, : DIGEST_SIZE // 2].copy().view(np.uint64), return_inverse=True, return_counts=True
    )
    groups: dict[bytes, list[_Image]] = defaultdict(list)
    for index in np.flatnonzero(count[which.reshape(-1)] > 1).tolist():
        part, source, labels = tables[index >= len(rows[0])]
        row = int(every[index])
        groups[contents[index].tobytes()].append(_Image(part, str(source.key(row)), int(labels[row])))
    yield from (group for group in groups.values() if len(group) > 1)
