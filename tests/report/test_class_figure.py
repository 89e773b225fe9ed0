"""The figure of a score, read from its axes: with two classes, with some, with a hundred."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from cl_lightning.report.class_figure import ClassScores, draw

pytestmark = pytest.mark.slow


def drawn(count: int, **changed: Any) -> Figure:
    """Each class has (label % 10) of its ten images right, but for the second, which has no images."""
    right = np.arange(count) % 10
    confusion = np.diag(right) + np.roll(np.diag(10 - right), 1, axis=1)
    confusion[1] = 0
    accuracy = [None if label == 1 else own / 10 for label, own in enumerate(right.tolist())]
    given: dict[str, Any] = {
        "title": "dytox on pets: 50.0 % of 9 images", "accuracy_title": "class-incremental, linear read-out",
        "names": [f"class {label}" for label in range(count)], "tasks": [1 + label // 2 for label in range(count)],
        "accuracy": accuracy, "macro": 0.45, "confusion": confusion,
    }  # fmt: skip
    return draw(ClassScores(**{**given, **changed}))


def inside(figure: Figure) -> bool:
    """Return whether every text lies in the figure."""
    whole = figure.bbox
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts,
                                                       *axes.get_xticklabels(), *axes.get_yticklabels())]  # fmt: skip
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    return all(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1 for box in boxes)


@pytest.mark.parametrize("count", [2, 10, 30, 31, 100])
def test_everything_is_in_the_figure(count: int) -> None:
    assert inside(drawn(count))
    assert inside(drawn(count, names=["x" * 240] * count))


def test_few_classes_are_named_and_have_numbers() -> None:
    bars, table, _ = drawn(4).axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["class 0", "class 1", "class 2", "class 3"]
    assert [text.get_text() for text in bars.texts] == ["0", "no images", "20", "30"]
    assert [patch.get_width() for patch in bars.patches] == [0, 0, 20, 30]  # type: ignore[attr-defined]
    assert {text.get_text() for text in table.texts} == {"100", "20", "80", "30", "70"}
    assert bars.get_xlabel() == "accuracy in %\ndashed: their mean, 45.0; shades alternate with tasks"
    (line,) = bars.lines
    assert line.get_xdata()[0] == 45.0  # type: ignore[index]


def test_rows_of_the_confusion_matrix_are_shares_and_a_class_without_images_is_blank() -> None:
    table = drawn(4).axes[1]
    shares = table.images[0].get_array()
    assert shares is not None
    assert shares[2].tolist() == [0, 0, 20, 80]
    assert shares.mask[1].all()
    assert len(table.lines) == 2, "a line across and a line down between the two tasks"


def test_many_classes_are_numbered_and_the_lowest_named() -> None:
    bars, table, _ = drawn(100).axes
    assert [tick.get_text() for tick in table.get_xticklabels()][:3] == ["1", "10", "20"]
    assert bars.get_xlabel().startswith("class, by arrival\nlowest: class 0 (class 1) 0, class 10 (class 11) 0, ")
    assert not table.texts
    assert len(bars.patches) == 100


def test_names_are_no_formulas_and_no_control_characters() -> None:
    bars = drawn(2, names=["$x^2$", "a\x1b"]).axes[0]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["$x^2$", "a\\x1b"]
