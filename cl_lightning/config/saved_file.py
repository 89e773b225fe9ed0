"""The reader of a run's ``config.yaml``, as plain values; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_lightning.core.file_type import read_file
from cl_lightning.core.json_schema import read_yaml
from cl_lightning.core.missing_keys import complete_configuration


def read_configuration(file: Path) -> dict[str, Any]:
    """Return the content of ``file``; a key newer than the file has the value that reproduces older versions.

    Raises:
        OSError, UnicodeDecodeError, yaml.YAMLError: it cannot be read, or is no YAML.
        TypeError: it holds something else than a mapping.
    """
    plain = read_yaml(read_file(file).decode("utf-8"))
    if not isinstance(plain, Mapping):
        raise TypeError(f"it holds a {type(plain).__name__}, no mapping")
    return complete_configuration(plain)
