"""The role of a phase, stated once: at its field in the dataclass of a method's options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

_USE = "use of the phase"


@dataclass(frozen=True)
class PhaseRole:
    """The role of a phase, as far as options of a run depend on it."""

    balanced: bool = False
    """True if it trains on small, balanced data: its epochs are times ``balanced_epochs_scale``, and it needs a memory.
    """
    first_task_if: str | None = None
    """Option of the method that has the first task train this phase in place of its main one; no other task does."""
    only_if: str | None = None
    """Option of the method that switches it on; None: it is always trained."""

    @property
    def scale(self) -> str:
        """Name of the run's scale that its epochs are multiplied by."""
        return "balanced_epochs_scale" if self.balanced else "epochs_scale"


def role(*, balanced: bool = False, first_task_if: str | None = None, only_if: str | None = None) -> dict[str, Any]:
    """Return the metadata of a phase's field; a phase without any is trained in every task, on all of its images."""
    return {_USE: PhaseRole(balanced, first_task_if, only_if)}


def role_of(field: dataclasses.Field[Any]) -> PhaseRole:
    """Return the role that is stated at the field of a phase."""
    found = field.metadata.get(_USE, PhaseRole())
    assert isinstance(found, PhaseRole)
    return found
