"""Images of the same content where they should not be: among training and evaluation images, or in two classes."""

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
    """How many there are, and a few of them."""

    images: int
    cases: int
    """Of how many different contents, or pairs of a training image and one to evaluate on, they are."""
    examples: tuple[tuple[str, str], ...]
    """Pairs of names."""


@dataclass(frozen=True)
class EqualImages:
    """Of those that are trained or evaluated on."""

    trained_on: Equals
    """Evaluation images that are training images too; the training image comes first."""
    two_classes: Equals
    """Images that stand under more than one class."""


@dataclass(frozen=True)
class _Image:
    part: str
    key: str
    label: int


def equal_images(scenario: Scenario) -> EqualImages:
    """Find them, by the digests of what images consist of."""
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
    """Images of equal content, where there are at least two."""
    tables = [
        ("train", scenario.train, scenario.train_labels),
        (scenario.evaluates_on, scenario.test, scenario.test_labels),
    ]
    rows = [torch.nonzero(labels >= 0).flatten() for _, _, labels in tables]
    contents = torch.cat([source.contents[own] for (_, source, _), own in zip(tables, rows, strict=True)]).numpy()
    every = torch.cat(rows)
    # Half a digest says quickly which images may be equal.
    _, which, count = np.unique(
        contents[:, : DIGEST_SIZE // 2].copy().view(np.uint64), return_inverse=True, return_counts=True
    )
    groups: dict[bytes, list[_Image]] = defaultdict(list)
    for at in np.flatnonzero(count[which.reshape(-1)] > 1).tolist():
        part, source, labels = tables[at >= len(rows[0])]
        row = int(every[at])
        groups[contents[at].tobytes()].append(_Image(part, str(source.key(row)), int(labels[row])))
    yield from (group for group in groups.values() if len(group) > 1)
