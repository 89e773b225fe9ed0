"""Files of features: what a frozen trunk made of a group of images, for later runs.

A file's name is a digest of all that its content depends on: the trunk's weights, the pixels of the images in their
order, and how they are processed. So nothing is ever out of date, and a file that was damaged since it was written is
computed anew. Files of weights that nobody uses any more stay until somebody deletes the folder.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cl_lightning.core.atomic_write import make_folder, replace_file
from cl_lightning.core.errors import UserError
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.sources.base import ArraySource, ImageSource
from cl_lightning.data.sources.concat import ConcatSource

log = logging.getLogger(__name__)

_SIZE = 16
_FORMAT = 1
"""Part of each name: raise it where a network's forward pass, or the way of an image to it, is changed in code."""


class FeatureFiles:
    """A folder of groups of features."""

    def __init__(self, folder: Path) -> None:
        """Raises ``UserError`` if the folder cannot be made."""
        try:
            make_folder(folder)
        except OSError as error:
            raise UserError(
                f"trainer.features_dir={folder} cannot be made ({error.strerror}): type another folder, or null"
            ) from error
        self._folder = folder

    def path(self, weights: str, source: ImageSource, pipeline: Pipeline, rows: Tensor) -> Path:
        """Return the file of the clean images of ``rows`` by a trunk with these weights (a digest)."""
        known = f"{_FORMAT} {weights} {pipeline.clean_identity()} {_reading(source)}"
        whole = hashlib.blake2b(known.encode(), digest_size=_SIZE)
        whole.update(source.contents[rows].contiguous().numpy().tobytes())
        return self._folder / f"{whole.hexdigest()}.safetensors"

    def read(self, path: Path) -> Float[Tensor, "n D"] | None:
        """Return the vectors of a file; None where there is none, or a damaged one."""
        try:
            found = load(path.read_bytes())
            vectors, checksum = found["vectors"], found["checksum"]
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("%s cannot be read (%s): its features are computed anew", path, type(error).__name__)
            return None
        if vectors.dtype != torch.float32 or vectors.ndim != 2 or not torch.equal(checksum, _checksum(vectors)):
            log.warning("%s is damaged: its features are computed anew", path)
            return None
        return vectors

    def write(self, path: Path, vectors: Float[Tensor, "n D"]) -> None:
        """Store vectors; where there is no room, say so and go on without."""
        content = save({"vectors": vectors.contiguous(), "checksum": _checksum(vectors)})
        try:
            replace_file(path, lambda file: file.write(content))
        except OSError as error:
            log.warning("%s cannot be written (%s): the run goes on without it", path, error.strerror)


def _reading(source: ImageSource) -> str:
    """Return how a source makes pixels of what its digests are of: they may be of originals, and of files."""
    if isinstance(source, ConcatSource):
        return str([_reading(part) for part in source.parts])
    if isinstance(source, ArraySource):
        return f"array {tuple(source.pixels.shape[1:])}"
    return f"files, upright={getattr(source, 'upright', None)}"


def _checksum(vectors: Float[Tensor, "n D"]) -> Tensor:
    whole = hashlib.blake2b(vectors.contiguous().numpy().tobytes(), digest_size=_SIZE)
    return torch.frombuffer(bytearray(whole.digest()), dtype=torch.uint8)
