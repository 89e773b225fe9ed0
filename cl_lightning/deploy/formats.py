"""The formats of an export: the writer of each, and a reader as a function from images to scores."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cl_lightning.deploy.exported import WEIGHTS, describe, rebuilt, save_weights
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.scorer import Scorer

Scores = Callable[[Tensor], Tensor]
"""Normalised images (B, channels, side, side) -> scores (B, C), by the exported file."""


@dataclass(frozen=True)
class Format:
    """A file format of exports."""

    file: str
    write: Callable[[TrainedModel, str, Path], None]
    """Writer of the read-out of that name (``safetensors``: of all read-outs) to a file."""
    read: Callable[[TrainedModel, str, Path], Scores]
    """Reader of the file; of the model given, only what ``model.json`` holds is used."""
    needs: tuple[str, ...] = ()
    """Optional packages that the format needs."""

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def _write_weights(model: TrainedModel, readout: str, file: Path) -> None:
    save_weights(model, file)


def _read_weights(model: TrainedModel, readout: str, file: Path) -> Scores:
    again = rebuilt(describe(model, readout), file)
    return lambda images: again.predict(images)[readout]


def traced(model: TrainedModel, readout: str) -> torch.export.ExportedProgram:
    """Trace the read-out as a graph of torch's own operators, for batches of any size."""
    scorer = Scorer(model.network, model.readouts[readout])
    with _quiet(), torch.no_grad():
        program = torch.export.export(scorer, (_example(model),), dynamic_shapes=_any_batch())
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # has paths of this machine in it
    return program


def _write_program(model: TrainedModel, readout: str, file: Path) -> None:
    stream = io.BytesIO()  # given a path, torch insists on its ending
    with _quiet():
        torch.export.save(traced(model, readout), stream)
    file.write_bytes(stream.getvalue())


def _read_program(model: TrainedModel, readout: str, file: Path) -> Scores:
    with _quiet():
        return torch.export.load(io.BytesIO(file.read_bytes())).module()


def _write_onnx(model: TrainedModel, readout: str, file: Path) -> None:
    scorer, example = Scorer(model.network, model.readouts[readout]), _example(model)
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            scorer,
            (example,),
            str(file),
            dynamo=True,
            dynamic_shapes=_any_batch(),
            input_names=["images"],
            output_names=["scores"],
            external_data=False,  # one file; ONNX allows 2 GB
            verbose=False,
        )


def _read_onnx(model: TrainedModel, readout: str, file: Path) -> Scores:
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["scores"], {"images": images.numpy()})[0])


def _example(model: TrainedModel) -> Tensor:
    """Return two images: torch takes a batch of one for a constant."""
    side = model.preprocessing.network_size
    return torch.zeros(2, model.preprocessing.channels, side, side)


def _any_batch() -> dict[str, dict[int, torch.export.Dim]]:
    return {"images": {0: torch.export.Dim("batch", min=1)}}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's warnings about its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


FORMATS = {
    "safetensors": Format(WEIGHTS, _write_weights, _read_weights),
    "torch_export": Format("model.pt2", _write_program, _read_program),
    "onnx": Format("model.onnx", _write_onnx, _read_onnx, needs=("onnx", "onnxscript", "onnxruntime")),
}
"""Format by the name that is typed."""
