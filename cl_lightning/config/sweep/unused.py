"""Options that none of the jobs of a multirun reads: reported before any of them is started.

Jobs are composed until each option has found its reader, which mostly is the first one; if all that was typed is read
under any condition, none is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cl_lightning.config.command_line.overrides import assignments
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.hydra_internals import Override, parse_overrides
from cl_lightning.config.unused.check import Unread, is_conditional, told
from cl_lightning.core.errors import UserError

_AT_MOST = 200
"""Largest number of jobs checked; of more, an option that none of these reads is accepted."""
_DECIDE_NOTHING = ("seed", "data.order")
"""Options whose values do not affect which options are read: one value of each is enough."""


def unread_by_all(hydra: Any) -> str | None:
    """Return one line on options that no job of the multirun with this ``hydra`` node reads, else ``None``."""
    texts = [*hydra.overrides.task, *(f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items())]
    typed = {one.key: one.text for one in assignments(texts) if is_conditional(one.key)}
    if not typed:
        return None
    jobs = list(
        islice(_jobs([one for one in parse_overrides(texts) if not one.key_or_group.startswith("hydra")]), _AT_MOST + 1)
    )
    if len(jobs) > _AT_MOST:
        return None
    waiting: dict[str, Unread] = {}
    for job in jobs:
        try:
            idle = compose_one_of_many(["run_dir=none", *job])[1]
        except (UserError, HydraException, OmegaConfBaseException, AssertionError, AttributeError):
            return None  # an invalid job reports its own error
        waiting = {one.key: one for one in idle if job is jobs[0] or one.key in waiting}
        if not waiting:
            return None
    found = [Unread(key, typed.get(key, one.text), one.type, one.why) for key, one in waiting.items()]
    return told(found, "none of the jobs")


def _jobs(parsed: Sequence[Override]) -> Iterator[list[str]]:
    """Yield the overrides of each job of a grid; of an interval that is searched, its ends."""
    return (list(job) for job in product(*map(_alternatives, parsed)))


def _alternatives(override: Override) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [str(override.input_line)]
    sweep: Any = override.value()
    if override.is_interval_sweep():
        values = [str(sweep.start), str(sweep.end)]
    elif override.is_range_sweep():
        every = list(sweep.range())
        values = [str(value) for value in (every[:1] + every[-1:])]
    else:
        values = [str(value) for value in override.sweep_string_iterator()]
    return [f"{key}={value}" for value in (values[:1] if key in _DECIDE_NOTHING else values)]
