"""The bytes that images take where they are stored."""

from __future__ import annotations

from contextlib import suppress

from torch import Tensor

from cl_lightning.data.sources.base import ArraySource, FolderSource, ImageSource
from cl_lightning.data.sources.concat import ConcatSource


def stored_bytes(source: ImageSource, rows: Tensor) -> int | None:
    """Return the bytes of the images in ``rows`` (n,): of arrays their pixels, of folders their files; None for a table
    of another kind. A file that is gone counts nothing.
    """
    match source:
        case ArraySource():
            return len(rows) * source.pixels[:1].numel()
        case FolderSource():
            return sum(_file_size(source, row) for row in rows.tolist())
        case ConcatSource():
            found, first = [], 0
            for part in source.parts:
                own = rows[(rows >= first) & (rows < first + len(part))] - first
                found.append(stored_bytes(part, own))
                first += len(part)
            return sum(size or 0 for size in found) if None not in found else None
    return None


def _file_size(source: FolderSource, row: int) -> int:
    with suppress(OSError):
        return (source.root / source.paths[row]).stat().st_size
    return 0
