"""Identity of a scenario's images by content: for each part (training, validation, test) a digest and the number of
images of each class.

Neither depends on the location of the images, on a seed, or on the order of classes and tasks: all images of a part
count, those of classes that ``data.classes`` leaves out too, so that it is the same for runs of different class orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import FolderSource, ImageSource
from cl_lightning.data.sources.content_digest import as_hex, digest

WORDS = {"train": "training", "validation": "validation", "test": "test"}
"""Parts -> their names in a sentence."""


class PartIdentity(TypedDict):
    """Identity of one part; plain values, for a checkpoint."""

    digest: str
    """Hexadecimal digest of key, class and content of every image."""
    images: dict[str, int]
    """Number of images by class."""


Identity = Mapping[str, PartIdentity]
"""Identity by part, as in :data:`WORDS`, of the existing parts."""


class Entry(NamedTuple):
    """Identity of one image."""

    key: str
    class_name: str
    digest: str
    """Hexadecimal digest of its content."""


def parts(scenario: Scenario) -> dict[str, tuple[ImageSource, Tensor]]:
    """Return the table and the rows of each part."""
    train = scenario.train
    if scenario.held_out is not None:
        rows = (torch.nonzero(chosen).flatten() for chosen in (~scenario.held_out, scenario.held_out))
        found = {part: (train, own) for part, own in zip(("train", "validation"), rows, strict=True)}
        if scenario.test is train:
            return found
    else:
        found = {"train": (train, torch.arange(len(train)))}
    return {**found, scenario.evaluates_on: (scenario.test, torch.arange(len(scenario.test)))}


def entries(source: ImageSource, rows: Tensor) -> Iterator[Entry]:
    """Yield the entry of each of these rows, in turn."""
    labels, names = source.labels[rows].tolist(), source.class_names
    for row, label, content in zip(rows.tolist(), labels, as_hex(source.contents[rows]), strict=True):
        yield Entry(str(source.key(row)), names[label], content)


def identity_of(scenario: Scenario) -> Identity:
    """Return the identity of a data set; for tasks that were added to a finished run it is that of each origin, see
    ``Scenario.identities``.
    """
    return {part: _identity(list(entries(source, rows))) for part, (source, rows) in parts(scenario).items()}


def _identity(found: Sequence[Entry]) -> PartIdentity:
    # Sorted: a table that lists the same images in another order is the same data.
    lines = sorted(f"{key}\0{class_name}\0{content}\n" for key, class_name, content in found)
    counts = Counter(class_name for _, class_name, _ in found)
    return {
        "digest": digest("".join(lines).encode("utf-8", "surrogatepass")).hex(),
        "images": {class_name: counts[class_name] for class_name in sorted(counts)},
    }


def joined_digest(digests: Sequence[str | None]) -> str | None:
    """Return one digest for several origins, the digest itself for one. None if one is unknown."""
    if len(digests) == 1:
        return digests[0]
    known = [one for one in digests if one is not None]
    return digest("\n".join(known).encode()).hex() if len(known) == len(digests) else None


def shown_key(scenario: Scenario, part: str, key: str) -> str:
    """Return a key as a user knows it: with the folder of its part, if it has one; an array's index with the part."""
    source = parts(scenario)[part][0]
    if key.isdecimal():
        return f"{part}/{key}"
    own = isinstance(source, FolderSource) and source.keys is None and source.name.endswith(f"/{source.root.name}")
    return f"{source.root.name}/{key}" if own and isinstance(source, FolderSource) else key
