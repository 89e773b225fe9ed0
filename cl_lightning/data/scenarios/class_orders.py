"""Class orders of a data set: the published ones, a seeded one, or the user's own.

Accuracies under different class orders cannot be compared, so the published lists are data of the package
(``class_orders.yaml``) and a wrong list is refused with the names of its faults.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import yaml

from cl_lightning.core.errors import NOT_GIVEN, InvalidSettingError
from cl_lightning.data.sources.unicode_names import nfc, similar

_NAMED_AT_MOST = 5


def class_order(
    dataset: str, spec: str | int | Sequence[int | str], num_classes: int, names: Sequence[str] | None = None
) -> tuple[int, ...]:
    """Return the classes of the data set in order of arrival: ``order[new label] = own class index``.

    ``spec`` is one of

    - ``"identity"``: 0, 1, 2, ...;
    - a number: a published order (CIFAR-100 has 1, 2 and 3; ImageNet-100 and ImageNet-1000 have 1);
    - ``"seed:N"``: ``numpy.random.RandomState(N).permutation``, the field's usual way, mostly with N = 1993;
    - a list that holds each of 0 .. ``num_classes`` - 1 once;
    - a list of all class ``names``, in text: a number is always an index, ``"3"`` is the class of that name.

    Raises ValueError for anything else.

    >>> class_order("digits", "seed:1993", 10)
    (4, 2, 7, 6, 0, 3, 5, 8, 9, 1)
    """
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return _checked(_indices(spec, names) if names is not None else spec, num_classes)
    word = "" if isinstance(spec, bool) else str(spec)
    published = _published().get(dataset, {})
    if word == "identity":
        return tuple(range(num_classes))
    if word in published:
        order = published[word]
        if sorted(order) != list(range(num_classes)):
            raise InvalidSettingError(
                "order", spec, f"is of another number of classes than the {num_classes} of {dataset}"
            )
        return order
    seed = re.fullmatch(r"seed:(\d+)", word)
    if seed and int(seed[1]) < 1 << 32:
        return tuple(np.random.RandomState(int(seed[1])).permutation(num_classes).tolist())
    allowed = ", ".join(["identity", *published, "seed:N (N from 0 to 4294967295)"])
    allowed += f" or a list that holds each of 0..{num_classes - 1}, or each class by name, once"
    raise InvalidSettingError("order", spec, f"is no class order of {dataset}", allowed)


_EACH_ONCE = "[...] with each class once"


@cache
def _published() -> dict[str, dict[str, tuple[int, ...]]]:
    """Return data set -> number of the order, as typed -> order."""
    text = (files("cl_lightning.data.scenarios") / "class_orders.yaml").read_text(encoding="utf-8")
    orders: dict[str, dict[str, tuple[int, ...]]] = {}
    for entry, order in yaml.safe_load(text).items():
        dataset, number = entry.split("_order")
        orders.setdefault(dataset, {})[number] = tuple(order)
    return orders


def _indices(order: Sequence[int | str], names: Sequence[str]) -> Sequence[int | str]:
    """Return the indices of named classes; numbers stay unchanged."""
    by_name = [entry for entry in order if isinstance(entry, str)]
    if not by_name:
        return order
    if len(by_name) < len(order):
        number = next(entry for entry in order if not isinstance(entry, str))
        reason = f"has numbers and names, {number} and {by_name[0]}"
        called = f'["{number}",...] for a class that is called {number}'
        mend = f"take names alone, or each of 0..{len(names) - 1}"
        raise InvalidSettingError("order", NOT_GIVEN, reason, called, mend)
    index_of = {nfc(name): index for index, name in enumerate(names)}
    for name in by_name:
        if nfc(name) not in index_of:
            near = difflib.get_close_matches(name, names, n=1) or [
                alike[1] for alike in [similar([name], names)] if alike
            ]
            hint = f" (did you mean {near[0]}?)" if near else f" ({_some(names)})"
            raise InvalidSettingError("order", NOT_GIVEN, f"has {name}, no class of it{hint}", _EACH_ONCE)
    counts = Counter(map(nfc, by_name))
    doubles = [f"{name} {_times(count)}" for name, count in counts.items() if count > 1]
    missing = [name for name in index_of if name not in counts]
    faults = [f"has {_some(doubles)}"] if doubles else []
    faults += [f"lacks {_some(missing)}"] if missing else []
    if faults:
        mends = {"order": _EACH_ONCE, "classes": "N to learn the first N alone"}
        raise InvalidSettingError("order", NOT_GIVEN, " and ".join(faults), mends)
    return [index_of[nfc(name)] for name in by_name]


def _checked(order: Sequence[int | str], num_classes: int) -> tuple[int, ...]:
    # YAML reads 1.0 and true as other types than 1, yet Python calls them equal: count them as no classes.
    counts = Counter(label for label in order if type(label) is int)
    strangers = [repr(label) for label in order if type(label) is not int or not 0 <= label < num_classes]
    faults = []
    if strangers:
        faults.append(f"has {_some(strangers)} (not a class)")
    doubles = [f"{label} {_times(count)}" for label, count in sorted(counts.items()) if count > 1]
    if doubles:
        faults.append(f"has {_some(doubles)}")
    missing = [str(label) for label in range(num_classes) if label not in counts]
    if missing:
        faults.append(f"lacks {_some(missing)}")
    if faults:
        allowed = (f"[...] with each of 0..{num_classes - 1} once", "identity")
        raise InvalidSettingError("order", NOT_GIVEN, " and ".join(faults), allowed)
    return tuple(map(int, order))


def _times(count: int) -> str:
    return "twice" if count == 2 else f"({count} times)"


def _some(words: Iterable[str]) -> str:
    words = list(words)
    rest = len(words) - _NAMED_AT_MOST
    return ", ".join(words[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
