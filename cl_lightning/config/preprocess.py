"""Preprocessing that was left open: filled in from the weights that a network starts from, else from the data.

Weights were trained on images of one size and normalisation; features of other images are worse for no reason that a
curve would show. Where ``model=timm_backbone`` starts from weights by timm's name, ``null`` means theirs.
``model=timm`` keeps what MEAT was published with, and what its runs have always done.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from cl_lightning.config.option_names import MODEL
from cl_lightning.config.schema import DataConfig, ModelConfig, PreprocessConfig, TimmBackboneConfig, TimmConfig
from cl_lightning.config.schema.data import INTERPOLATION
from cl_lightning.config.schema.open_options import Open
from cl_lightning.config.unused.conditions import all_arrays
from cl_lightning.core.errors import UserError, worded

if TYPE_CHECKING:
    from cl_lightning.models.timm_weights import ExpectedPreprocessing

USUAL_CROP = 224 / 256
"""Share of the scaled short side that is kept of a file, unless weights want another."""
USUAL = "usual"
"""The word for what is not unusual."""
_MOST_CROP = 1.0
"""Some weights want more than the image, with a black rim: they get the whole of it."""
_NAMED = (TimmBackboneConfig, TimmConfig)
"""Models whose name is one of timm's."""
_PATCH = re.compile(r"_patch(\d+)_")


def fill_preprocess(data: Open[DataConfig], model: Open[ModelConfig], typed: Collection[str] = ()) -> DataConfig:
    """Return the data with preprocessing filled in, and with the mean and deviation of weights that normalise.

    Args:
        data: filled in but for preprocessing.
        model: of the run; its own sizes may be open.
        typed: options that the user has set, which win: a size of files, a mean.
    """
    given = data.preprocess
    follows = isinstance(model, TimmBackboneConfig)
    unasked = follows and _is_trained(model)
    asked = isinstance(model, _NAMED) and given.normalise == "weights"  # of weights in a file nobody knows, unless told
    own = expected(model) if unasked or asked else None
    images = own if follows else None  # model=timm is asked for mean and deviation alone
    normalise = given.normalise or _normalisation(images, typed)
    filled = PreprocessConfig(
        size=given.size or _size(data, images, typed),
        resize=given.resize or ("whole" if all_arrays(data) else "crop"),
        crop_share=given.crop_share or (USUAL_CROP if images is None else min(images.crop_share, _MOST_CROP)),
        interpolation=given.interpolation or _interpolation(images),
        normalise=normalise,
    )
    data = dataclasses.replace(data, preprocess=filled)
    if own is None or normalise != "weights":
        return data
    return dataclasses.replace(data, mean=list(own.mean), std=list(own.std))


def expected(model: Open[ModelConfig]) -> ExpectedPreprocessing:
    """Return what the weights of ``model`` expect. Raises ``UserError`` for a name that timm does not know."""
    from cl_lightning.models.timm_weights import expected_preprocessing  # timm is slow to import

    with worded(MODEL):
        return expected_preprocessing(model.name)


def _size(data: Open[DataConfig], own: ExpectedPreprocessing | None, typed: Collection[str]) -> int:
    # The size of arrays is their own; of files it is what to read them at.
    if own is None or ("data.image_size" in typed and not all_arrays(data)):
        return data.image_size
    return own.size


def _interpolation(own: ExpectedPreprocessing | None) -> str:
    return own.interpolation if own is not None and own.interpolation in INTERPOLATION else "bicubic"


def _normalisation(own: ExpectedPreprocessing | None, typed: Collection[str]) -> str:
    return "data" if own is None or not {"data.mean", "data.std"}.isdisjoint(typed) else "weights"


def preprocess_text(data: DataConfig) -> str:
    """Return what is unusual about preprocessing, as ``32 -> 224 px, whole, bicubic, the weights' own mean``; else
    ``usual``: arrays as they are, files by 256/224 and bicubically, mean and deviation of the data.
    """
    given, arrays, resized = data.preprocess, all_arrays(data), data.preprocess.size != data.image_size
    share = f"crop {given.crop_share:.4g}"
    parts = []
    if resized:
        parts.append(f"{data.image_size} -> {given.size} px" if arrays else f"{given.size} px")
    if arrays and resized:
        parts += [share if given.resize == "crop" else "whole", given.interpolation]
    elif not arrays:
        cropped = share if given.crop_share != USUAL_CROP else ""
        parts += ["whole" if given.resize == "whole" else cropped]
        parts += [given.interpolation] if given.interpolation != "bicubic" else []
    parts.append({"data": "", "weights": "the weights' own mean", "none": "pixels in [0, 1]"}[given.normalise])
    return ", ".join(filter(None, parts)) or USUAL


def size_option(data: DataConfig) -> str:
    """Return the option that says how large the images are that the network sees."""
    return "data.image_size" if data.preprocess.size == data.image_size else "data.preprocess.size"


def check_preprocess(data: DataConfig, model: ModelConfig, file: str | None) -> None:
    """Raise ``UserError`` for preprocessing that does not go with the model, which may start from weights in a
    ``file``: one line with what to type.
    """
    if data.preprocess.normalise == "weights" and not (_is_trained(model) or (file and isinstance(model, _NAMED))):
        raise UserError(
            f"data.preprocess.normalise=weights needs weights by timm's name, and {model.typed()} starts from none: "
            "type model.pretrained=true with model=timm_backbone or model=timm, or data.preprocess.normalise=data"
        )
    size, patch = data.preprocess.size, _patch_of(model)
    if size != data.image_size and patch and size % patch:
        fitting = " or ".join(f"data.preprocess.size={n * patch}" for n in (size // patch, size // patch + 1) if n)
        raise UserError(
            f"data.preprocess.size={size} is not divisible by {patch}, the side of a patch of model.name={model.name}: "
            f"type {fitting}"
        )


def _is_trained(model: Open[ModelConfig]) -> bool:
    return isinstance(model, _NAMED) and model.pretrained


def _patch_of(model: ModelConfig) -> int | None:
    """Return the side of the patches of one of timm's transformers, where its name alone says it."""
    if not isinstance(model, _NAMED) or model.patch_size is not None:
        return None
    found = _PATCH.search(model.name)
    return None if found is None else int(found[1])
