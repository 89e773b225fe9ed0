"""Check how docstrings begin: `python scripts/check_docstrings.py [folder ...]`.

A docstring begins with an imperative verb (functions and methods), a noun (modules, classes, attributes) or a formula.
One that begins with a word of FIRST_WORDS is a clause without a sentence around it: "Whether it is empty." leaves open
whether that is returned, raised or printed, and "Of which run it is." continues the name above it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

FIRST_WORDS = {"What", "Whatever", "Whether", "Which", "Who", "Whose", "Where", "When", "How", "If", "Of"}
"""Words that begin a clause, not a sentence: pydocstyle lets them pass, and a reader stumbles over them."""


def violations(folder: Path) -> list[str]:
    """Return one line for each docstring in a folder that begins with one of these words."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        for line, text in docstrings(ast.parse(file.read_text(encoding="utf-8"), str(file))):
            word = re.match(r"\w*", text.lstrip())
            if word and word[0] in FIRST_WORDS:
                found.append(f"{file}:{line}: begins with {word[0]}: begin with a verb or a noun instead")
    return found


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each docstring of a module, class, function or attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                match statement:
                    case ast.Expr(value=ast.Constant(value=str() as text, lineno=line)):
                        yield line, text


def main() -> int:
    """Print the violations; the exit status is 1 if there are any."""
    root = Path(__file__).parents[1]
    folders = [Path(name) for name in sys.argv[1:]] or [root / "cl_lightning", root / "scripts"]
    found = [line for folder in folders for line in violations(folder)]
    print("\n".join(found) if found else "every docstring begins with a verb, a noun or a formula")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
