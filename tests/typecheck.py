"""The check of annotations, shapes of tensors among them, that tests run under (ADR 0027).

Only tests: a program checks nothing at its calls. With ``CL_LIGHTNING_TYPECHECK=0`` tests do not either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import config, install_import_hook

from cl_lightning.core.types import DataAccess

PACKAGE = Path(__file__).resolve().parents[1] / "cl_lightning"
CHECKED = ("losses", "memory", "methods", "metrics", "models", "optim")
"""Packages that are checked, without the folders in them: Triton compiles ``models/kernels``."""
OPERATORS = "_op.py"
"""End of the names of modules with custom operators: torch reads their schemas from functions as they are written."""

check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({DataAccess: object}), is_pep484_tower=True))
"""Beartype, where an int is a float as it is for mypy. Access to data is not checked: tests may pass none."""


def modules(rooms: tuple[str, ...]) -> list[str]:
    """Return the names of the modules of ``rooms`` that can be checked."""
    files = [file for room in rooms for file in (PACKAGE / room).glob("[!_]*.py") if not file.name.endswith(OPERATORS)]
    return [".".join(("cl_lightning", file.parent.name, file.stem)) for file in sorted(files)]


def install() -> None:
    """Check the modules as they are imported from now on."""
    if os.environ.get("CL_LIGHTNING_TYPECHECK") != "0":
        install_import_hook(modules(CHECKED), f"{__name__}.check")


@contextmanager
def paused() -> Iterator[None]:
    """Check nothing within the block: for tests that count what torch compiles, and would count the checks."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
