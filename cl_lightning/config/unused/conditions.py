"""Conditions under which an option is read, as functions of the configuration; ``used_by.py`` assigns them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cl_lightning.config.schedule_scales import scale_name, trained_phases, trains_balanced
from cl_lightning.config.schema import (
    Config,
    DERConfig,
    ICaRLConfig,
    MEATConfig,
    MethodConfig,
    PhaseConfig,
    SetConfig,
    TimmConfig,
)
from cl_lightning.config.schema.open_options import Open
from cl_lightning.config.yaml_files import load_option, options
from cl_lightning.core.errors import InvalidFileError, InvalidSettingError

ARRAYS = ("digits", "cifar100")
"""Data sets whose images are not in files."""
BELOW_ROOT = (
    "cifar100", "aircraft", "cars", "cub200", "flowers102", "stanford_dogs", "imagenet_r", "tiny_imagenet",
)  # fmt: skip
"""Data sets with a folder of their own, which in a sequence are looked for below ``data.root``."""
LISTED = ("image_folder", "imagenet100", "imagenet1000")
"""Data sets whose files are found in class folders, not named by an index of their own."""
SMALL = 64
"""Largest side of a small image, in pixels."""
PAGES = "CL_LIGHTNING_REPORT"
"""Environment variable that switches pages off; options of pages are accepted all the same."""


@dataclass(frozen=True)
class Facts:
    """A configuration to check."""

    config: Config
    """Filled-in configuration."""
    given: Open[Config]
    """Configuration as composed: ``None`` where data and method decide. The same as ``config`` for a saved one."""
    entry: SetConfig | None = None
    """Entry of ``data.sets``, filled in; for its own options."""


Holds = Callable[[Facts], bool]


def keeps_exemplars(f: Facts) -> bool:
    """Return whether there is a rehearsal memory."""
    return f.config.memory.budget != "none"


def is_method(*kinds: type[MethodConfig]) -> Holds:
    """Return whether the method is of one of these kinds."""
    return lambda f: isinstance(f.config.method, kinds)


def has(name: str) -> Holds:
    """Return whether an option of the method is set, and not zero."""
    return lambda f: bool(getattr(f.config.method, name, None))


def is_open(name: str) -> Holds:
    """Return whether an option is open, for data and method to decide."""
    group, _, key = name.rpartition(".")
    return lambda f: getattr(getattr(f.given, group) if group else f.given, key) is None


def any_phase(holds: Callable[[PhaseConfig], bool]) -> Holds:
    """Return whether something holds for a phase that is trained."""
    return lambda f: any(map(holds, trained_phases(f.config).values()))


def scales_epochs(scale: str) -> Holds:
    """Return whether a phase that is trained has its epochs times this scale of the run's."""
    return lambda f: any(
        scale_name(f.config.method, name) == scale and phase.epochs_scale is None
        for name, phase in trained_phases(f.config).items()
    )


def augments(f: Facts, entry: SetConfig | None = None) -> bool:
    """Return whether training images, of one of several sets, are changed at random."""
    own = None if entry is None else entry.augmentation
    return (own or f.config.data.augmentation) != "none"


def is_left_to_data(name: str) -> Holds:
    """Return whether an augmented set does not override the value that ``data`` has for all."""
    return lambda f: any(getattr(entry, name) is None and augments(f, entry) for entry in f.given.data.sets)


def mirrors(f: Facts, entry: SetConfig | None = None) -> bool:
    """Return whether anything depends on images being mirrored: iCaRL does, for its class means."""
    return augments(f, entry) or isinstance(f.config.method, ICaRLConfig)


def looks_below_root(f: Facts) -> bool:
    """Return whether images are looked for below ``data.root``."""
    data = f.config.data
    if not data.sets:
        return data.name != "digits"
    return any(entry.root is None and entry.name in BELOW_ROOT for entry in data.sets)


def has_no_split(root: str | None) -> bool:
    """Return whether a folder of images is not sorted into training and test images already."""
    from cl_lightning.data.sources.image_folder import find_parts  # heavy

    try:
        return not root or not find_parts(Path(root).expanduser())
    except (OSError, InvalidFileError, InvalidSettingError):  # reported where the folder is read
        return True


def patch_size_is_open(f: Facts) -> bool:
    """Return whether the model leaves its patches to the data."""
    model, data = f.given.model, f.config.data
    if isinstance(model, TimmConfig) and data.image_size > SMALL:
        return False
    if model.name == "auto":
        name = data.suggests.models.get(f.config.method.encoder, "")
        return name in options("model") and load_option("model", name).get("patch_size", 0) is None
    return getattr(model, "patch_size", 0) is None


def freezes(f: Facts) -> bool:
    """Return whether a part of the network that has branches passes images without being trained."""
    return isinstance(f.config.method, MEATConfig | DERConfig) or trains_balanced(f.config)


def draws_page(f: Facts) -> bool:
    """Return whether a page is made, or would be but for this machine's environment."""
    return f.config.report.page or PAGES in os.environ
