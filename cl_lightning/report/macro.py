"""Class-balanced accuracies among a run's results, which those of earlier versions lack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it needs torch, reading numbers does not
    from cl_lightning.core.types import Plain


def macro_after_tasks(results: Mapping[str, Plain], protocol: str, readout: str) -> list[float | None]:
    """Return the class-balanced accuracy in [0, 1] on all classes seen, after each task; None where it is not known."""
    known = (results.get("macro_accuracy") or {}).get(protocol, {}).get(readout)
    return [None] * len(results["tasks"]) if known is None else list(known)
