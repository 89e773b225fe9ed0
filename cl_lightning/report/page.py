"""The page ``report.html``: one file that opens anywhere, offline, light or dark, on a phone and on paper."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cl_lightning.core.printable import printable
from cl_lightning.core.types import Plain
from cl_lightning.report import figures, pictures
from cl_lightning.report.data import ReportInput
from cl_lightning.report.figures import Draw, after_phases, main_matrix, percent, task_confusion

_STYLE = """
:root{color-scheme:light dark;--ink:#16181b;--soft:#5b626b;--paper:#fcfcfb;--card:#f2f3f1;--line:#d6d9d5}
@media (prefers-color-scheme:dark){:root{--ink:#e7e9ea;--soft:#9aa3ab;--paper:#15171a;--card:#1f2327;--line:#373d43}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:74rem;padding:1.2rem;background:var(--paper);color:var(--ink);
 font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0}
h2{font-size:1.05rem;margin:0 0 .5rem}
p{margin:.4rem 0}
.soft,figcaption,.tile span{color:var(--soft)}
.note{border-left:3px solid;padding-left:.7rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.7rem;margin:1rem 0}
.tile{background:var(--card);border-radius:.5rem;padding:.6rem .8rem}
.tile b{display:block;font-size:1.25rem;white-space:nowrap;font-variant-numeric:tabular-nums}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,29rem),1fr));gap:1rem;
 grid-auto-flow:dense}
section{border:1px solid var(--line);border-radius:.5rem;padding:.9rem 1rem;min-width:0}
.grid>.all{grid-column:1/-1}
figure{margin:0}
figure svg{width:100%;height:auto;display:block;margin:auto}
figcaption{font-size:.9rem;margin-top:.4rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.15rem .55rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
td.text,th.text{text-align:left;vertical-align:top}
td.text{white-space:normal;overflow-wrap:anywhere}
details summary{cursor:pointer;color:var(--soft);margin-top:.5rem}
.memory{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.6rem}
.memory div{min-width:0;font-size:.85rem}
.memory img{display:block;max-width:100%;height:2.4rem;object-fit:contain;object-position:left;
 image-rendering:pixelated}
@media print{:root{--ink:#000;--soft:#444;--paper:#fff;--card:#f2f2f2;--line:#bbb}
 body{font-size:10.5pt;max-width:none;padding:0}.grid{display:block}
 section{break-inside:avoid;margin:0 0 .8rem}details{display:none}figure svg{max-height:10cm}}
"""


@dataclass(frozen=True)
class Section:
    """A figure of the page, with its title and caption."""

    name: str
    title: str
    draw: Draw
    caption: Callable[[ReportInput], str]
    wide: bool = False


def _accuracy_caption(run: ReportInput) -> str:
    caption = "After each task, the share of right answers to the test images of all classes learnt so far."
    published = run.data.published
    if published is None:
        return caption + " No published curve of this very protocol is known."
    return f"{caption} Dashed: published, {published.name} ({published.source})."


def _phases_caption(run: ReportInput) -> str:
    protocol = run.results["protocol"]["evaluation"]
    return (
        f"On all classes learnt so far, {_COMPETING[protocol]}, when a phase had ended and the rest of its task "
        "was still to come; by the read-outs that existed by then."
    )


_COMPETING = {
    "class_incremental": "all classes seen competing",
    "task_incremental": "its own classes competing",
}


def _tasks_caption(run: ReportInput) -> str:
    competing = _COMPETING[run.results["protocol"]["evaluation"]]
    return f"Accuracy on the test images of one task, {competing}."


def _confusion_caption(run: ReportInput) -> str:
    share = task_confusion(run)
    assert share is not None
    apart = np.nan_to_num(share - np.diag(np.diag(share)))
    row, column = np.unravel_index(apart.argmax(), apart.shape)
    newest = apart[:-1, -1].mean()
    return (
        f"After the last task, all classes competing. Most often images of task {row + 1} are taken for classes of "
        f"task {column + 1} ({apart[row, column]:.1f} %); old tasks lose {newest:.1f} % of their images to the newest "
        "on average."
    )


def _calibration_caption(run: ReportInput) -> str:
    competing = "" if run.results["protocol"]["evaluation"] == "class_incremental" else " Here all classes compete."
    return (
        "Answers in ten bins of confidence, the larger the point the more images; the error is the mean distance "
        f"between confidence and accuracy.{competing} {run.data.probabilities}"
    ).strip()


def _fixed(text: str) -> Callable[[ReportInput], str]:
    return lambda run: text


SECTIONS = (
    Section("accuracy", "Accuracy on all classes seen", figures.accuracy, _accuracy_caption),
    Section("phases", "Accuracy after each phase", figures.phases, _phases_caption),
    Section("matrix", "Accuracy matrix", figures.matrix, _fixed("By the main protocol and read-out.")),
    Section("tasks", "Each task over time", figures.tasks_over_time, _tasks_caption),
    Section(
        "forgetting",
        "Forgetting",
        figures.forgetting,
        _fixed("Best accuracy of an old task so far, less its present one (Chaudhry et al. 2018)."),
    ),
    Section("confusion", "Which tasks lose to which", figures.confusion, _confusion_caption),
    Section("calibration", "Confidence and accuracy", figures.calibration, _calibration_caption),
    Section(
        "losses", "Loss", figures.losses, _fixed("Terms as they are summed, on one axis over all phases."), wide=False
    ),
    Section("rate", "Learning rate", figures.learning_rate, _fixed("Dotted lines: a new task.")),
    Section(
        "tokens",
        "What tasks brought",
        figures.tokens,
        _fixed("Cosine of the angle between what two tasks brought to the network: their tokens, or banks of keys."),
    ),
    Section("speed", "Time", figures.speed, _fixed("Training alone, without evaluation and herding.")),
    Section(
        "attention",
        "Where the network looks for each task",
        figures.attention,
        _fixed("Share of each patch in what is read for a task, mean over heads; bright is more."),
        wide=True,
    ),
)
"""Sections of the page, in order."""


def page(run: ReportInput, drawn: Mapping[str, str]) -> str:
    """Return the page's HTML; ``drawn`` has the figures (SVG) by section."""
    parts: list[str] = []
    for section in SECTIONS:
        if section.name in drawn:
            parts.append(_figure(section, run, drawn[section.name]))
            parts += [_TABLES[section.name](run)] if section.name in _TABLES else []
    parts += [_confused_classes(run), _memory(run), _images(run), _left_out(run)]
    parts.append(_table("Protocol", run.results["protocol"]))
    parts.append(_table("Provenance", run.results["provenance"]))
    body = "\n".join(part for part in parts if part)
    title = _escaped(_title(run))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{_head(run, title)}\n"
        f'<main class="grid">\n{body}\n</main>\n</body>\n</html>\n'
    )


def _title(run: ReportInput) -> str:
    protocol = run.results["protocol"]
    return f"{protocol['method']} on {protocol['data']}, {len(protocol['tasks'])} tasks, seed {protocol['seed']}"


def _head(run: ReportInput, title: str) -> str:
    results = run.results
    protocol, done = results["protocol"], len(results["tasks"])
    unfinished = (
        "" if done == len(protocol["tasks"]) else f" <b>Unfinished: {done} of {len(protocol['tasks'])} tasks.</b>"
    )
    conditions = (
        f"{_hyphenated(protocol['evaluation'])}, read-out {protocol['readout']}; {protocol['model']}, memory "
        f"{protocol['memory']}, recipe {protocol['recipe']}, {protocol['precision']}; "
        f"started {results['provenance'].get('started', 'at an unknown time')}"
    )
    tiles = [
        ("average incremental accuracy", _percent(results["average_incremental_accuracy"])),
        ("last accuracy", _percent(results["last_accuracy"])),
        *_class_balanced(results),
        ("forgetting", _percent(results["forgetting"])),
        ("backward transfer", _percent(results["backward_transfer"])),
        ("parameters", f"{results['parameters']:,}"),
        ("time", _time(results["provenance"].get("seconds"))),
    ]
    notes = "".join(f'<p class="note">{_escaped(note)}.</p>\n' for note in results.get("notes", []))
    made = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles)
    return (
        f'<header>\n<h1>{title}</h1>\n<p class="soft">{_escaped(conditions)}.{unfinished}</p>\n{notes}'
        f'<div class="tiles">{made}</div>\n</header>'
    )


def _class_balanced(results: Mapping[str, Plain]) -> list[tuple[str, str]]:
    """Return a tile where the classes' test images are unequal in number, so that their balance makes a difference."""
    last, macro = results["last_accuracy"], results.get("last_macro_accuracy")
    if last is None or macro is None or math.isclose(last, macro, rel_tol=1e-9):
        return []
    return [("last accuracy, each class weighing the same", _percent(macro))]


def _figure(section: Section, run: ReportInput, svg: str) -> str:
    inline = pictures.inline_svg(svg, section.name, _escaped(section.title))
    caption = _escaped(section.caption(run))
    return _section(
        section.name, section.title, f"<figure>{inline}<figcaption>{caption}</figcaption></figure>", section.wide
    )


def _section(name: str, title: str, inside: str, wide: bool = False) -> str:
    return f'<section id="{name}"{" class=all" if wide else ""}>\n<h2>{_escaped(title)}</h2>\n{inside}\n</section>'


def _matrix_table(run: ReportInput) -> str:
    R = main_matrix(run)
    seen = [percent(t["accuracy"][run.results["protocol"]["evaluation"]][run.results["protocol"]["readout"]])
            for t in run.results["tasks"]]  # fmt: skip
    head = "".join(f"<th>{task + 1}</th>" for task in range(len(R)))
    rows = "".join(
        f"<tr><th>{after + 1}</th>{''.join(f'<td>{_number(value)}</td>' for value in row)}"
        f"{'<td></td>' * (len(R) - len(row))}<td><b>{_number(all_seen)}</b></td></tr>"
        for after, (row, all_seen) in enumerate(zip(R, seen, strict=True))
    )
    table = f"<table><thead><tr><th>after</th>{head}<th>all seen</th></tr></thead><tbody>{rows}</tbody></table>"
    note = '<p class="soft">Accuracy in % after task (row) on task (column).</p>'
    return _section("numbers", "The numbers", f'<div class="scroll">{table}</div>{note}')


def _phases_table(run: ReportInput) -> str:
    curves = after_phases(run)
    head = "".join(f"<th>{_escaped(name)}</th>" for name in curves)
    rows = "".join(
        f"<tr><th>{task + 1}</th>{''.join(f'<td>{_number(value)}</td>' for value in values)}</tr>"
        for task, values in enumerate(zip(*curves.values(), strict=True))
    )
    table = f"<table><thead><tr><th>task</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    note = (
        '<p class="soft">Accuracy in % on all classes learnt so far, after phase or task (column) and by read-out.</p>'
    )
    return _section("phase_numbers", "After each phase, the numbers", f'<div class="scroll">{table}</div>{note}')


_TABLES = {"phases": _phases_table, "matrix": _matrix_table}
"""Tables that follow a figure."""


def _confused_classes(run: ReportInput, most: int = 12) -> str:
    counts = run.data.confusion
    if counts is None:
        return ""
    names = [name for task in run.results["tasks"] for name in task["names"]]
    apart = counts - np.diag(np.diag(counts))
    order = np.argsort(apart, axis=None, kind="stable")[::-1][:most]
    pairs = [divmod(int(at), len(counts)) for at in order]
    rows = "".join(
        f'<tr><td class="text">{_escaped(names[i])}</td><td class="text">{_escaped(names[j])}</td>'
        f"<td>{apart[i, j]}</td><td>{100 * apart[i, j] / max(1, counts[i].sum()):.1f}</td></tr>"
        for i, j in pairs
        if apart[i, j]
    )
    if not rows:
        return ""
    head = '<tr><th class="text">images of</th><th class="text">taken for</th><th>images</th><th>%</th></tr>'
    return _section("classes", "Classes most often confused", f'<div class="scroll"><table>{head}{rows}</table></div>')


def _memory(run: ReportInput) -> str:
    exemplars, counts = run.data.exemplars, run.data.exemplar_counts
    if not exemplars:
        return ""
    names = [name for task in run.results["tasks"] for name in task["names"]]
    cells = "".join(
        f'<div>{_escaped(names[label])} <span class="soft">{counts[label]}</span>'
        f'<img alt="exemplars of {_escaped(names[label])}" src="{pictures.strip(images)}"></div>'
        for label, images in sorted(exemplars.items())
    )
    summary = f"{sum(counts.values())} images of {len(counts)} classes; the first of each class, in order of herding."
    return _section("memory", "Memory", f'<p class="soft">{summary}</p><div class="memory">{cells}</div>', wide=True)


def _images(run: ReportInput) -> str:
    """Return the table of numbers of images and of equal images; empty for results of earlier versions."""
    if "images" not in run.results:
        return ""
    cells: dict[str, Plain] = {}
    for part, images in run.results["images"].items():
        known = {name: count for name, count in images.items() if count is not None}
        few, many = (end(known, key=lambda name: known[name]) for end in (min, max)) if known else ("", "")
        cells[part] = (
            f"{sum(known.values())} images of {len(known)} classes: {known[few]} of {few} to {known[many]} of {many}; "
            f"content {run.results['data_identity'][part] or 'not known'}"
            if known
            else "not known"
        )
    for name, equal in run.results["equal_images"].items():
        pairs = ", ".join(f"{one} is {two}" for one, two in equal["examples"])
        cells[f"equal images: {_hyphenated(name).replace('-', ' ')}"] = (
            f"{equal['images']}{f' ({pairs})' if pairs else ''}"
        )
    return _table("Images", cells)


def _left_out(run: ReportInput) -> str:
    """Return the table of files in the data folder that are no images."""
    kinds = run.results.get("left_out") or []
    rows = "".join(
        f'<tr><td>{each["count"]}</td><td class="text">{_escaped(each["kind"])}</td>'
        f'<td class="text">{_escaped(each["example"])}</td></tr>'
        for each in kinds
    )
    head = '<tr><th>number</th><th class="text">of</th><th class="text">for example</th></tr>'
    table = f'<div class="scroll"><table>{head}{rows}</table></div>'
    return _section("left_out", "Left out of the data folder", table) if kinds else ""


def _table(title: str, values: Mapping[str, Plain]) -> str:
    rows = "".join(
        f'<tr><th class="text">{_escaped(name)}</th><td class="text">{_escaped(_plain(value))}</td></tr>'
        for name, value in values.items()
        if name not in ("tasks", "phases") or title == "Protocol"
    )
    return _section(title.lower(), title, f'<div class="scroll"><table>{rows}</table></div>')


def _plain(value: Plain) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_plain(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_plain, value))
    return str(value)


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f} %"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "n/a"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")


def _escaped(text: str) -> str:
    """Escape a text for HTML; characters that change the writing direction become escapes."""
    return html.escape(printable(text))
