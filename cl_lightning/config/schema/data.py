"""Options of the data, as typed dataclasses; what each means stands beside it in ``conf/data``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cl_lightning.config.schema.bounds import Each, Range, bounded, choice, number, share, whole
from cl_lightning.config.schema.fixed_names import chosen
from cl_lightning.config.schema.method import AUGMENTATIONS, MOST, MOST_SIDE, scale
from cl_lightning.config.schema.open_options import Filled
from cl_lightning.config.schema.path_options import folder

MOST_PIXELS = MOST_SIDE
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
BALANCE = ("none", "loss", "sampling")
RESIZE = ("crop", "whole")
INTERPOLATION = ("bicubic", "bilinear")
NORMALISE = ("data", "weights", "none")


@dataclass(kw_only=True)
class SuggestsConfig:
    """The suggestions of a data set, used where nothing is typed."""

    recipe: str | None
    models: dict[str, str]
    patch_size: int = whole(at_least=1, at_most=MOST_PIXELS)
    memory: int = whole(at_least=1)
    memory_per_class: int = whole(at_least=1)
    batch_size: int = whole(at_least=1, at_most=MOST_IMAGES)
    epochs_scale: float = scale()
    balanced_epochs_scale: float = scale()
    lr_scale: dict[str, float] = field(metadata=bounded(Each(Range(0.0, MOST, above=True), "{cnn: 1.0}")))
    threads: int | None = whole(at_least=1, at_most=MOST_THREADS)


@dataclass
class SetConfig:
    """One of the data sets that follow one another.

    Its entries are typed, so no file of ``conf/`` can give what they leave out: the defaults stand here.
    """

    name: str
    root: str | None = folder(None)
    order: Any = "identity"
    classes: int | None = whole(None, at_least=1, at_most=MOST_CLASSES)
    select: list[str] | None = None
    increment: Any = None
    evaluate_on: str = choice(EVALUATE_ON, "auto")
    test_share: float = number(0.2, above=0.0, at_most=0.999)
    test_split: str = choice(TEST_SPLIT, "per_class")
    files: str = choice(FILES, "any")
    on_broken: str = choice(ON_BROKEN, "error")
    orientation: Filled[str] = choice(ORIENTATION, None)
    flip: Filled[bool] = field(default=None)  # type: ignore[assignment]
    augmentation: str | None = choice(AUGMENTATIONS, None)
    cutout: int | None = whole(None, at_most=MOST_PIXELS)
    crop_padding: int | None = whole(None, at_most=MOST_PADDING)


@dataclass(kw_only=True)
class PreprocessConfig:
    """The way of a clean image from its source to the network."""

    size: Filled[int] = whole(at_least=1, at_most=MOST_PIXELS)
    resize: Filled[str] = choice(RESIZE)
    crop_share: Filled[float] = number(at_least=0.1, at_most=1.0)
    interpolation: Filled[str] = choice(INTERPOLATION)
    normalise: Filled[str] = choice(NORMALISE)


@dataclass(kw_only=True)
class DataConfig:
    """A data set and how it is cut into tasks."""

    name: str = chosen("data")
    root: str = folder()
    order: Any
    classes: int | None = whole(at_least=1, at_most=MOST_CLASSES)
    initial: int | None = whole(at_most=MOST_CLASSES)
    increment: Any
    sets: list[SetConfig]
    validation: float = share()
    evaluate_on: str = choice(EVALUATE_ON)
    test_share: float = share()
    test_split: str = choice(TEST_SPLIT)
    files: str = choice(FILES)
    on_broken: str = choice(ON_BROKEN)
    orientation: str = choice(ORIENTATION)
    max_pixels: int = whole(at_least=1)
    balance: str = choice(BALANCE)
    image_size: int = whole(at_least=1, at_most=MOST_PIXELS)
    crop_padding: int = whole(at_most=MOST_PADDING)
    flip: bool
    augmentation: Filled[str] = choice(AUGMENTATIONS)
    cutout: Filled[int] = whole(at_most=MOST_PIXELS)
    mean: list[float] | None = field(metadata=bounded(Each(Range(-1000.0, 1000.0), "null or [0.5,0.5,0.5]")))
    std: list[float] | None = field(metadata=bounded(Each(Range(1e-6, 1000.0), "null or [0.5,0.5,0.5]")))
    preprocess: PreprocessConfig
    suggests: SuggestsConfig
