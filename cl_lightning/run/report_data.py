"""What a run's report shows beside its numbers: taken of network, memory and data while they are at hand."""

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
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.report.data import Published, ReportData, ReportInput, write_report_data
from cl_lightning.report.panels import Panels

_ATTENDED = 4
"""Images that attention is shown of."""
_MOST_EXEMPLARS, _SIDE = 800, 48
"""Exemplars in a page, of all classes together, and their largest side in pixels: a page of some megabytes."""
_PROBABILITIES = {
    "sigmoid": "Confidence: the sigmoid of the score; those of all classes do not sum to one.",
    "softmax": "Confidence: the softmax of the scores.",
}


log = logging.getLogger(__name__)


class ReportBuilder:
    """Makes what people look at. A run that has learnt for hours does not end for a picture: where one cannot be made,
    a line says so.
    """

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
        """For a dashboard, of the tasks done."""
        from cl_lightning.report.dashboard import panels  # brings matplotlib

        try:
            return panels(
                ReportInput(results, (), answers_and_exemplars(self._config, self._scenario, self._method, state))
            )
        except Exception as error:
            log.warning("the dashboard's pictures could not be made (%s)", error)
            log.debug("the dashboard's pictures", exc_info=True)
            return Panels()

    def report(self, state: RunState, run_dir: Path) -> Path | None:
        """The run's page, and the figures beside it."""
        from cl_lightning.report.write import write_report  # brings matplotlib

        try:
            write_report_data(run_dir, self._portrait(state))
            return write_report(run_dir)
        except Exception as error:
            log.warning("the report could not be written (%s): type python -m cl_lightning.report %s", error, run_dir)
            log.debug("the report", exc_info=True)
            return None

    def _portrait(self, state: RunState) -> ReportData:
        """The whole portrait after the last task done, for a page."""
        asked = self._config.report.attention
        attended, attention = _attention(self._scenario, self._method, state, self._pipeline) if asked else (None, None)
        tokens = self._method.network.task_vectors()
        return dataclasses.replace(
            answers_and_exemplars(self._config, self._scenario, self._method, state),
            published=self._published,
            tokens=None if tokens is None else tokens.float().cpu().numpy(),
            attended=attended,
            attention=attention,
        )


def answers_and_exemplars(config: Config, scenario: Scenario, method: Method, state: RunState) -> ReportData:
    """The part of a portrait that a dashboard draws, after every task: what is known already, and exemplars' pixels."""
    given = state.answers
    readout = next(iter(method.readouts().values()))
    counts = _different(state.memory)
    shown = min(config.report.exemplars, max(1, _MOST_EXEMPLARS // max(1, len(counts))))
    return ReportData(
        probabilities=_PROBABILITIES[readout.probability],
        confusion=None if given is None else given.confusion.numpy(),
        reliability=None if given is None else given.reliability.numpy(),
        exemplars={
            label: _small(_pixels(scenario.train, rows[:shown], scenario.image_size))
            for label, rows in list(counts.items())[-_MOST_EXEMPLARS:]
            if shown
        },
        exemplar_counts={label: len(rows) for label, rows in counts.items()},
    )


def _different(memory: RehearsalMemory) -> dict[int, Tensor]:
    """Rows of each class over all lists, each once, best first."""
    rows: dict[int, dict[int, None]] = {}
    for replica in range(memory.num_lists):
        for label, of_class in memory.exemplars(replica).items():
            rows.setdefault(label, {}).update(dict.fromkeys(of_class.tolist()))
    return {label: torch.tensor(list(of_class)) for label, of_class in rows.items() if of_class}


def _pixels(source: ImageSource, rows: Tensor, size: int) -> NDArray[np.uint8]:
    """(n, H, W, channels) images, as evaluation sees them before they are normalised."""
    if isinstance(source, ArraySource):
        images = source.pixels[rows]
    else:
        images = torch.stack([source.load_test(row, size) for row in rows.tolist()])
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def _small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, H, W, channels) no larger than a page shows them."""
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
    """The first test image of some tasks, oldest and newest among them, and what is read of it for each task."""
    done = [task for task in scenario.tasks[: len(state.records)] if len(task.test)]
    if not done:
        return None, None
    chosen = sorted({round(place) for place in np.linspace(0, len(done) - 1, min(_ATTENDED, len(done)))})
    pixels = _pixels(scenario.test, torch.stack([done[task].test[0] for task in chosen]), scenario.image_size)
    clean = dataclasses.replace(pipeline, augmentation=None)
    images = clean.on_device(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.arange(len(pixels)), 0)
    network = method.network.eval()
    found = network.attention(images.to(next(network.parameters()).device))
    return (None, None) if found is None else (pixels, found.float().cpu().numpy())
