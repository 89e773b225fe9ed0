"""The costs of a run beside its accuracy, from its results: for a page, and for comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cl_lightning.core.quantities import bytes_text, count_text

if TYPE_CHECKING:  # it needs torch, costs do not
    from cl_lightning.core.types import Plain


@dataclass(frozen=True)
class Cost:
    """A kind of cost."""

    name: str
    heading: str
    """Heading of its column, or row."""
    text: Callable[[float], str]
    """Formats a value for people."""


COSTS = (
    Cost("parameters", "parameters", count_text),
    Cost("multiply_adds", "multiply-adds an image", count_text),
    Cost("peak_memory", "peak memory", bytes_text),
    Cost("peak_gpu_memory", "peak GPU memory", bytes_text),
    Cost("seconds", "seconds", lambda value: f"{value:,.0f}"),
    Cost("images_per_second", "images/s in training", lambda value: f"{value:,.0f}"),
    Cost("checkpoint_bytes", "checkpoints", bytes_text),
    Cost("exemplar_bytes", "exemplars", bytes_text),
)
"""All costs, in the order of tables."""


def costs_of(results: Mapping[str, Plain]) -> dict[str, float | None]:
    """Return the costs of a run by name: numbers, bytes, seconds; None for what its version did not measure.

    A provenance may lack any key: results from elsewhere are checked as such.
    """
    counted, made = results.get("costs") or {}, results["provenance"]
    disk, phases = made.get("disk") or {}, made.get("phases", [])
    seconds, images = (sum(phase[name] for phase in phases) for name in ("seconds", "images"))
    return {
        "parameters": results["parameters"],
        "multiply_adds": counted.get("multiply_adds"),
        "peak_memory": made.get("peak_memory"),
        "peak_gpu_memory": made.get("peak_gpu_memory"),
        "seconds": made.get("seconds"),
        "images_per_second": images / seconds if seconds > 0 else None,
        "checkpoint_bytes": disk.get("checkpoints"),
        "exemplar_bytes": disk.get("exemplars"),
    }


def cost_texts(results: Mapping[str, Plain]) -> dict[str, str]:
    """Return the costs of a run as text, by heading. Without a GPU there is no row for its memory."""
    found = costs_of(results)
    return {
        cost.heading: "n/a" if (value := found[cost.name]) is None else cost.text(value)
        for cost in COSTS
        if cost.name != "peak_gpu_memory" or found[cost.name] is not None
    }
