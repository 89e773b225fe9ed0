"""The directive ``{command-help} predict``: what ``python -m cl_lightning.predict --help`` prints, printed at build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


class CommandHelp(SphinxDirective):
    """Show the help of a command of the package, as it is now."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Return a block of text."""
        module, *more = self.arguments[0].split()
        text = _help(module, more)
        block = nodes.literal_block(text, text, language="text")
        self.set_source_info(block)
        return [block]


def _help(module: str, more: list[str]) -> str:
    environment = os.environ | {"COLUMNS": "90", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    name = "cl_lightning" if module == "." else f"cl_lightning.{module}"
    done = subprocess.run(
        [sys.executable, "-m", name, *more, "--help"], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.rstrip()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
