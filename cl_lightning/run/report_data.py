"""The images of a run's report: taken from network, memory and data while these are in memory."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cl_lightning.checkpoint.state import RunState
from cl_lightning.config.schema import Config
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource, ImageSource
from cl_lightning.data.sources.decoding import Scaling
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.published.tables import has_curve
from cl_lightning.report.data import Published, ReportData, ReportInput, write_report_data
from cl_lightning.report.panels import Panels
from cl_lightning.run.protocol import own_pictures

_ATTENDED = 4
"""Number of images whose attention is shown."""
_MOST_EXEMPLARS, _SIDE = 800, 48
"""Exemplars in a page, of all classes together, and their largest side in pixels: a page of some megabytes."""
_PROBABILITIES = {
    "sigmoid": "Confidence: the sigmoid of the score; those of all classes do not sum to one.",
    "softmax": "Confidence: the softmax of the scores.",
    "none": "The scores rank the classes and are no probabilities, so no confidence is drawn.",
}


log = logging.getLogger(__name__)


class ReportBuilder:
    """The builder of pages and dashboard panels. A run of hours must not fail for a picture: an error is logged."""

    def __init__(
        self,
        config: Config,
        scenario: Scenario,
        method: Method,
        pipeline: Pipeline,
        published: Published | None = None,
    ) -> None:
        self._config = config
        self._scenario = scenario
        self._method = method
        self._pipeline = pipeline
        self._published = published

    def panels(self, state: RunState, results: dict[str, Any]) -> Panels:
        """Return the panels of a dashboard for the tasks done; none if they cannot be made."""
        from cl_lightning.report.dashboard import panels  # brings matplotlib

        try:
            return panels(ReportInput(results, (), self._answers_and_exemplars(state)))
        except Exception as error:
            log.warning("the dashboard's pictures could not be made (%s)", error)
            log.debug("the dashboard's pictures", exc_info=True)
            return Panels()

    def report(self, state: RunState, run_dir: Path) -> Path | None:
        """Write the run's page and the figures beside it; return the page's path, None if it cannot be written."""
        from cl_lightning.report.write import write_report  # brings matplotlib

        try:
            write_report_data(run_dir, self._page_data(state))
            return write_report(run_dir)
        except Exception as error:
            log.warning("the report could not be written (%s): type python -m cl_lightning.report %s", error, run_dir)
            log.debug("the report", exc_info=True)
            return None

    def _page_data(self, state: RunState) -> ReportData:
        """Return all data of a page after the last task done."""
        attended, attention = None, None
        if self._config.report.attention:
            attended, attention = _attention(self._scenario, self._method, state, self._pipeline)
        tokens = self._method.network.task_vectors()
        return dataclasses.replace(
            self._answers_and_exemplars(state),
            folder=Path(self._config.data.root).resolve().name if own_pictures(self._config) else "",
            has_published=has_curve(self._config.data.name),
            published=self._published,
            tokens=None if tokens is None else tokens.float().cpu().numpy(),
            attended=attended,
            attention=attention,
        )

    def _answers_and_exemplars(self, state: RunState) -> ReportData:
        way = self._pipeline.scaling
        return answers_and_exemplars(self._config, self._scenario, self._method, state, way)


def answers_and_exemplars(
    config: Config, scenario: Scenario, method: Method, state: RunState, way: Scaling
) -> ReportData:
    """Return what a dashboard draws after every task: the counts of answers, and exemplars' pixels, read this way."""
    answers = state.answers
    readout = next(iter(method.readouts().values()))
    counts = _different(state.memory)
    shown = min(config.report.exemplars, max(1, _MOST_EXEMPLARS // max(1, len(counts))))
    return ReportData(
        probabilities=_PROBABILITIES[readout.probability],
        confusion=None if answers is None else answers.confusion.numpy(),
        reliability=None if answers is None or readout.ranks_only else answers.reliability.numpy(),
        exemplars={
            label: _small(_pixels(scenario.train, rows[:shown], scenario.read_size, way))
            for label, rows in list(counts.items())[-_MOST_EXEMPLARS:]
            if shown
        },
        exemplar_counts={label: len(rows) for label, rows in counts.items()},
    )


def _different(memory: RehearsalMemory) -> dict[int, Tensor]:
    """Return the rows of each class over all lists, each once, best first."""
    rows: dict[int, dict[int, None]] = {}
    for replica in range(memory.num_lists):
        for label, of_class in memory.exemplars(replica).items():
            rows.setdefault(label, {}).update(dict.fromkeys(of_class.tolist()))
    return {label: torch.tensor(list(of_class)) for label, of_class in rows.items() if of_class}


def _pixels(source: ImageSource, rows: Tensor, size: int, scaling: Scaling) -> NDArray[np.uint8]:
    """Return (n, H, W, channels) images, as evaluation reads them: before they are resized and normalised."""
    if isinstance(source, ArraySource):
        images = source.pixels[rows]
    else:
        images = torch.stack([source.load_test(row, size, scaling) for row in rows.tolist()])
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def _small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, H, W, channels) images no larger than a page shows them."""
    factor = _SIDE / max(images.shape[1:3])
    if factor >= 1:
        return images
    size = [max(1, round(factor * side)) for side in images.shape[1:3]]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(pixels, size, mode="area").round().to(torch.uint8)
    return small.permute(0, 2, 3, 1).contiguous().numpy()


def _attention(
    scenario: Scenario, method: Method, state: RunState, pipeline: Pipeline
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    """Return the first test image of some tasks, oldest and newest among them, and its attention maps."""
    done = [task for task in scenario.tasks[: len(state.records)] if len(task.test)]
    if not done:
        return None, None
    chosen = sorted({round(index) for index in np.linspace(0, len(done) - 1, min(_ATTENDED, len(done)))})
    rows = torch.stack([done[task].test[0] for task in chosen])
    pixels = _pixels(scenario.test, rows, scenario.read_size, pipeline.scaling)
    levels = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    seen = levels if pipeline.resize is None else pipeline.resize(levels)  # the maps are of what the network sees
    clean = dataclasses.replace(pipeline, augmentation=None)
    images = clean.on_device(seen, torch.arange(len(pixels)), 0)
    network = method.network.eval()
    attention = network.attention(images.to(next(network.parameters()).device))
    shown = seen.permute(0, 2, 3, 1).contiguous().numpy()
    return (None, None) if attention is None else (shown, attention.float().cpu().numpy())
