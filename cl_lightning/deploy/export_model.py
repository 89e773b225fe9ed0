"""Export of a model to a folder: each format is written to a temporary file, and moved there if it agrees."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cl_lightning.core.atomic_write import beside, write_atomic
from cl_lightning.core.errors import UserError
from cl_lightning.core.types import Plain
from cl_lightning.data.sources.decoding import reason
from cl_lightning.deploy.exported import DESCRIPTION, describe, sha256
from cl_lightning.deploy.formats import FORMATS, Format
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.verification import TOLERANCE, Comparison, Sample, compare

Say = Callable[[str], None]

FILE_NAMES = (DESCRIPTION, *(each.file for each in FORMATS.values()))


def prepare(folder: Path, overwrite: bool) -> None:
    """Make ``folder``. Raises ``UserError`` if it is a file, or holds an export and may not be changed."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file: type the name of a folder")
    there = [folder / name for name in FILE_NAMES if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(
            f"--out {folder} holds an export already ({there[0].name}): type --overwrite, or another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)


def export(model: TrainedModel, readout: str, folder: Path, formats: Sequence[str], sample: Sample, say: Say) -> bool:
    """Write ``formats`` and their description; returns whether every file computes what the model does.

    Those that do not are reported and removed, as are the files of an earlier export.
    """
    files: dict[str, Plain] = {}
    for name in formats:
        each = FORMATS[name]
        about = _write(model, readout, folder, each, sample, say)
        if about is not None:
            files[each.file] = about
    if files:
        description = {**describe(model, readout), "files": files}
        write_atomic(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    for name in FILE_NAMES:
        if not files or name not in (DESCRIPTION, *files):
            (folder / name).unlink(missing_ok=True)
    return len(files) == len(formats)


def _write(
    model: TrainedModel, readout: str, folder: Path, each: Format, sample: Sample, say: Say
) -> dict[str, Plain] | None:
    """Write one file and return its entry in the description; None if it cannot be made, or does not agree."""
    part = beside(folder / each.file)
    try:
        comparison = _made(model, readout, each, part, sample, say)
        if comparison is None:
            return None
        part.replace(folder / each.file)
    finally:
        part.unlink(missing_ok=True)
    size = (folder / each.file).stat().st_size
    say(f"{folder / each.file}: {size / 1e6:.2f} MB; {_difference(comparison)}")
    return {
        "sha256": sha256(folder / each.file),
        "compared_on": sample.origin,
        "largest_difference": comparison.difference,
        "largest_score": comparison.scale,
    }


def _made(model: TrainedModel, readout: str, each: Format, part: Path, sample: Sample, say: Say) -> Comparison | None:
    try:
        each.write(model, readout, part)
        comparison = compare(model, readout, each.read(model, readout, part), sample.images)
    except OSError:  # a full disk is not the format's fault
        raise
    except Exception as error:  # exporters and runtimes raise almost anything for a network that they cannot carry
        say(f"error: {each.file} cannot be made of this network ({type(error).__name__}: {reason(error)})")
        return None
    if comparison.agrees:
        return comparison
    say(
        f"error: {each.file} is not the model and was removed: {_difference(comparison)}, another class for "
        f"{comparison.changed} of {len(sample.images)} images (allowed: {TOLERANCE:g} of the largest score, and none)"
    )
    return None


def _difference(comparison: Comparison) -> str:
    return f"largest difference of a score {comparison.difference:.1e}, of scores up to {comparison.scale:.3g}"
