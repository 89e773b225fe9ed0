"""Commands that the pages tell users to type: composed and checked, read by the command's own parser, or there."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from cl_lightning.__main__ import learnt_configuration, saved_configuration
from cl_lightning.config.command_line.arguments import read
from cl_lightning.config.compose import compose_one_of_many, compose_typed
from cl_lightning.config.hydra_internals import Override, command_line_flags, parse_overrides
from cl_lightning.config.saved import to_plain
from tests.config.made import filled
from tests.docs.pages import ALL, ROOT, Typed

EXAMPLES = ("method=lfl",)
"""Names that EXTENDING.md shows how to add."""
RUNS = [
    command
    for command in ALL
    if command.after("-m", "cl_lightning") is not None and not set(EXAMPLES) & set(command.words)
]
OTHERS = [command for command in ALL if re.match(r"cl_lightning\.\w+$", " ".join(command.words[2:3]))]
TARGETS = {
    target
    for line in re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in line.split()
}
FLAGS = {"-m", "--multirun", "-q", "-v"}
PRINTS = {"--cfg", "--info", "--package", "--help", "--version"}


def test_the_pages_have_commands() -> None:
    assert len(RUNS) > 70
    assert len(OTHERS) > 15


# ---- python -m cl_lightning ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, one of digits and one of a folder, and a folder that may be learnt."""
    root = tmp_path_factory.mktemp("typed")
    (root / "new").mkdir()
    pictures = ["data=image_folder", "data.root=there", "data.increment=2"]
    for name, typed in (("digits", []), ("pictures", pictures)):
        (root / name).mkdir()
        (root / name / "config.yaml").write_text(yaml.safe_dump(to_plain(filled(*typed))))
    return root


def _values(override: Override) -> list[str]:
    """The first and the last value of a sweep; a value that is not swept."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    sweep: Any = override.value()
    values = [sweep.start, sweep.end] if override.is_interval_sweep() else list(override.sweep_string_iterator())
    return [f"{override.get_key_element()}={value}" for value in (values[0], values[-1])]


def _compose_jobs(overrides: Sequence[str]) -> None:
    """Compose the first and the last job; each option that is typed is read by one of them."""
    parsed = [one for one in parse_overrides(overrides) if not one.key_or_group.startswith("hydra")]
    idle: list[set[str]] = []
    for which in (0, -1):
        unread = compose_one_of_many(["run_dir=unused", *(_values(one)[which] for one in parsed)])[1]
        idle.append({one.key for one in unread})
    assert not idle[0] & idle[1]


def _compose(words: Sequence[str], folder: Path) -> None:
    typed = [word for word in words if word != "..."]
    beside = "pictures" if any(word.startswith("data.root=") for word in typed) else "digits"
    known = {"resume": folder / beside, "learn": folder / beside, "data.new": folder / "new"}
    typed = [f"{key}={known.get(key, value)}" if "=" in word else word
             for word in typed for key, _, value in [word.partition("=")]]  # fmt: skip
    if any(word.startswith("resume=") for word in typed):
        saved_configuration(typed)
    elif any(word.startswith("learn=") for word in typed):
        learnt_configuration(typed)
    elif "-m" in typed:
        _compose_jobs([word for word in read(typed) if word not in command_line_flags()])
    elif not PRINTS & set(typed):
        compose_typed(["run_dir=unused", *(word for word in typed if word not in FLAGS and "hydra." not in word)])
    else:
        arguments = read(typed)
        flags = next((index for index, word in enumerate(arguments) if word.startswith("-")), 0)
        compose_typed(["run_dir=unused", *arguments[:flags]])


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNS, ids=str)
def test_a_run_composes_and_is_accepted(command: Typed, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = command.after("-m", "cl_lightning")
    assert words is not None
    _compose(words, folder)


@pytest.mark.slow
def test_a_wrong_one_would_be_noticed(folder: Path) -> None:
    for wrong in (
        ["method=dytx"],
        ["method.temprature=1"],
        ["memory=none", "memory.size=3"],
        ["-m", "method=joint,meat", "memory.size=3"],
        ["-m", "seed=0,1", "no=1"],
        ["--confg", "job"],
        ["resume=RUN_DIR", "seed=1"],
        ["learn=RUN_DIR", "data.new=FOLDER", "method=wa"],
    ):
        with pytest.raises(Exception, match=r"."):
            _compose(wrong, folder)


# ---- python -m cl_lightning.X ----------------------------------------------------------------------------------------


class ReadError(BaseException):
    """A parser has read all words: nothing more is carried out."""


@pytest.mark.parametrize("command", OTHERS, ids=str)
def test_another_command_reads_what_is_typed(command: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its parser is the real one, and it is stopped when it has read all."""
    monkeypatch.chdir(tmp_path)
    module, *words = command.words[2:]

    def stopping(name: str) -> Any:
        parse = getattr(argparse.ArgumentParser, name)

        def parsed(self: argparse.ArgumentParser, *args: Any, **options: Any) -> NoReturn:
            parse(self, *args, **options)
            raise ReadError

        return parsed

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, stopping(name))
    place = module if find_spec(module).submodule_search_locations is None else f"{module}.__main__"  # type: ignore[union-attr]
    with pytest.raises(ReadError):
        importlib.import_module(place).main(words)


# ---- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [command for command in ALL if command.words[0] == "make"], ids=str)
def test_make_has_the_target(command: Typed) -> None:
    targets = [word for word in command.words[1:] if "=" not in word]
    assert targets
    assert set(targets) <= TARGETS


def test_scripts_are_there() -> None:
    scripts = [
        command for command in ALL if command.words[0] == "python" and "cl_lightning" not in " ".join(command.words)
    ]
    assert len(scripts) > 5
    for command in scripts:
        named = command.words[1]
        if named == "-m":
            assert find_spec(command.words[2]) is not None, command
        else:
            assert (ROOT / named).is_file(), command
