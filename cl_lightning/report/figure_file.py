"""A figure as a file of its own, in the format of its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cl_lightning.core.atomic_write import replace_file

if TYPE_CHECKING:  # heavy
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 160


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the suffix, atomically; the same numbers make the same file."""
    from matplotlib import rc_context

    suffix = path.suffix[1:].lower()
    made_by = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }[suffix]
    with rc_context({"svg.hashsalt": "cl_lightning"}):
        replace_file(path, lambda file: figure.savefig(file, format=suffix, dpi=_DOTS_PER_INCH, metadata=made_by))
