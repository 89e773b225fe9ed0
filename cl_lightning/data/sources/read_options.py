"""Options by which a data set in files is read."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.data.sources.class_folders import ANY

PER_CLASS, PER_IMAGE = "per_class", "per_image"
AUTO, VAL, TEST, VAL_OR_TEST = "auto", "val", "test", "val_or_test"


@dataclass(frozen=True)
class Reading:
    """Options of the same names in the group ``data``, and in each of several sets."""

    files: str = ANY
    """Rule for images: ``any`` or ``by_suffix``, see :mod:`~cl_lightning.data.sources.class_folders`."""
    evaluate_on: str = AUTO
    """Part for evaluation: ``auto`` (``test/`` if it exists, else ``val/``), ``test``, ``val``, or ``val_or_test``, the
    rule before there was a choice: ``val/`` if it exists, else ``test/``.
    """
    test_share: float = 0.2
    """Share of each class, in (0, 1), that is for testing if there are no such parts."""
    test_split: str = PER_CLASS
    """Rule by which that share is drawn: ``per_class``, or ``per_image`` as before."""
