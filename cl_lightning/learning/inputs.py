"""Inputs of a network: images of a part of the scenario, or the features that its frozen trunk has made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from cl_lightning.data.datamodule import TaskData, no_scales
from cl_lightning.data.loading import Pipeline, PixelStore, Scales, Source, Steps
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ImageSource
from cl_lightning.data.sources.features import FeatureSource


@dataclass(frozen=True, eq=False)
class Inputs:
    """A source with its labels and the way of its rows to the network."""

    source: Source
    labels: Tensor
    """(n,) int64 global labels."""
    pixels: PixelStore
    clean: Pipeline
    """Way of a row as evaluation sees it."""

    def data(
        self,
        steps: Steps,
        *,
        pipeline: Pipeline | None = None,
        workers: int = 0,
        wanted: range | None = None,
        scales: Scales = no_scales,
    ) -> TaskData:
        """Return the loader of ``steps``, of clean images unless another ``pipeline`` is given."""
        return TaskData(
            self.source, self.labels, steps, pipeline or self.clean, self.pixels,
            workers=workers, wanted=wanted, scales=scales,
        )  # fmt: skip

    def as_features(self, features: FeatureSource) -> Inputs:
        """Return the inputs of a network that takes vectors."""
        return Inputs(features, self.labels, PixelStore(features), self.clean.as_stored())


@dataclass(frozen=True, eq=False)
class ImageInputs(Inputs):
    """Images, whose source is known as one."""

    source: ImageSource


def images_of(scenario: Scenario, pipeline: Pipeline) -> dict[str, ImageInputs]:
    """Return the images of each part of a scenario (``train``, ``test`` and, where there are some, ``validation``); two
    parts of one source share its copy on the device.
    """
    clean, stores = replace(pipeline, augmentation=None), dict[int, PixelStore]()
    parts = {
        "train": (scenario.train, scenario.train_labels),
        "test": (scenario.test, scenario.test_labels),
        "validation": (scenario.validation, scenario.validation_labels),
    }
    found = {}
    for part, (source, labels) in parts.items():
        if source is not None and labels is not None:
            store = stores.setdefault(id(source), PixelStore(source))
            found[part] = ImageInputs(source, labels, store, clean)
    return found
