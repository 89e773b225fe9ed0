"""Check that tests use no private name of what they test: `python scripts/check_tests.py [folder of tests]`.

A test that reads or replaces ``_name`` holds an implementation fast, not what it does. So no test imports one, reads
one of an object, or names one in a string to be replaced. A private name is a test's own where the same file
makes it: its functions, and the attributes that its classes set or define.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ALLOWED = {
    "_BatchNorm": "torch: the base of all batch norms",
    "_broadcast_sigterm_tensor": "Lightning: what it does at each step where it listens to signals",
    "_exit": "os: a forked process must not clean up after its parent",
    "_fields": "NamedTuple: its public names begin like this",
    "_initialized": "PIL.Image: nothing else says that every plugin was loaded",
    "_overloadpacket": "torch: how a dispatched operation names itself",
    "_replace": "NamedTuple: its public names begin like this",
    "_pos_embed": "timm: the embedding of patches before the blocks",
    "_signal_connector": "Lightning: what listens to signals",
    "_target_": "Hydra: a key of its configuration",
}
"""Private name of another library, allowed as an attribute -> whose it is, and why."""
LIBRARIES = ("hydra", "torch")
"""Other libraries that some tests take apart: what they import of them, with all that follows the import."""
EXAMPLES = ("test_check_tests.py", "test_hydra_internals.py")
"""Tests of checks such as this one: their texts are what has to be found."""
ACCESSORS = ("setattr", "getattr", "delattr", "hasattr", "object")
"""Functions which take an attribute's name as a string (``object`` is of ``unittest.mock.patch``)."""
PRIVATE = re.compile(r"_(?!_)\w*")
IN_TEXT = re.compile(r"(?<![\w.])(?!self\.)(\w+)(?:\.\w+)*\.(_(?!_)\w+)")
"""A private name in a text: a path to what is replaced, or a program that a test starts."""


def violations(tests: Path) -> list[str]:
    """Return one line for each private name that a test takes from elsewhere."""
    found = []
    for file in sorted(tests.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        own = _made(tree)
        nodes = (node for node in ast.walk(tree) if file.name not in EXAMPLES or not isinstance(node, ast.Constant))
        for node in nodes:
            found += [f"{file}:{node.lineno}: {told}" for told in _taken(node, own)]  # type: ignore[attr-defined]
    return found


def _made(tree: ast.Module) -> set[str]:
    """Return the private names of attributes that a file's own classes make."""
    made = set()
    for room in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(room):
            match node:
                case ast.FunctionDef(name=name):
                    made.add(name)
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    made.add(name)
                case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                    made.add(name)
    return made


def _taken(node: ast.AST, own: set[str]) -> list[str]:
    """Return what one node takes that is private to another module or object."""
    match node:
        case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] not in LIBRARIES:
            whole = [f"{module}.{name.name}" for name in names]
            return [f"imports {name}, which is private" for name in whole if _has_private_part(name)]
        case ast.Import(names=names):
            whole = [name.name for name in names if name.name.split(".")[0] not in LIBRARIES]
            return [f"imports {name}, which is private" for name in whole if _has_private_part(name)]
        case ast.Attribute(attr=name) if PRIVATE.fullmatch(name) and name not in own and name not in ALLOWED:
            whole_name = ast.unparse(node)
            return [] if whole_name.split(".")[0] in LIBRARIES else [f"uses {whole_name}, which is private"]
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=arguments) if name in ACCESSORS:
            names_in_strings = [each.value for each in arguments[:2] if isinstance(each, ast.Constant)]
            private = [each for each in names_in_strings if isinstance(each, str) and PRIVATE.fullmatch(each)]
            return [f"names {each}, which is private" for each in private if each not in {*own, *ALLOWED}]
        case ast.Constant(value=str(text)):
            paths = [each for each in IN_TEXT.finditer(text) if each[1] not in LIBRARIES and each[2] not in ALLOWED]
            return [f"names {path[0]}, which is private" for path in paths]
    return []


def _has_private_part(name: str) -> bool:
    """Return whether a part of a dotted name is private."""
    return any(PRIVATE.fullmatch(part) for part in name.split("."))


def main() -> int:
    """Print the violations; the exit status is 1 if there are any."""
    tests = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "tests"
    found = violations(tests)
    print("\n".join(found) if found else "no test uses a private name of what it tests")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
