"""The report of a comparison as text."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.fingerprint.compare import Comparison
from scripts.fingerprint.ledger import Ledger


def lines(comparison: Comparison, old: Ledger, new: Ledger) -> Iterator[str]:
    """Yield the lines of a comparison, the verdict last."""
    yield f"older: {_package(old)}; newer: {_package(new)}"
    if comparison.elsewhere:
        yield f"not made on one machine with one set of versions ({'; '.join(comparison.elsewhere)}):"
        yield "  numbers may differ by rounding alone; make both here: make fingerprint AGAINST=COMMIT"
    for line in comparison.settings:
        yield f"not run alike, {line}"
    if comparison.equal:
        yield f"equal: {', '.join(comparison.equal)}"
    for name, differences in comparison.differ.items():
        yield f"DIFFERENT: {name}"
        for difference in differences:
            yield f"  {difference.kind:<9}  {difference.how}"
    total = len(comparison.differ) + len(comparison.equal)
    yield f"{len(comparison.differ)} of {total} runs differ" if comparison.differ else f"no difference in {total} runs"


def _package(ledger: Ledger) -> str:
    return f"{ledger.package.get('version') or 'unknown version'}, commit {ledger.package.get('commit') or 'unknown'}"
