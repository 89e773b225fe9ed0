"""Check that no assert guards a user: `python scripts/check_asserts.py [package folder]`.

``python -O`` leaves asserts out, so what a user types or a file holds must be met by an error that is raised. An assert
may say of which type a value is (which only the checker of types needs), anywhere; and, where tensors are computed and
no file is read, what the program owes to itself.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

INNER = (
    "data/augmentation/",
    "data/datamodule.py",
    "data/loading.py",
    "data/step_sampler.py",
    "distributed/process_group.py",
    "learning/",
    "losses/",
    "methods/",
    "models/",
    "optim/",
)
"""Files, and folders (with a slash), in which the program computes what it has checked."""
ALLOWED = {"checkpoint/files.py": ["self != Position()"]}
"""File -> what else may be asserted there: of our own doing, never of a file's."""


def violations(package: Path) -> list[str]:
    """Return one line for each assert that could guard a user."""
    found = []
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package).as_posix()
        if any(place.startswith(room) if room.endswith("/") else place == room for room in INNER):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
            if isinstance(node, ast.Assert) and not _narrows(node.test):
                test = ast.unparse(node.test)
                if test not in ALLOWED.get(place, []):
                    found.append(f"{file}:{node.lineno}: asserts {test}: raise ValueError or UserError instead")
    return found


def _narrows(test: ast.expr) -> bool:
    """Return whether a condition is about the type of a value, and nothing else."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return _narrows(inner)
        case ast.Call(func=ast.Name(id="isinstance")) | ast.Call(func=ast.Attribute(attr="is_dataclass")):
            return True
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
    return False


def main() -> int:
    """Print the violations; the exit status is 1 if there are any."""
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "cl_lightning"
    found = violations(package)
    print("\n".join(found) if found else "no assert guards a user")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
