"""Groups along a numeric setting: which are one series, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.compare.figure import draw_over
from cl_lightning.compare.groups import group
from cl_lightning.compare.over import Over, along
from cl_lightning.compare.statistics import summarise
from cl_lightning.core.errors import UserError
from tests.compare.made import measured, write_run


def write(folder: Path, method: str, size: int, seed: int, last: int, **protocol: object) -> None:
    write_run(
        folder / f"{method}{size}_{seed}", last, method=method, seed=seed,
        memory=f"{size} in total" if size else "none", config={"memory": {"size": size}, "seed": seed, "verbose": 1},
        **protocol,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    """Two methods over sizes, one of them without a memory too; two seeds each."""
    for seed in (0, 1):
        for size in (10, 200):
            write(tmp_path, "wa", size, seed, 4 + seed + (size > 10))
            write(tmp_path, "dytox", size, seed, 6 + seed + (size > 10))
        write(tmp_path, "dytox", 0, seed, 2, epochs="5 main, no finetuning")
    return tmp_path


def over(folder: Path, key: str) -> tuple[Over, list[str]]:
    return along(key, summarise(group(measured(folder))[0]))


def test_a_series_for_each_method_along_the_sizes(sizes: Path) -> None:
    found, notes = over(sizes, "memory.size")
    assert {series.name: series.values for series in found.series} == {"dytox": (0, 10, 200), "wa": (10, 200)}
    assert found.values == [0, 10, 200]
    dytox = next(series for series in found.series if series.name == "dytox")
    last = [summary.metrics["last"] for summary in dytox.summaries]
    assert [None if spread is None else spread.count for spread in last] == [2, 2, 2]
    assert [spread.mean for spread in last if spread is not None] == sorted(
        spread.mean for spread in last if spread is not None
    )
    assert notes == ["with memory.size these change too, and are not told apart from it: epochs"]
    assert found.value(dytox.summaries[1].group) == 10


def test_an_option_of_the_protocol_serves_too(tmp_path: Path) -> None:
    for temperature in (1, 2.5):
        write_run(tmp_path / str(temperature), 5, method_options={"temperature": temperature})
    found, notes = over(tmp_path, "method.temperature")
    assert [(series.name, series.values) for series in found.series] == [("dytox", (1, 2.5))]
    assert notes == []


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("memory.sise", r"--over memory.sise: .* has none \(did you mean memory.size\?\)"),
        ("seed", "--over seed is not possible: runs of .* are repetitions that differ in it"),
        ("verbose", "has none"),
        ("method", "--over method: it is .* in "),
        ("classes", "--over classes: all runs have 6, so there is nothing to draw over it"),
    ],
)
def test_what_is_nothing_to_draw_over(sizes: Path, key: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        over(sizes, key)


def test_settings_that_belong_to_methods_make_no_series(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 5, method="wa", lr_scale=1.0)
    write_run(tmp_path / "b", 5, method="dytox", lr_scale=4.0)
    with pytest.raises(UserError, match="--over lr_scale: no two groups differ in it and are alike in the rest"):
        over(tmp_path, "lr_scale")


def test_means_and_bars_are_drawn_over_the_setting(sizes: Path) -> None:
    figure = draw_over(over(sizes, "memory.size")[0])
    average, last = figure.axes
    assert (average.get_title(), last.get_title()) == ("average incremental accuracy", "last accuracy")
    assert last.get_xlabel() == "memory.size"
    assert [text.get_text() for text in last.get_xticklabels()] == ["0", "10", "200"]
    assert last.get_xscale() == "symlog", "0 has a place beside sizes of other magnitudes"
    drawn = {str(bars.get_label()): bars for bars in last.containers}
    assert {name: list(bars.lines[0].get_xdata()) for name, bars in drawn.items()} == {  # type: ignore[attr-defined]
        "dytox": [0, 10, 200], "wa": [10, 200]
    }  # fmt: skip
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [bars.get_label() for bars in last.containers]
