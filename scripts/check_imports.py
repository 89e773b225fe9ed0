"""Check that each framework stays in its packages: `python scripts/check_imports.py [package folder]`.

Pure code that cannot see Lightning, Hydra or wandb can be read, tested and kept without them. import-linter checks the
arrows between our own modules, not the places where a library may be imported, so this does.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LIGHTNING_ROOMS = ("learning/", "data/datamodule.py")
HYDRA_ROOMS = ("__main__.py", "config/", "learning/strategy.py")
INTERNALS = ("config/hydra_internals.py",)

ROOMS = {
    "continuum": ("data/",),
    "hydra": HYDRA_ROOMS,
    "hydra._internal": INTERNALS,
    "hydra.core": INTERNALS,  # but for what the documentation tells to import
    "hydra.core.config_store": HYDRA_ROOMS,
    "hydra.core.hydra_config": HYDRA_ROOMS,
    "hydra.core.utils": HYDRA_ROOMS,
    "lightning": (),  # the twin distribution: its classes are not pytorch_lightning's
    "lightning_fabric": (*LIGHTNING_ROOMS, "distributed/process_group.py"),
    "omegaconf": ("__main__.py", "config/"),
    "omegaconf._impl": INTERNALS,
    "omegaconf._utils": INTERNALS,
    "omegaconf.base": INTERNALS,
    "omegaconf.basecontainer": INTERNALS,
    "omegaconf.grammar_parser": INTERNALS,
    "omegaconf.grammar_visitor": INTERNALS,
    "pytorch_lightning": LIGHTNING_ROOMS,
    "tensorboard": (),  # Lightning's logger imports it
    "wandb": ("learning/loggers.py",),
}
"""Library, or a module of it -> the files, and folders (with a slash), of the package that may import it; what is
nearest to an import counts.
"""


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every module that the code names in an import, deferred or by ``import_module("...")``, and the line."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module, node.lineno


def violations(package: Path) -> list[str]:
    """Return one line for each import that is not allowed: ``file:line: library, and the files allowed``."""
    found = []
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package).as_posix()
        for module, line in imported(ast.parse(file.read_text(encoding="utf-8"), str(file))):
            library = max((name for name in ROOMS if f"{module}.".startswith(f"{name}.")), key=len, default="")
            rooms = ROOMS.get(library)
            if rooms is None or any(place.startswith(room) if room.endswith("/") else place == room for room in rooms):
                continue
            found.append(f"{file}:{line}: imports {library}, which belongs in {', '.join(rooms) or 'no file of ours'}")
    return list(dict.fromkeys(found))


def main() -> int:
    """Print the violations; the exit status is 1 if there are any."""
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "cl_lightning"
    found = violations(package)
    print("\n".join(found) or "Every library stays in its rooms.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
