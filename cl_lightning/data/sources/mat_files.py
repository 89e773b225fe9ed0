"""Index files of published data sets in MATLAB's format: plain lists of numbers and of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cl_lightning.data.sources.published import DamagedError, require


class MatFile:
    """Fields of a ``.mat`` file."""

    def __init__(self, file: Path) -> None:
        """Read ``file``. Raises FileNotFoundError if it does not exist, and ``DamagedError`` if it cannot be read."""
        from scipy.io import loadmat

        require(file)
        self._file = file
        try:
            self._fields: dict[str, Any] = loadmat(str(file), appendmat=False, squeeze_me=True)
        except PermissionError:
            raise
        except Exception as error:  # scipy's reader raises almost anything
            why = " ".join(str(error).split()) or type(error).__name__
            raise DamagedError(file, f"cannot be read as a .mat file ({why})") from error

    def numbers(self, field: str) -> list[int]:
        """Return a list of whole numbers. Raises ``DamagedError`` for anything else."""
        values = self._values(field)
        try:
            numbers = [int(value) for value in values]
        except (TypeError, ValueError, OverflowError) as error:
            raise DamagedError(self._file, f"has no list of numbers in {field}") from error
        if numbers != values:
            raise DamagedError(self._file, f"has other than whole numbers in {field}")
        return numbers

    def texts(self, field: str) -> list[str]:
        """Return a list of texts. Raises ``DamagedError`` for anything else."""
        values = self._values(field)
        if not all(isinstance(value, str) for value in values):
            raise DamagedError(self._file, f"has no list of texts in {field}")
        return [str(value) for value in values]

    def _values(self, field: str) -> list[Any]:
        import numpy as np

        if field not in self._fields:
            raise DamagedError(self._file, f"has no {field}")
        return list(np.atleast_1d(self._fields[field]).ravel().tolist())
