"""What options meant before they existed: values for keys that a saved configuration lacks.

A run goes on, is extended and is used by the rules that it was begun with; new runs save their own. (Where an option
left earlier runs as they were by its default, nothing need stand here.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_READING = {"files": "by_suffix", "orientation": "ignore", "evaluate_on": "val_or_test", "test_split": "per_image"}

OLD_RULES: dict[str, dict[str, Any]] = {
    "data": _READING,
    "data.sets[]": _READING,
    "extends.folders[]": {**_READING, "allow_similar": True},
}
"""Place in a configuration (``[]``: each entry of a list) -> key -> value of runs that lack it."""


def with_old_rules(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a saved configuration, as plain values, in which no key of :data:`OLD_RULES` is missing."""
    filled = dict(saved)
    for place, values in OLD_RULES.items():
        filled = _filled(filled, place.split("."), values)
    return filled


def _filled(node: Mapping[str, Any], place: list[str], values: Mapping[str, Any]) -> dict[str, Any]:
    name, inner = place[0].removesuffix("[]"), node.get(place[0].removesuffix("[]"))
    if not inner:  # the group is null, or has no entries
        return dict(node)
    if place[0].endswith("[]"):
        return {**node, name: [{**values, **entry} for entry in inner]}
    return {**node, name: _filled(inner, place[1:], values) if len(place) > 1 else {**values, **inner}}
