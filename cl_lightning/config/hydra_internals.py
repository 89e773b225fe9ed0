"""All that is used of Hydra and OmegaConf beside what they document, each use with its reason, in this file alone.

An update of either may break what is here and nothing else: ``tests/config/test_hydra_internals.py`` says what broke,
and asks for the new versions in ``VERIFIED``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString, Sweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, grammar_parser
from omegaconf.errors import GrammarParseError

__all__ = ["ChoiceSweep", "Glob", "Override", "Quote", "QuotedString", "Sweep"]
"""Types that the parser of overrides returns: not documented, though Hydra's own plugins import them."""

VERIFIED = {"hydra-core": "1.3.8", "omegaconf": "2.3.1"}
"""Distribution -> the version with which this file was tested."""


def command_line_flags() -> dict[str, argparse.Action]:
    """Return Hydra's flags by name; its parser alone knows how many values each takes, and answers with a page."""
    return {name: action for action in get_args_parser()._actions for name in action.option_strings}


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """Return overrides as Hydra reads them: there is no documented way to ask for that."""
    return OverridesParser.create().parse_overrides(list(texts))


def as_typed(value: str) -> Any:
    """Return a value as Hydra reads it, with its quotes, which ``Override.value()`` takes away; None if it cannot."""
    try:
        return parse_overrides([f"key={value}"])[0]._value
    except (HydraException, ValueError):  # the latter for more digits than Python reads
        return None


def has_interpolation(text: str) -> bool:
    r"""Return whether OmegaConf reads something in ``${...}`` in a text, or ``\${``, by which the user says that it
    shall not. To ask it by resolving would need what is named there.
    """
    if "${" not in text:
        return False
    try:
        grammar_parser.parse(text)
    except GrammarParseError:
        return False
    return True


def why_unresolved(error: Exception) -> str:
    """Return the reason for which an interpolation could not be filled in, without the type of the error before it."""
    return re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error).splitlines()[0]).strip("\"'")


def merges_into_null(error: BaseException) -> bool:
    """Return whether a value was put into a group that is null: OmegaConf trips over that instead of refusing it."""
    mishap = isinstance(error, AssertionError | AttributeError)
    return mishap and any(sign in str(error) for sign in ("type for root", "object_type=NoneType"))


def keep_types_apart(prefix: str) -> None:
    """Prepare the store of types, once in a process.

    Hydra copies its sources, the store with them, whenever it is asked for anything, a hundred times for --help; what
    it reads from the store it copies anyway, so that the store need not be. Names that begin with ``prefix`` are left
    out of its lists: nobody chooses a type, and --help shows the options alone.
    """
    every = ConfigStore.list
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    ConfigStore.list = lambda self, path: [  # type: ignore[method-assign]
        name for name in every(self, path) if not name.startswith(prefix)
    ]


def replace_plugins(
    sweeper: Callable[[DictConfig, Callable[[], Sweeper]], Sweeper],
    launcher: Callable[[DictConfig, Launcher], Launcher],
) -> None:
    """Have the multiruns of this process use what ``sweeper`` and ``launcher`` make of Hydra's own.

    A plugin of ours would have to be chosen instead of joblib's or Optuna's, and what a callback raises, Hydra turns
    into a warning.
    """
    plugins = Plugins.instance()
    make_sweeper, make_launcher = Plugins.instantiate_sweeper, Plugins.instantiate_launcher

    def instantiate_sweeper(**given: Any) -> Sweeper:
        return sweeper(given["config"], partial(make_sweeper, plugins, **given))

    def instantiate_launcher(**given: Any) -> Launcher:
        return launcher(given["config"], make_launcher(plugins, **given))

    plugins.instantiate_sweeper = instantiate_sweeper  # type: ignore[method-assign]
    plugins.instantiate_launcher = instantiate_launcher  # type: ignore[method-assign, assignment]


def error_of_job(answer: JobReturn) -> Any:
    """Return the exception of a job that failed: ``JobReturn.return_value`` would print a line and raise it."""
    return answer._return_value


@contextmanager
def job_set_aside() -> Iterator[None]:
    """Make room for a composition within a job of Hydra, which is as it was behind it: Hydra has one at a time."""
    job = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if job is not None:
            GlobalHydra.instance().initialize(job)
