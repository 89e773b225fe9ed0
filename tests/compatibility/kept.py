"""The runs that are kept, and how what comes of them is compared with what 93a97df gave."""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("runs")

RELATIVE, ABSOLUTE = 1e-4, 2e-5
"""How far a float (a loss, a learning rate, a score, a probability) may be from what it was on the machine of 93a97df:
processors, and versions of libraries, round differently. README.md says what was seen. Everything else is equal.
"""


def unpack(name: str, folder: Path) -> None:
    """Put the files of a case to ``folder/runs/NAME``."""
    with tarfile.open(RUNS / f"{name}.tar.xz") as tar:
        tar.extractall(folder, filter="data")


def recorded(name: str, operation: str) -> dict[str, Any]:
    """Return what the operation gave at 93a97df."""
    found: dict[str, Any] = json.loads((RUNS / f"{name}.json").read_text(encoding="utf-8"))[operation]
    return found


def deviations(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return where an outcome is not the one that was recorded; a line each. What has come to it since is welcome."""
    plain = json.loads(json.dumps(now))  # tuples are lists, keys are texts
    return [
        *_differences(was["exact"], plain["exact"], "", near=False),
        *_differences(was["near"], plain["near"], "", near=True),
    ]


def _differences(was: Any, now: Any, where: str, *, near: bool) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key, value in was.items():
            if key in now:
                yield from _differences(value, now[key], f"{where}/{key}", near=near)
            else:
                yield f"{where}/{key} is missing"
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for place, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from _differences(one, other, f"{where}/{place}", near=near)
    elif near and _are_numbers(was, now):
        if not math.isclose(was, now, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{where} is {now}, was {was}"
    elif was != now or type(was) is not type(now):
        yield f"{where} is {str(now)[:200]}, was {str(was)[:200]}"


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
