"""The page holds the run's numbers, needs nothing beside itself, and is there for whatever a run has to show."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_lightning.report import drawing, figures, training_figures
from cl_lightning.report.__main__ import main
from cl_lightning.report.dashboard import panels
from cl_lightning.report.data import ReportData, ReportInput, read_report_data, read_report_input, write_report_data
from cl_lightning.report.heading import facts
from cl_lightning.report.page import page
from cl_lightning.report.sections import SECTIONS
from cl_lightning.report.write import write_report
from tests.report.a_run import CONFUSION, full_report_data, stored, write_run

pytestmark = pytest.mark.slow


class Outline(HTMLParser):
    """Elements, their nesting, texts by section, and whatever would be fetched."""

    VOID = frozenset({"meta", "img", "br", "path", "use", "rect", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.sections: dict[str, str] = {}
        self.fetched: list[str] = []
        self.lost: list[str] = []
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if named.get("id"):
            self.ids.append(str(named["id"]))
        if tag == "section":
            self._section = str(named["id"])
            self.sections[self._section] = ""
        for name in ("src", "href", "xlink:href"):
            value = named.get(name)
            if value and not value.startswith(("data:", "#")):
                self.fetched.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.lost.append(tag)

    def handle_data(self, data: str) -> None:
        if self._section and "style" not in self.open:
            self.sections[self._section] += data + " "


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("report") / "run")
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    return Outline(text)


def test_the_page_is_whole_and_needs_nothing_else(text: str, outline: Outline) -> None:
    assert not outline.lost
    assert not outline.open
    assert not outline.fetched
    assert "url(http" not in text
    assert "@import" not in text
    assert not re.findall(r"<script|<link", text)
    assert len(set(outline.ids)) == len(outline.ids), "figures bring ids of their own"
    for reference in re.findall(r'(?:href="|url\()#([^")]+)', text):
        assert reference in outline.ids


def test_every_section_is_there_and_every_figure_is_a_file_too(run: Path, outline: Outline) -> None:
    names = [section.name for section in SECTIONS]
    more = {
        "facts", "numbers", "phase_numbers", "classes", "each_class", "memory", "images", "costs", "protocol",
        "provenance",
    }  # fmt: skip
    assert set(names) | more == set(outline.sections)
    for name in names:
        assert (run / "report" / f"{name}.svg").read_text().lstrip().startswith("<?xml")
        with Image.open(run / "report" / f"{name}.png") as picture:
            assert picture.width > 300
            assert len(picture.getcolors(1 << 20) or []) > 2, "something is drawn"


def test_numbers(outline: Outline, text: str) -> None:
    numbers = outline.sections["numbers"].split()
    assert [float(word) for word in numbers if re.fullmatch(r"\d+\.\d", word)] == [
        90.0, 90.0, 70.0, 80.0, 73.3, 60.0, 60.0, 90.0, 67.5,
    ]  # fmt: skip
    phases = "task main, linear tune, linear whole task, linear 1 85.0 n/a 90.0 2 60.0 72.0 73.3 3 42.5 67.5 67.5"
    assert phases in " ".join(outline.sections["phase_numbers"].split()), "in the first task nothing is tuned"
    assert "parameters 1,002 multiply-adds an image n/a" in " ".join(outline.sections["costs"].split())
    head = text[text.index("<header>") : text.index("</header>")]
    for told in ("76.9 %", "67.5 %", "25.0 %", "1 min 15 s", "1,002", "keeps all of the 20 &lt;i&gt;training"):
        assert told in head
    assert "DyTox, somewhere (Table 9)" in outline.sections["accuracy"]
    assert "sigmoid" in outline.sections["calibration"]
    # Of the 50 images of task 2, 14 were taken for task 3; 10 of 100 of task 1 are, and 28 % on the average of both.
    assert "images of task 2 are taken for classes of task 3 (28.0 %)" in outline.sections["confusion"]
    assert "19.0 %" in outline.sections["confusion"]
    assert "8 images of 2 classes" in outline.sections["memory"]


def test_images_are_counted_and_equal_ones_named(outline: Outline) -> None:
    told = " ".join(outline.sections["images"].split())
    assert "train 120 3 30 (dog) 50 (<b>lynx</b> & co) 0123abcd" in told
    assert "test 200 4 50 (every class) 50 (every class) not known" in told
    assert "train and test 2 train/fox/1.png is val/fox/2.png" in told
    assert "two classes 0" in told


def test_each_class_has_its_images_and_what_became_of_them(outline: Outline) -> None:
    """An image count that is not known is no zero; of the 50 images of class 3, 30 are right and 14 taken for a fox."""
    told = " ".join(outline.sections["each_class"].split())
    assert "class task train images test images exemplars right in % else most often taken for" in told
    assert "cat 1 n/a 50 7 60.0 dog (20.0 %)" in told
    assert "<b>lynx</b> & co 2 50 50 0 60.0 fox (28.0 %)" in told
    assert "Best: fox (90.0 %). Worst: cat (60.0 %)." in told


def test_classes_most_often_confused_come_first(outline: Outline) -> None:
    words = outline.sections["classes"].split()
    assert words[words.index("%") + 1 :][:6] == ["<b>lynx</b>", "&", "co", "fox", "14", "28.0"]
    assert CONFUSION[2, 3] == 14


def test_what_was_left_out_of_the_data_folder_is_a_table(run: Path) -> None:
    shown, left_out = read_report_input(run), [{"kind": ".<b> files", "count": 3, "example": "a/&.b"}]
    assert "Left out" not in page(shown, {}), "no folder was searched"
    nothing = page(dataclasses.replace(shown, results={**shown.results, "left_out": []}), {})
    assert "Nothing: every file in it is an image" in nothing
    text = page(dataclasses.replace(shown, results={**shown.results, "left_out": left_out}), {})
    assert '<td>3</td><td class="text">.&lt;b&gt; files</td><td class="text">a/&amp;.b</td>' in text


def test_names_are_text_and_not_markup(text: str) -> None:
    assert "<b>lynx" not in text
    assert "&lt;b&gt;lynx&lt;/b&gt; &amp; co" in text


def test_the_page_is_a_function_of_the_files(run: Path, text: str) -> None:
    write_report(run)
    assert (run / "report.html").read_text(encoding="utf-8") == text


def test_report_data_survives_its_files(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    found, given = read_report_data(folder), full_report_data()
    assert found.published == given.published
    assert found.exemplar_counts == given.exemplar_counts
    for name in ("confusion", "reliability", "tokens", "attended", "attention"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    write_report_data(folder, dataclasses.replace(given, folder="pets", has_published=False))
    again = read_report_data(folder)
    assert (again.folder, again.has_published) == ("pets", False)
    np.testing.assert_array_equal(found.exemplars[3], given.exemplars[3])


def test_a_run_with_little_to_show_has_a_page_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ReportData())
    (folder / "metrics.csv").unlink()
    results = stored(folder)
    del results["phase_accuracy"]
    (folder / "results.json").write_text(json.dumps(results))
    outline = Outline(write_report(folder).read_text(encoding="utf-8"))
    assert {
        "accuracy", "facts", "matrix", "tasks", "forgetting", "speed", "numbers", "each_class", "images", "costs",
        "protocol", "provenance"
    } == set(outline.sections)  # fmt: skip
    assert "No published curve" not in outline.sections["accuracy"], "it is not known whether there could be one"


def test_no_published_curve_is_missed_where_nothing_was_published(run: Path) -> None:
    shown = read_report_input(run)
    for there_are in (True, False):
        data = dataclasses.replace(shown.data, published=None, has_published=there_are)
        text = page(dataclasses.replace(shown, data=data), {"accuracy": "<svg viewBox='0 0 9 9'></svg>"})
        assert ("No published curve of this very protocol is known" in text) == there_are


def test_own_pictures_are_called_by_their_folder(run: Path) -> None:
    shown = read_report_input(run)
    results = {**shown.results, "protocol": {**shown.results["protocol"], "data": "image_folder"}}
    text = page(ReportInput(results, (), dataclasses.replace(shown.data, folder="my <i>pets")), {})
    assert "<title>dytox on my &lt;i&gt;pets" in text
    assert "my &lt;i&gt;pets (image_folder)" in text
    assert "dytox on image_folder" in page(ReportInput(results, (), ReportData()), {}), "a page of an earlier version"


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([5, 1], "2 tasks: 5 classes, then 1"),
        ([5, 1, 1], "3 tasks: 5 classes, then 1 each"),
        ([2, 2], "2 tasks of 2 classes"),
        ([4], "1 task of 4 classes"),
    ],
)
def test_tasks_in_words(run: Path, tasks: list[int], words: str) -> None:
    shown = read_report_input(run)
    results = {**shown.results, "protocol": {**shown.results["protocol"], "tasks": tasks}}
    (found,) = [fact.value for fact in facts(dataclasses.replace(shown, results=results)) if fact.name == "Tasks"]
    assert found == words


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        (
            {"model": "convit_tiny"},
            ["published: the authors' method; its defaults are their network and schedule, as far as these are known"],
        ),
        ({"method": "finetune"}, ["reference: no paper's method: a bound or a control"]),
        ({"origin": "adaptation"}, ["adaptation: the authors' idea in another network or setting than theirs"]),
        ({"method": "mine"}, []),
    ],
)
def test_what_the_method_is_stands_at_the_head(tmp_path: Path, protocol: dict[str, str], told: list[str]) -> None:
    """Also of runs from before there were labels, if the method is one of this package."""
    folder = write_run(tmp_path / "run")
    results = stored(folder)
    (folder / "results.json").write_text(json.dumps({**results, "protocol": {**results["protocol"], **protocol}}))
    assert [fact.value for fact in facts(read_report_input(folder)) if fact.name == "Origin"] == told


def test_tasks_without_test_images_have_no_numbers(tmp_path: Path) -> None:
    """As in a run that learnt one more task on another machine: what is not known is no zero."""
    report_data = full_report_data()
    assert report_data.confusion is not None
    unknown = report_data.confusion.copy()
    unknown[:2] = 0
    folder = write_run(tmp_path / "run", dataclasses.replace(report_data, confusion=unknown))
    results = stored(folder)
    rows = results["accuracy_matrix"]["class_incremental"]["linear"]
    rows[2][0] = None
    results["tasks"][2]["accuracy"]["class_incremental"]["linear"] = None
    results |= {"last_accuracy": None, "average_incremental_accuracy": None, "forgetting": None}
    (folder / "results.json").write_text(json.dumps(results))
    outline = Outline(write_report(folder).read_text(encoding="utf-8"))
    assert "3 n/a 60.0 90.0 n/a" in " ".join(outline.sections["numbers"].split())
    assert "nan" not in " ".join(outline.sections.values()).lower().split()
    assert "images of task 2 are taken for classes of task 3" in outline.sections["confusion"]


def test_equal_curves_are_one_and_a_given_task_is_reported(run: Path) -> None:
    shown = read_report_input(run)
    protocol, tasks = shown.results["protocol"], shown.results["tasks"]
    protocol["evaluation"] = "task_incremental"
    matrices = shown.results["accuracy_matrix"]
    matrices["task_incremental"] = matrices["class_incremental"]
    for index, task in enumerate(tasks):
        own = {"linear": 0.9 - 0.1 * index, "entropy": 0.9 - 0.1 * index, "class_mean": 0.5}
        task["accuracy"] = {"task_incremental": own, "class_incremental": {"linear": 0.2, "entropy": 0.3}}
    (axes,) = figures.accuracy(shown).axes
    curves = [line for line in axes.lines if line.get_label() != "_nolegend_"]
    drawn = {line.get_label(): (line.get_linestyle(), line.get_color(), line.get_ydata()[-1]) for line in curves}
    first, second, third, fourth = drawing.COLOURS[:4]
    assert drawn.pop("published: DyTox, somewhere")[0] == "--"
    assert drawn == {
        "task-incremental, linear = entropy": ("-", first, pytest.approx(70)),
        "task-incremental, class_mean": ("-", second, pytest.approx(50)),
        "class-incremental, linear": (":", third, pytest.approx(20)),
        "class-incremental, entropy": (":", fourth, pytest.approx(30)),
    }
    ends = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert ends["task-incremental, linear = entropy: 70.0"] == "bold", "what the run is measured by"
    assert list(ends.values()).count("bold") == 1
    captions = {section.name: section.caption for section in SECTIONS}
    assert captions["tasks"](shown).endswith("its own classes competing.")
    assert "Here all classes compete." in captions["calibration"](shown)
    assert "compete" not in captions["calibration"](read_report_input(run))


def test_phases_are_drawn_where_they_ended(run: Path) -> None:
    """Read-outs that did not exist after a phase have no points, and the whole task is that of the main one."""
    shown = read_report_input(run)
    protocol = shown.results["protocol"]
    protocol["readout"] = "nme"
    for task in shown.results["tasks"]:
        task["accuracy"]["class_incremental"]["nme"] = 0.5
    figure = figures.phases(shown)
    assert figure is not None
    drawn = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert drawn == {
        "after main, linear": pytest.approx([85, 60, 42.5]),
        "after tune, linear": pytest.approx([math.nan, 72, 67.5], nan_ok=True),
        "after the whole task, nme": pytest.approx([50, 50, 50]),
    }
    assert list(figure.axes[0].lines[0].get_xdata()) == [2, 3, 4]
    protocol["readout"] = "linear"
    tables = panels(shown).tables
    assert tables["accuracy_after_phases"][1][:2] == [(1, "main", "linear", 85.0), (2, "main", "linear", 60.0)]
    del shown.results["phase_accuracy"]
    assert figures.phases(shown) is None
    assert list(panels(shown).tables) == ["accuracy"]


def test_a_term_of_the_loss_with_a_single_point_is_seen(run: Path) -> None:
    """A short run has one row of a phase: without a marker, a line of one point is nothing."""
    curves = ({"step": 5.0, "loss/a": 1.0}, {"step": 9.0, "loss/a": 0.5, "loss/b": 0.2})
    (axes,) = training_figures.losses(dataclasses.replace(read_report_input(run), curves=curves)).axes
    assert [line.get_markevery() for line in axes.lines] == [1, 1]


def test_what_never_forgets_has_an_axis_that_starts_at_zero(run: Path) -> None:
    shown = read_report_input(run)
    (axes,) = figures.forgetting(shown).axes
    assert axes.get_ylim()[1] == pytest.approx(1.05 * 30), "its own scale: the most forgotten task lost 30 points"
    shown.results["accuracy_matrix"]["class_incremental"]["linear"] = [[0.5], [0.5, 0.7], [0.5, 0.7, 0.9]]
    (axes,) = figures.forgetting(shown).axes
    assert axes.get_ylim() == (0, 1)


def test_a_folder_without_a_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "has no results.json" in capsys.readouterr().err
    (tmp_path / "results.json").write_text("{]")
    with pytest.raises(ValueError, match="no results.json of a run"):
        read_report_input(tmp_path)


def test_the_class_balanced_accuracy_is_told_where_it_differs(tmp_path: Path) -> None:
    run = read_report_input(write_run(tmp_path / "run"))
    for macro, shown in ((None, False), (run.results["last_accuracy"], False), (0.5, True)):
        told = dataclasses.replace(run, results={**run.results, "last_macro_accuracy": macro})
        assert ("each class weighing the same" in page(told, {})) == shown
