"""What is drawn, read from the axes."""

from __future__ import annotations

import pytest

from cl_lightning.compare.figure import FEW, draw
from cl_lightning.compare.groups import group
from cl_lightning.compare.statistics import Summary, summarise
from tests.compare.made import measured, write_run


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> list[Summary]:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(FEW + 1):
        write_run(folder / f"many{seed}", 2 + seed, seed=seed, method="many")
    for seed in range(2):
        write_run(folder / f"few{seed}", 2 + seed, seed=seed, method="few$")
    write_run(folder / "one", 1, method="one")
    return summarise(group(measured(folder))[0])


def test_means_bands_and_single_runs(summaries: list[Summary]) -> None:
    figure = draw(summaries)
    (axes,) = figure.axes
    means = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert len(axes.lines) - len(means) == 2  # of the group of two; six are too many, one is its own mean
    assert len(axes.collections) == 2
    assert [line.get_label() for line in means] == ["many (n = 6)", r"few\$ (n = 2)", "one (n = 1)"]
    assert [list(map(float, line.get_ydata())) for line in means] == [  # type: ignore[arg-type]
        pytest.approx([value.mean for value in summary.curve]) for summary in summaries
    ]
    assert [int(x) for x in means[0].get_xdata()] == [2, 4, 6]  # type: ignore[union-attr]
    assert len({(line.get_linestyle(), line.get_marker()) for line in means}) == 3
    assert len({line.get_linestyle() for line in means}) == len({line.get_marker() for line in means}) == 3
    assert axes.get_ylabel() == "accuracy in %, class-incremental"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [line.get_label() for line in means]
