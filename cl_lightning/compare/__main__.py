"""``python -m cl_lightning.compare DIR...``: read the command line, compare, print."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Sequence

from cl_lightning.atomic import write_atomic
from cl_lightning.compare.collect import collect
from cl_lightning.compare.formats import Comparison, render
from cl_lightning.compare.groups import group
from cl_lightning.compare.measured import measure
from cl_lightning.compare.options import Options, parse
from cl_lightning.compare.select import refuse_mixture, select, without_unfinished
from cl_lightning.compare.statistics import baseline_among, differences, summarise
from cl_lightning.errors import UserError

WRONG, INTERRUPTED = 2, 130


def main(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code: 2 for what is not possible, 130 after Ctrl-C."""
    try:
        options = parse(arguments)
        comparison, notes = compare(options)
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        _deliver(comparison, options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {error.filename or 'the output'} cannot be written: {error.strerror}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def compare(options: Options) -> tuple[Comparison, list[str]]:
    """The comparison that was asked for, and what to know of it, in lines.

    Raises:
        UserError: runs that cannot be compared as asked.
    """
    found, notes = collect(options.places, options.leave_out)
    chosen = {run.name for run in select([measure(one) for one in found], options.only)}
    runs = [measure(one, options.evaluation, options.readout) for one in found if one.name in chosen]
    if not options.unfinished:
        runs, left = without_unfinished(runs)
        notes += left
    across = refuse_mixture(runs, options.across)
    groups, more = group(runs, across, options.across)
    baseline = baseline_among(groups, options.baseline)
    summaries = summarise(groups)
    ordered = [summary.group for summary in summaries]
    return Comparison(summaries, differences(ordered, baseline), baseline), [*notes, *more]


def _deliver(comparison: Comparison, options: Options) -> None:
    width = shutil.get_terminal_size((120, 40)).columns
    text = render(comparison, options.form, width)
    if options.figure is not None:
        from cl_lightning.compare.figure import draw, save

        save(draw(comparison.summaries), options.figure)
    if options.out is not None:
        write_atomic(options.out, text)
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without a plus-minus sign
        print(text, end="", flush=True)
    for file in filter(None, (options.out, options.figure)):
        print(f"wrote {file}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
