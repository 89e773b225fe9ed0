"""Differences of two tensors, and the verdict against a bound."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Verdict(StrEnum):
    """The verdict on an entry."""

    EQUAL = "equal"
    """Within its bound."""
    DIFFERS = "DIFFERS"
    """Beyond its bound, not finite, or of another shape."""
    LACKING = "LACKING"
    """Part of the format, and not in the file."""
    EXCUSED = "excused"
    """Has no true value to compare with; the note says why."""
    ABSENT = "not in this file"
    """Optional, and not in the file."""
    UNCHECKED = "not checked"
    """In the file, and nothing that we know of."""

    @property
    def failed(self) -> bool:
        """True if the file is not reproduced."""
        return self in (Verdict.DIFFERS, Verdict.LACKING)


@dataclass(frozen=True)
class Row:
    """One entry of a file, compared."""

    entry: str
    """Its name in the file."""
    verdict: Verdict
    absolute: float | None = None
    """Largest absolute difference; ``None`` where nothing was subtracted."""
    relative: float | None = None
    """``absolute`` over the largest magnitude of the file's tensor; ``None`` where that is 0."""
    bound: float | None = None
    """Largest ``absolute`` allowed."""
    note: str = ""


def difference(entry: str, ours: Tensor | None, theirs: Tensor, bound: float) -> Row:
    """Compare a tensor of the file with ours, in float64.

    Args:
        entry: its name in the file.
        ours: ``None`` where there is none of ours: the file then must hold an empty tensor.
        theirs: the file's tensor. Empty means "none", so that a tensor of ours with elements differs.
        bound: largest absolute difference, >= 0.

    Returns:
        ``EQUAL`` or ``DIFFERS``. Values that are not finite differ, even from themselves.
    """
    if ours is None or ours.shape != theirs.shape:
        return _unlike(entry, ours, theirs)
    if not theirs.numel():
        return Row(entry, Verdict.EQUAL, 0.0, 0.0, bound)
    a, b = ours.detach().double(), theirs.double()
    absolute, size = (a - b).abs().max().item(), b.abs().max().item()
    relative = absolute / size if size else None
    finite = bool(a.isfinite().all() and b.isfinite().all())
    verdict = Verdict.EQUAL if finite and absolute <= bound else Verdict.DIFFERS
    return Row(entry, verdict, absolute, relative, bound, "" if finite else "not finite")


def _unlike(entry: str, ours: Tensor | None, theirs: Tensor) -> Row:
    if ours is None and not theirs.numel():
        return Row(entry, Verdict.EQUAL, note="none on either side")
    here = "none" if ours is None else f"shape {tuple(ours.shape)}"
    there = f"shape {tuple(theirs.shape)}" if theirs.numel() else "none (empty)"
    return Row(entry, Verdict.DIFFERS, note=f"{here} here, {there} in the file")


def failure(entry: str, note: str) -> Row:
    """Return the row of an entry that cannot be compared because it is wrong itself."""
    return Row(entry, Verdict.DIFFERS, note=note)


def lacking(entry: str) -> Row:
    """Return the row of a missing entry that the format requires."""
    return Row(entry, Verdict.LACKING)


def absent(entry: str) -> Row:
    """Return the row of an optional entry, or folder of entries, that is missing."""
    return Row(entry, Verdict.ABSENT)
