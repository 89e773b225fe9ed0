from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

from cl_lightning.config.option_names import DATA, LEARNT, METHOD, of_entry
from cl_lightning.core.errors import (
    NOT_GIVEN,
    InvalidFileError,
    InvalidSettingError,
    Options,
    UnreadableImageError,
    UserError,
    as_user_error,
)

PACKAGE = Path(__file__).parents[2] / "cl_lightning"
LIBRARY = ("data", "models", "memory", "methods", "learning", "losses", "optim", "metrics")
"""What is used without a command line too."""
TYPED = re.compile(r"\btype [a-z_]+(\.[a-z_]+)*=")

NOT_DIVIDED = InvalidSettingError("increment", 3, "does not divide the 10 classes of digits", "1, 2, 5 or 10")
NO_ROOT = InvalidSettingError("root", NOT_GIVEN, "is not set", "DIR, the folder with the images")
NO_PART = InvalidSettingError("evaluate_on", "val", ", but birds has no folder val", {"validation": 0.1}, "add it")
TOO_MANY = InvalidSettingError("initial", 12, "is not among the 10 classes of digits", ("1 to 10", None))
TOO_LARGE = UnreadableImageError("a.png", "has 90 pixels", "remove the file", {"max_pixels": "90 to read it"})
NO_IMAGE = InvalidFileError("birds/owl", "holds no image", "add some", kind="class folder")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NOT_DIVIDED, "increment=3 does not divide the 10 classes of digits: pass increment=1, 2, 5 or 10"),
        (NO_ROOT, "root is not set: pass root=DIR, the folder with the images"),
        (NO_PART, "evaluate_on=val, but birds has no folder val: add it, or pass validation=0.1"),
        (TOO_MANY, "initial=12 is not among the 10 classes of digits: pass initial=1 to 10, or initial=None"),
        (TOO_LARGE, "a.png has 90 pixels: remove the file, or pass max_pixels=90 to read it"),
        (NO_IMAGE, "class folder birds/owl holds no image: add some"),
        (InvalidSettingError("flip", True, "is not possible", False), "flip=True is not possible: pass flip=False"),
        (InvalidFileError("a.npz", "is no archive"), "a.npz is no archive"),
    ],
    ids=["value", "not given", "others mend it", "several ways", "picture", "kind", "boolean", "without remedy"],
)
def test_who_calls_the_library_reads_of_arguments(error: ValueError, told: str) -> None:
    assert str(error) == told


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        (
            DATA,
            NOT_DIVIDED,
            "data.increment=3 does not divide the 10 classes of digits: type data.increment=1, 2, 5 or 10",
        ),
        (DATA, TOO_MANY, "data.initial=12 is not among the 10 classes of digits: type data.initial=1 to 10, "
         "or data.initial=null"),
        (DATA, TOO_LARGE, "a.png has 90 pixels: remove the file, or type data.max_pixels=90 to read it"),
        (
            of_entry(2, "digits"),
            NOT_DIVIDED,
            "data.sets, entry 2 (digits): increment: 3 does not divide the 10 classes of digits: "
            "type increment: 1, 2, 5 or 10",
        ),
        (
            of_entry(1, "image_folder"),
            NO_PART,
            "data.sets, entry 1 (image_folder): evaluate_on: val, but birds has no folder val: add it, "
            "or type data.validation=0.1",
        ),
        (LEARNT, NO_ROOT, "data.new is not set: type data.new=DIR, the folder with the images"),
        (LEARNT, NO_PART, "data.evaluate_on=val, but birds has no folder val: add it, or type data.validation=0.1"),
        (
            METHOD,
            InvalidSettingError("flip", True, "is not possible", False),
            "method.flip=true is not possible: type method.flip=false",
        ),
        (DATA, InvalidSettingError("increment", [3, 3], "is odd"), "data.increment=[3,3] is odd"),
    ],
    ids=[
        "value", "several ways", "picture", "an entry", "an entry and its neighbours", "learn= without a folder",
        "learn=", "boolean", "list",
    ],
)  # fmt: skip
def test_who_types_reads_of_options(options: Options, error: ValueError, told: str) -> None:
    with pytest.raises(UserError) as raised, as_user_error(options):
        raise error
    assert str(raised.value) == told
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, AssertionError, RuntimeError])
def test_a_bug_goes_through(error: type[Exception]) -> None:
    with pytest.raises(error, match="a bug") as raised, as_user_error(DATA):
        raise error("a bug")
    assert type(raised.value) is error


def test_files_that_are_not_there_or_closed_are_the_users_to_mend(tmp_path: Path) -> None:
    for name in ("none", "file/none"):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=name), as_user_error():
            (tmp_path / name).read_text()
    with pytest.raises(OSError, match="No space left") as raised, as_user_error():
        raise OSError(28, "No space left on device")
    assert not isinstance(raised.value, UserError)


def test_a_line_stays_one() -> None:
    with pytest.raises(UserError) as raised, as_user_error():
        raise InvalidFileError("a.csv", "cannot be read (line 1\n  line 2)")
    assert str(raised.value) == "a.csv cannot be read (line 1 line 2)"


@pytest.mark.parametrize("error", [NOT_DIVIDED, NO_ROOT, NO_PART, TOO_LARGE, NO_IMAGE])
def test_another_process_reads_the_same(error: ValueError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert DATA.line(again) == DATA.line(error)  # type: ignore[arg-type]


@pytest.mark.parametrize("room", LIBRARY)
def test_the_library_speaks_no_command_line(room: str) -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}: {node.value}"
        for file in sorted((PACKAGE / room).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and TYPED.search(node.value)
    ]
    assert found == []
