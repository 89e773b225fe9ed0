"""A run in a comparison: its numbers under one evaluation and read-out, and the settings they were measured under."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from cl_lightning.compare.collect import FoundRun
from cl_lightning.compare.settings import ABSENT, format_value, from_config, from_images, from_protocol
from cl_lightning.core.errors import UserError
from cl_lightning.metrics import continual
from cl_lightning.report.costs import costs_of
from cl_lightning.report.macro import macro_after_tasks

METRICS = {"avg": "Avg", "last": "Last", "macro": "Macro", "forgetting": "Forgetting", "backward_transfer": "BWT"}
"""Metric in % or points -> heading of its column."""


_NO_ANSWER = (
    *("provenance", "config", "data_identity", "images", "equal_images", "costs"),
    *("macro_accuracy", "last_macro_accuracy", "forward_transfer", "forward_transfer_reason"),
)
"""Entries of results in which two equal runs of a group may differ: the images have defined the group already, and
earlier versions recorded neither them, nor costs, nor what follows from the counts of classes.
"""


@dataclass(frozen=True)
class MeasuredRun:
    """A run, measured in one way."""

    name: str
    settings: Mapping[str, Any]
    """Flat settings, without seed and class order."""
    from_config: frozenset[str]
    """Keys of ``settings`` that only the run's configuration has."""
    options: Mapping[str, Any]
    """``settings``, and all numeric options of the run's configuration, as far as it is there."""
    origin: str
    """Label of what its method is: it defines no group, for it moves no number. ``not recorded`` where nobody knows."""
    seed: int
    order: str
    """Class order, as typed."""
    classes: tuple[str, ...]
    """Names of the classes learnt, in order of arrival."""
    curve: tuple[float, ...]
    """Accuracy in % on all classes seen, after each task."""
    numbers: Mapping[str, float]
    """:data:`METRICS` in % or points, without those that need an old task where there is none."""
    parameters: int
    costs: Mapping[str, float]
    """Costs that were measured, by the names of ``report.costs``."""
    planned: int
    """Tasks of the whole run."""
    classes_seen: tuple[int, ...]
    """Number of classes after each task."""
    commit: str
    content: str
    """Results as JSON, without provenance and images: equal for two runs that computed the same."""

    @property
    def finished(self) -> bool:
        """True if all tasks have been learnt."""
        return len(self.curve) == self.planned

    @property
    def repeat(self) -> tuple[int, tuple[str, ...]]:
        """Seed and classes: runs of two groups that agree in them are a pair."""
        return self.seed, self.classes


def measure(found: FoundRun, evaluation: str | None = None, readout: str | None = None) -> MeasuredRun:
    """Return the numbers of a run.

    Args:
        found: its files.
        evaluation: ``class_incremental`` or ``task_incremental``; None: the run's main one.
        readout: ``linear``, ``nme`` ...; None: the run's main one, which is its method's own.

    Raises:
        UserError: the run was not evaluated in this way.
    """
    results, protocol = found.results, found.results["protocol"]
    offered: Mapping[str, Mapping[str, Sequence[Sequence[float]]]] = results["accuracy_matrix"]
    evaluation, readout = evaluation or protocol["evaluation"], readout or protocol["readout"]
    _offered("--evaluation", evaluation, offered, found)
    _offered("--readout", readout, offered[evaluation], found)
    R = [[100 * value for value in row] for row in offered[evaluation][readout]]
    curve = tuple(100 * task["accuracy"][evaluation][readout] for task in results["tasks"])
    more = from_config(found.config or {})
    if protocol.get("evaluates_on") == "test" and "data.validation" in more:
        more["data.validation"] = 0.0  # a share that decides when to stop is not what is evaluated on
    finished = len(curve) == len(protocol["tasks"])
    settings = {
        **from_protocol(protocol),
        **more,
        **_counted(found, finished),
        **from_images(results),
        "evaluation": evaluation,
        "readout": readout,
    }
    return MeasuredRun(
        name=found.name,
        settings=settings,
        from_config=frozenset(more),
        options={**(found.config or {}), **settings},
        origin=protocol["origin"] or ABSENT,
        seed=protocol["seed"],
        order=format_value("order", protocol["order"]),
        classes=tuple(name for task in results["tasks"] for name in task["names"]),
        curve=curve,
        numbers=_numbers(curve, R, macro_after_tasks(results, evaluation, readout)[-1]),
        parameters=results["parameters"],
        costs={name: value for name, value in costs_of(results).items() if value is not None},
        planned=len(protocol["tasks"]),
        classes_seen=tuple(accumulate(len(task["names"]) for task in results["tasks"])),
        commit=str(results["provenance"].get("commit") or "unknown"),
        content=_content(results),
    )


def _content(results: Mapping[str, Any]) -> str:
    """Return as JSON what two runs that computed the same agree in."""
    protocol = {key: value for key, value in results["protocol"].items() if key != "origin"}
    kept = {key: value for key, value in results.items() if key not in _NO_ANSWER}
    return json.dumps({**kept, "protocol": protocol}, sort_keys=True)


def _numbers(curve: Sequence[float], R: continual.Matrix, macro: float | None) -> dict[str, float]:
    numbers = {
        "avg": sum(curve) / len(curve),
        "last": curve[-1],
        "macro": None if macro is None else 100 * macro,
        "forgetting": continual.forgetting(R),
        "backward_transfer": continual.backward_transfer(R),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _counted(found: FoundRun, finished: bool) -> dict[str, Any]:
    """Return settings that only results have: the tasks done, the classes, the number of test images."""
    tasks = found.results["tasks"]
    if not finished:
        return {"tasks_done": f"{len(tasks)} of {len(found.results['protocol']['tasks'])}"}
    done: dict[str, Any] = {"tasks_done": "all"}
    if found.config is None or found.config.get("data.classes") is not None:
        return done  # which classes are left depends on their order
    done["class_names"] = sorted(name for task in tasks for name in task["names"])
    return done if found.test_images is None else done | {"test_images": found.test_images}


def _offered(option: str, wanted: str, offered: Mapping[str, Any], found: FoundRun) -> None:
    if wanted not in offered:
        raise UserError(f"{found.name} has no {wanted}: type {option} {' or '.join(offered)}")
