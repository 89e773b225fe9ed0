"""Options of the data, as typed dataclasses; what each means stands beside it in ``conf/data``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from cl_lightning.config.schema.bounds import Each, Range, bounded, choice, number, share, whole
from cl_lightning.config.schema.fixed_names import chosen
from cl_lightning.config.schema.kinds import folder
from cl_lightning.config.schema.method import AUGMENTATIONS, MOST, scale

MOST_PIXELS = 1 << 14
"""Largest side of the square images, in pixels."""
MOST_PADDING = 1 << 12
MOST_CLASSES = 10**6
MOST_IMAGES = 10**6
"""Largest number of images of a step."""
MOST_THREADS = 4096

EVALUATE_ON = ("auto", "test", "val", "val_or_test")
TEST_SPLIT = ("per_class", "per_image")
FILES = ("any", "by_suffix")
ON_BROKEN = ("error", "skip")
ORIENTATION = ("apply", "ignore")


@dataclass
class SuggestsConfig:
    """The suggestions of a data set, used where nothing is typed."""

    recipe: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    patch_size: int = whole(4, at_least=1, at_most=MOST_PIXELS)
    memory: int = whole(2000, at_least=1)
    memory_per_class: int = whole(20, at_least=1)
    batch_size: int = whole(128, at_least=1, at_most=MOST_IMAGES)
    epochs_scale: float = scale(1.0)
    balanced_epochs_scale: float = scale(1.0)
    lr_scale: dict[str, float] = field(
        default_factory=dict, metadata=bounded(Each(Range(0.0, MOST, above=True), "{cnn: 1.0}"))
    )
    threads: int | None = whole(None, at_least=1, at_most=MOST_THREADS)


@dataclass
class SetConfig:
    """One of the data sets that follow one another."""

    name: str = MISSING
    root: str | None = folder(None)
    order: Any = "identity"
    classes: int | None = whole(None, at_least=1, at_most=MOST_CLASSES)
    select: list[str] | None = None
    increment: Any = None
    evaluate_on: str = choice("auto", EVALUATE_ON)
    test_share: float = number(0.2, above=0.0, at_most=0.999)
    test_split: str = choice("per_class", TEST_SPLIT)
    files: str = choice("any", FILES)
    on_broken: str = choice("error", ON_BROKEN)
    orientation: str | None = choice(None, ORIENTATION)
    flip: bool | None = None
    augmentation: str | None = choice(None, AUGMENTATIONS)
    crop_padding: int | None = whole(None, at_most=MOST_PADDING)


@dataclass
class DataConfig:
    """A data set and how it is cut into tasks."""

    name: str = chosen("data")
    root: str = folder()
    order: Any = "identity"
    classes: int | None = whole(None, at_least=1, at_most=MOST_CLASSES)
    initial: int | None = whole(None, at_most=MOST_CLASSES)
    increment: Any = MISSING
    sets: list[SetConfig] = field(default_factory=list)
    validation: float = share(0.0)
    evaluate_on: str = choice("auto", EVALUATE_ON)
    test_share: float = share(0.2)
    test_split: str = choice("per_class", TEST_SPLIT)
    files: str = choice("any", FILES)
    on_broken: str = choice("error", ON_BROKEN)
    orientation: str = choice("ignore", ORIENTATION)
    max_pixels: int = whole(100_000_000, at_least=1)
    image_size: int = whole(32, at_least=1, at_most=MOST_PIXELS)
    crop_padding: int = whole(0, at_most=MOST_PADDING)
    flip: bool = False
    augmentation: str | None = choice(None, AUGMENTATIONS)
    mean: list[float] | None = field(
        default=None, metadata=bounded(Each(Range(-1000.0, 1000.0), "null or [0.5,0.5,0.5]"))
    )
    std: list[float] | None = field(default=None, metadata=bounded(Each(Range(1e-6, 1000.0), "null or [0.5,0.5,0.5]")))
    suggests: SuggestsConfig = field(default_factory=SuggestsConfig)
