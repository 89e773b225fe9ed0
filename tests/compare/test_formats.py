"""Each format read back: the numbers are there, once, and nothing breaks its syntax."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from cl_lightning.compare.formats import Comparison, as_latex, render
from cl_lightning.compare.groups import group
from cl_lightning.compare.statistics import baseline_among, differences, summarise
from cl_lightning.report.layout import Grid
from tests.compare.made import measured, write_run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    for seed, last in enumerate((4, 6)):
        write_run(folder / f"a{seed}", last, seed=seed)
        write_run(folder / f"b{seed}", last + 3, seed=seed, method="wa_plus")
    write_run(folder / "alone", 3, seed=0, method="joint")
    groups, _ = group(measured(folder))
    baseline = baseline_among(groups, None)
    summaries = summarise(groups)
    return Comparison(summaries, differences([one.group for one in summaries], baseline), baseline)


def test_csv_reads_back(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv", 80))))
    assert [row["group"] for row in rows] == ["wa_plus", "dytox", "joint"]
    best, base, alone = rows
    assert float(base["last_mean"]) == pytest.approx(100 * 20 / 30, abs=1e-5)
    assert float(base["last_std"]) == pytest.approx(100 * 4 / 30 / 2**0.5, abs=1e-5)
    assert float(best["last_difference_mean"]) == pytest.approx(20)
    assert (best["pairs"], base["pairs"], best["baseline"]) == ("2", "", "dytox")
    assert (alone["runs"], alone["avg_std"], alone["pairs"]) == ("1", "", "1")
    assert (alone["last_difference_low"], float(alone["last_difference_mean"])) == (
        "",
        pytest.approx(-20 / 3, abs=1e-5),
    )
    assert [float(base[f"after_task_{task}_mean"]) for task in (1, 2, 3)] == pytest.approx([100, 75, 200 / 3], abs=1e-5)
    assert (base["seeds"], base["memory"], base["tasks"]) == ("0 1", "20 in total", "3x2")


def test_markdown_reads_back(comparison: Comparison) -> None:
    text = render(comparison, "markdown", 80)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert lines[0] == ["group", "runs", "Avg", "Last", "Forgetting", "BWT", "parameters"]
    assert lines[3] == ["`dytox`", "2", "80.56 ± 5.50", "66.67 ± 9.43", "50.00 ± 14.14", "-50.00 ± 14.14", "1,234"]
    assert lines[4] == ["`joint`", "1", "72.78", "53.33", "70.00", "-70.00", "1,234"]
    assert ["`wa_plus`", "2", "+11.67 ± 0.00", "+11.67 to +11.67", "+20.00 ± 0.00", "+20.00 to +20.00"] in lines
    assert ["`joint`", "1", "-3.89", "none for one pair", "-6.67", "none for one pair"] in lines
    assert ["`dytox`", "100.0 ± 0.0", "75.0 ± 7.1", "66.7 ± 9.4"] in lines
    assert "A single run has no deviation: `joint`." in text
    for key in ("data=pets", "tasks=3x2", "evaluates_on=test", "seeds 0, 1; class order identity; commit abc"):
        assert key in text


def test_what_runs_cost_is_shown_where_it_was_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 4)
    write_run(tmp_path / "old", 4, method="joint", multiply_adds=None)
    groups, _ = group(measured(tmp_path))
    made = Comparison(summarise(groups), [], groups[0], costs=True)
    text = render(made, "table", 100)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "cost dytox joint" in lines
    assert "parameters 1,234 1,234" in lines
    assert "multiply-adds an image 2.0 million n/a" in lines
    assert "peak memory 100.0 MiB n/a" in lines
    assert not any(line.startswith(("seconds", "peak GPU")) for line in lines), "no run has measured them"
    new, old = sorted(csv.DictReader(io.StringIO(render(made, "csv", 80))), key=lambda row: row["group"])
    assert (new["multiply_adds_mean"], old["multiply_adds_mean"]) == ("2000000", "")
    plain = render(Comparison(made.summaries, [], groups[0]), "table", 100)
    assert "multiply-adds" not in plain


def test_macro_has_a_column_where_it_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 4, uneven=True)
    write_run(tmp_path / "b", 7, method="joint")
    groups, _ = group(measured(tmp_path))
    whole = Comparison(summarise(groups), [], groups[0])
    text = render(whole, "markdown", 80)
    assert "| group | runs | Avg | Last | Macro | Forgetting | BWT | parameters |" in text
    assert "| `dytox` | 1 | 76.67 | 60.00 | 77.78 |" in text
    assert "| `joint` | 1 | 88.33 | 80.00 | n/a |" in text, "an earlier version counted no classes"
    assert "Macro: Last, each class weighing the same." in text
    assert "77.777778" in render(whole, "csv", 80)


def test_latex_is_balanced_and_escaped(comparison: Comparison) -> None:
    text = render(comparison, "latex", 80)
    for part in ("tabular", "itemize"):
        assert text.count(f"\\begin{{{part}}}") == text.count(f"\\end{{{part}}}") > 0
    tables = re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == 3
    for columns, body in tables:
        assert [body.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert all(line.count("&") == len(columns) - 1 for line in rows)
    assert r"\texttt{wa\_plus} & 2 & 92.22 $\pm$ 5.50" in text
    assert r"$-$50.00 $\pm$ 14.14" in text
    body = text.partition("\n")[2]  # behind the comment
    assert not re.search(r"(?<!\\)[%_#]", body)
    assert body.count("{") == body.count("}")


def test_latex_escapes_whatever_is_in_a_name() -> None:
    text = as_latex([Grid(["a & b"], [["`50% of $x_1 {\\y} ~^#`"]])])
    expected = r"\texttt{50\% of \$x\_1 \{\textbackslash{}y\} \textasciitilde{}\textasciicircum{}\#} \\"
    assert expected in text.splitlines()
    assert r"a \& b \\" in text.splitlines()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_terminal_table_keeps_to_its_width(comparison: Comparison, width: int) -> None:
    text = render(comparison, "table", width)
    assert max(map(len, text.splitlines())) <= width
    if width > 60:
        assert "dytox    2     80.56 ± 5.50  66.67 ± 9.43  50.00 ± 14.14  -50.00 ± 14.14  1,234" in text.splitlines()


def test_many_tasks_are_written_below_each_other(tmp_path: Path) -> None:
    names = tuple((f"class {task}",) for task in range(11))
    write_run(tmp_path / "a", 5, done=11, tasks=[1] * 11, classes=11, names=names)
    groups, _ = group(measured(tmp_path))
    text = render(Comparison(summarise(groups), [], groups[0]), "markdown", 80)
    assert "| classes seen | `dytox` |" in text
    assert "| 11 | 54.5 |" in text


def told(folder: Path, form: str = "markdown") -> str:
    groups, _ = group(measured(folder))
    return render(Comparison(summarise(groups), [], groups[0]), form, 80)


def test_methods_that_are_not_of_one_origin_are_told_apart(tmp_path: Path) -> None:
    for method in ("wa", "joint", "mine", "icarl"):
        write_run(tmp_path / method, 5, method=method, method_options={"encoder": "cnn"}, model="resnet8")
    write_run(tmp_path / "dytox", 5, model="vit_tiny_patch16_224", method_options={"encoder": "transformer"})
    text = told(tmp_path)
    assert "origin=" not in text
    after = text.partition("What the methods are:\n")[2].partition("\n\nAcc")[0]
    assert after.split("\n")[1:] == [
        "- published recipe (the authors' method and published recipe; how the papers' tables were made is not known): "
        "`icarl`, `wa`.",
        "- adaptation (the authors' idea in another network or setting than theirs): `dytox`.",
        "- reference (no paper's method: a bound or a control): `joint`.",
        "- not recorded: `mine`.",
    ]
    rows = list(csv.DictReader(io.StringIO(told(tmp_path, "csv"))))
    assert {row["group"]: row["origin"] for row in rows} == {
        "wa": "published recipe", "icarl": "published recipe", "joint": "reference", "mine": "not recorded",
        "dytox": "adaptation",
    }  # fmt: skip


def test_of_one_origin_is_said_once(tmp_path: Path) -> None:
    write_run(tmp_path / "wa", 5, method="wa", model="resnet8")
    write_run(tmp_path / "icarl", 5, method="icarl", model="resnet18")
    text = told(tmp_path)
    assert "; origin=published recipe." in text
    assert "What the methods are" not in text
