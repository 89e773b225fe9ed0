"""The comparison of an entry of a file, piece by piece, while ours is computed."""

from __future__ import annotations

from torch import Tensor

from scripts.reference.difference import Row, Verdict


class Series:
    """The largest difference of an entry so far, and the first one beyond its bound."""

    def __init__(self, entry: str, recorded: Tensor, bound: float) -> None:
        """Compare with ``recorded``, the file's numbers; ``bound`` is the largest difference allowed, 0 for none."""
        self.entry = entry
        self.recorded = recorded
        self.first: str | None = None
        """Description of the first difference beyond the bound."""
        self.compared = 0
        """Number of pieces so far."""
        self._bound = bound
        self._largest: float | None = None
        self._size = 0.0

    def __len__(self) -> int:
        return len(self.recorded)

    def add(self, position: str, ours: Tensor, theirs: Tensor) -> None:
        """Compare a piece. NaN on both sides means absent on both, and equal."""
        self.compared += 1
        if ours.shape != theirs.shape:
            self.differ(f"{position}: {len(ours)} here and {len(theirs)} in the file")
            return
        a, b = ours.detach().double(), theirs.double()
        absent = a.isnan()
        if not (absent == b.isnan()).all():
            self.differ(f"{position}: {'none here' if absent.any() else 'none in the file'}")
            return
        if absent.all():
            return
        off = float((a - b)[~absent].abs().max())
        self._largest = max(off, self._largest or 0.0)
        self._size = max(float(b[~absent].abs().max()), self._size)
        if not off <= self._bound:
            self.differ(f"{position}: {off:.1e} apart" if self._bound else position)

    def differ(self, note: str) -> None:
        """Store ``note`` if it is the first difference."""
        self.first = self.first or note

    def row(self) -> Row | None:
        """Return the entry's row; ``None`` where neither side has anything."""
        if self._largest is None and self.first is None:
            return None
        verdict = Verdict.EQUAL if self.first is None else Verdict.DIFFERS
        relative = self._largest / self._size if self._largest is not None and self._size else None
        note = f"first at {self.first}" if self.first else ""
        return Row(self.entry, verdict, self._largest, relative, self._bound, note)
