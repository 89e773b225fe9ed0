"""Counting the right answers of a batch, by protocol and read-out."""

from __future__ import annotations

from torch import Tensor

from cl_lightning.core.types import PROTOCOLS, Task
from cl_lightning.data.loading import Images
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.learning.finite_check import ScoresCheck
from cl_lightning.methods.base import Method
from cl_lightning.metrics.accuracy import Counts, count_by_class
from cl_lightning.metrics.confusion import Tally

Counted = dict[tuple[str, str], Counts]
"""(protocol, read-out) -> counts of each class, the main ones first."""


def first_classes(scenario: Scenario, task: Task) -> list[int]:
    """Return the first class of each task up to ``task``, then the number of classes seen."""
    return [each.classes[0] for each in scenario.tasks[: task.index + 1]] + [task.num_seen]


def evaluate_all(method: Method, images: Images, offsets: list[int], check: ScoresCheck, answered: Tally) -> Counted:
    """Return the counts of one batch and tally the answers of the main read-out; ``check`` inspects the scores."""
    scores = method.predict(images.images)
    pending = method.pending_readouts()
    check.look({name: logits for name, logits in scores.items() if name not in pending})
    main, logits = next(iter(scores.items()))
    answered.add(method.readouts()[main], logits, images.labels, num_old=offsets[-2])
    return _count(method, scores, images, offsets)


def evaluate_ready(method: Method, images: Images, offsets: list[int], check: ScoresCheck) -> Counted:
    """Return the counts of one batch by the read-outs that know all classes by now; ``check`` inspects their scores."""
    pending = method.pending_readouts()
    scores = {name: logits for name, logits in method.predict(images.images).items() if name not in pending}
    check.look(scores)
    return _count(method, scores, images, offsets)


def _count(method: Method, scores: dict[str, Tensor], images: Images, offsets: list[int]) -> Counted:
    return {
        (protocol, readout): count_by_class(logits, images.labels, offsets, protocol)
        for protocol in sorted(PROTOCOLS, key=lambda protocol: protocol != method.protocol)
        for readout, logits in scores.items()
    }
