"""Compare our code with published numbers: `python scripts/check_reference.py FILE.npz [--summary] [--json FILE]`.

A file holds golden vectors (of a model, or of a recipe), or a recorded run of the published code, which is then
replayed from its first step to its last; the first line says which. Sizes, tasks and schedules are the file's own.

Prints for every entry the largest absolute difference, the same relative to the entry's largest value, and the bound.
Exit status: 0 where all is within its bounds, 1 where an entry differs or is lacking, 2 for wrong input.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from cl_lightning.core.errors import UserError, as_user_error
from scripts.reference.check_vectors import Comparison, compare
from scripts.reference.difference import Row, Verdict
from scripts.reference.vectors import VectorFile

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where `scripts` is, wherever this is typed
from scripts.reference.comparison import compare_run
from scripts.reference.recorded import RecordedRun, is_recorded_run

DIFFERENT = 1
WRONG_INPUT = 2
_NAMED = 5

_FOLDERS = re.compile(r"(task\d+/(?:grads|params|adamw/params|asam/perturbed|asam/params)/).+")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Compare our code with a file of published numbers.",
        epilog="Exit status: 0 if all is within its bounds, 1 if an entry differs or is lacking, 2 for wrong input.",
    )
    parser.add_argument(
        "file",
        type=Path,
        help="a .npz of golden vectors (a model's, or a recipe's), or of a recorded run, which is replayed: some "
        "seconds a task for those in tests/golden/",
    )
    parser.add_argument("--summary", action="store_true", help="the worst tensor of each group, not every one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every line here as well")
    options = parser.parse_args(arguments)
    try:
        with as_user_error():
            return _run(options)
    except (UserError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return WRONG_INPUT


def _run(options: argparse.Namespace) -> int:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the same digits at every call
    try:
        comparison = _compared(VectorFile(options.file))
    finally:
        torch.set_num_threads(threads)
    if options.json is not None:
        options.json.write_text(json.dumps(_plain(options.file, comparison), indent=1, allow_nan=False) + "\n")
    print(f"{options.file}: {comparison.title}")
    print("\n".join(_table(_summarised(comparison.rows) if options.summary else comparison.rows)))
    print(verdict(comparison))
    return 0 if comparison.passed else DIFFERENT


def _compared(file: VectorFile) -> Comparison:
    """Compare a file by its kind."""
    if not is_recorded_run(file):
        return compare(file)
    run = RecordedRun(file)
    print(f"replaying {run.name}, {run.tasks} tasks ...", file=sys.stderr)
    return compare_run(run)


def verdict(comparison: Comparison) -> str:
    """Return the last line: pass or fail, the number of entries by verdict, and the names of the first that failed."""
    counts = ", ".join(f"{comparison.counts[v]} {v.value}" for v in Verdict if comparison.counts[v])
    failed = [row.entry for row in comparison.rows if row.verdict.failed]
    named = ", ".join(failed[:_NAMED]) + (f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")
    return f"{'PASS' if comparison.passed else 'FAIL'}: {counts}" + (f" ({named})" if failed else "")


def _summarised(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield one line for the tensors of a folder that share a verdict: the worst. Excused ones are named one by one."""
    groups: dict[tuple[str, Verdict], list[Row]] = {}
    for row in rows:
        groups.setdefault((_folder(row), row.verdict), []).append(row)
    for (folder, _), members in groups.items():
        worst = max(members, key=_badness)
        if len(members) == 1:
            yield worst
        else:
            name = worst.entry.removeprefix(folder)
            note = (
                f"worst of {len(members)}: {name}" if worst.absolute is not None else f"{len(members)}, first: {name}"
            )
            yield dataclasses.replace(worst, entry=folder, note="; ".join(filter(None, (note, worst.note))))


def _folder(row: Row) -> str:
    """Return the name that an entry is summarised under: its own, unless it is one of many tensors."""
    found = _FOLDERS.fullmatch(row.entry)
    if row.verdict is Verdict.UNCHECKED:
        return row.entry.rpartition("/")[0] + "/" if "/" in row.entry else row.entry
    return found[1] if found and row.verdict is not Verdict.EXCUSED else row.entry


def _badness(row: Row) -> float:
    if row.absolute is None or math.isnan(row.absolute):
        return math.inf if row.verdict.failed else -1.0
    return row.absolute / row.bound if row.bound else row.absolute


def _table(rows: Iterable[Row]) -> Iterator[str]:
    shown = list(rows)
    width = max(len(row.entry) for row in shown)
    yield f"{'entry':{width}}  {'absolute':>9}  {'relative':>9}  {'bound':>9}  verdict"
    for row in shown:
        numbers = "  ".join(f"{_number(value):>9}" for value in (row.absolute, row.relative, row.bound))
        note = f"  ({row.note})" if row.note else ""
        yield f"{row.entry:{width}}  {numbers}  {row.verdict.value}{note}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}" if value else "0"


def _plain(path: Path, comparison: Comparison) -> dict[str, Any]:
    rows = [
        {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in dataclasses.asdict(row).items()}
        for row in comparison.rows
    ]
    return {
        "file": str(path),
        "kind": comparison.title,
        "passed": comparison.passed,
        "counts": {v.value: comparison.counts[v] for v in Verdict if comparison.counts[v]},
        "rows": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
