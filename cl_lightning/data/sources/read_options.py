"""How a data set in files is read, as far as the user has a say in it."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.data.sources.class_folders import ANY

PER_CLASS, PER_IMAGE = "per_class", "per_image"
AUTO, VAL, TEST, VAL_OR_TEST = "auto", "val", "test", "val_or_test"


@dataclass(frozen=True)
class Reading:
    """Options of that name in the group ``data``, and in what describes one of several sets."""

    files: str = ANY
    """Which files are images: ``any`` or ``by_suffix``, see :mod:`~cl_lightning.data.sources.class_folders`."""
    evaluate_on: str = AUTO
    """Which part is evaluated on: ``auto`` (``test/`` if it is there, else ``val/``), ``test``, ``val``, or
    ``val_or_test``, what was done before there was a choice: ``val/`` if it is there, else ``test/``.
    """
    test_share: float = 0.2
    """Of each class, in (0, 1), where there are no such parts."""
    test_split: str = PER_CLASS
    """How that is drawn: ``per_class``, or ``per_image`` as before."""
