"""The comparison of a command line: from the files of runs to a text and a figure."""

from __future__ import annotations

import io
import sys

from cl_lightning.compare.collect import collect
from cl_lightning.compare.formats import Comparison, render
from cl_lightning.compare.groups import group
from cl_lightning.compare.measured import measure
from cl_lightning.compare.options import Options
from cl_lightning.compare.over import along
from cl_lightning.compare.select import refuse_mixture, select, without_unfinished
from cl_lightning.compare.statistics import baseline_among, differences, summarise
from cl_lightning.core.atomic_write import write_atomic
from cl_lightning.core.printable import printable, printable_lines
from cl_lightning.core.terminal import text_width


def compare(options: Options) -> tuple[Comparison, list[str]]:
    """Return the comparison that was asked for, and notes on it.

    Raises:
        UserError: runs that cannot be compared as asked.
    """
    found, notes = collect(options.paths, options.leave_out)
    chosen = {run.name for run in select([measure(one) for one in found], options.only)}
    runs = [measure(one, options.evaluation, options.readout) for one in found if one.name in chosen]
    if not options.unfinished:
        runs, more = without_unfinished(runs)
        notes += more
    across = refuse_mixture(runs, options.across)
    groups, more = group(runs, across, options.across)
    baseline = baseline_among(groups, options.baseline)
    summaries = summarise(groups)
    over, further = (None, []) if options.over is None else along(options.over, summaries, options.across)
    ordered = [summary.group for summary in summaries]
    return Comparison(summaries, differences(ordered, baseline), baseline, options.costs, over), [
        *notes,
        *more,
        *further,
    ]


def deliver(comparison: Comparison, options: Options) -> None:
    """Print or write the text, and draw the figure. Raises ``OSError`` if the disk is full or may not be written to."""
    text = render(comparison, options.form, text_width(sys.stdout))
    if options.figure is not None:
        from cl_lightning.compare.figure import draw, draw_over
        from cl_lightning.report.figure_file import save

        over = comparison.over
        save(draw(comparison.summaries) if over is None else draw_over(over), options.figure)
    if options.out is not None:
        write_atomic(options.out, text)
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without a plus-minus sign
        sys.stdout.write(printable_lines(text))
        sys.stdout.flush()
    for file in filter(None, (options.out, options.figure)):
        sys.stderr.write(f"wrote {printable(str(file))}\n")
