"""A ledger of behaviour: `make fingerprint [OUT=FILE] [COMPARE=FILE | AGAINST=COMMIT]`.

    python -m scripts.fingerprint                      numbers of short runs of every method (fingerprint.json)
    python -m scripts.fingerprint --against COMMIT     the same here and of an older commit, and the differences
    python -m scripts.fingerprint --compare FILE       the same here, and the differences from FILE
    python -m scripts.fingerprint compare OLDER NEWER  the differences of two files; nothing is run

Stored are losses and rates of every step, exemplars in order of rank, the accuracy matrix in counts, sums and norms of
weights, with commit, versions and processor. Processors round differently, so files of two machines hardly ever agree:
`--against` makes both on this one, the older in a temporary git worktree. Further key=value are given to
each run. The exit code is 1 if numbers differ or a run failed, 2 for wrong input (make itself then ends with 2).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from scripts.fingerprint.checkouts import resolved, worktree
from scripts.fingerprint.compare import compare
from scripts.fingerprint.ledger import Ledger, read_ledger, write_ledger
from scripts.fingerprint.making import Call, call, make_ledger
from scripts.fingerprint.report import lines
from scripts.fingerprint.settings import GROUPS, Group, chosen, names

ROOT = Path(__file__).resolve().parents[2]
EQUAL, DIFFERENT, WRONG, INTERRUPTED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}: type python -m scripts.fingerprint --help")


def main(arguments: Sequence[str], groups: Sequence[Group] = GROUPS, call: Call = call) -> int:
    """Execute a command line; returns the exit code."""
    try:
        if arguments[:1] == ["compare"]:
            return _compare_files(arguments[1:])
        return _make(_parse(arguments, groups), groups, call)
    except ValueError as error:
        _say(f"error: {error}")
        return WRONG
    except OSError as error:
        _say(f"error: {error.filename}: {error.strerror}")
        return WRONG
    except KeyboardInterrupt:
        _say("stopped")
        return INTERRUPTED


def _parse(arguments: Sequence[str], groups: Sequence[Group]) -> argparse.Namespace:
    parser = _Parser("python -m scripts.fingerprint", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, help="fingerprint.json; fingerprint-now.json where something is compared")
    before = parser.add_mutually_exclusive_group()
    before.add_argument("--compare", type=Path, metavar="FILE", help="what was written before")
    before.add_argument("--against", metavar="COMMIT", help="make it of this commit; kept as fingerprint-COMMIT.json")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="another checkout whose package is run")
    parser.add_argument(
        "--only", type=_listed, default=(), metavar="RUN,...", help=f"some of {','.join(names(groups))}"
    )
    parser.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, metavar="N", help="processes at a time")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for each run")
    return parser.parse_args(arguments)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number, 1 or more")
    return int(text)


def _make(asked: argparse.Namespace, groups: Sequence[Group], call: Call) -> int:
    comparing = asked.compare is not None or asked.against is not None
    out: Path = asked.out or Path("fingerprint-now.json" if comparing else "fingerprint.json")
    picked = chosen(groups, asked.only, asked.overrides)
    old = None
    if asked.compare is not None:
        old = read_ledger(asked.compare)
        if asked.compare.resolve() == out.resolve():
            raise ValueError(f"{out} would be replaced by what it is compared with: type OUT=ANOTHER")
    elif asked.against is not None:
        old = _older(asked.against, chosen(groups, asked.only), out.parent, call, asked.jobs)
    new = make_ledger(asked.checkout.resolve(), picked, _say, call, asked.jobs)
    _keep(out, new)
    if old is not None:
        return _compared(old, new, asked.only)
    return DIFFERENT if any(run.failed for run in new.runs.values()) else EQUAL


def _older(typed: str, groups: Sequence[Group], folder: Path, call: Call, jobs: int) -> Ledger:
    """Run another commit here and save its numbers, without the overrides typed, which are the change tried."""
    commit = resolved(ROOT, typed)
    with worktree(ROOT, commit) as checkout:
        _say(f"{commit}:")
        ledger = make_ledger(checkout, groups, _say, call, jobs)
    _keep(folder / f"fingerprint-{commit}.json", ledger)
    _say("the working tree:")
    return ledger


def _keep(path: Path, ledger: Ledger) -> None:
    write_ledger(path, ledger)
    _say(f"{len(ledger.runs)} runs in {ledger.seconds:.0f} s; written to {path}")


def _compare_files(arguments: Sequence[str]) -> int:
    parser = _Parser("python -m scripts.fingerprint compare", allow_abbrev=False)
    parser.add_argument("older", type=Path)
    parser.add_argument("newer", type=Path)
    asked = parser.parse_args(arguments)
    return _compared(read_ledger(asked.older), read_ledger(asked.newer), ())


def _compared(old: Ledger, new: Ledger, only: Sequence[str]) -> int:
    comparison = compare(old, new, only)
    print("\n".join(lines(comparison, old, new)))
    return DIFFERENT if comparison.differ else EQUAL


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
