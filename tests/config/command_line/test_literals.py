"""Paths and texts come out of Hydra as the shell handed them over."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cl_lightning.config.command_line.arguments import read
from cl_lightning.config.command_line.literals import filled_in, kinds, literal
from cl_lightning.config.compose import compose_typed
from cl_lightning.core.errors import UserError

ODD = [
    "ümlaut",
    "a,b",
    "two words",
    "[x]",
    "{y: 1}",
    "it's",
    'dou"ble',
    "e=q",
    "#h",
    "(p)",
    "d$x",
    "a${b",
    "back\\slash",
]
ODD += [
    "tail\\",
    "1_000",
    "1e3",
    "true",
    "007",
    "x:y",
    "%*?|",
    "line\nbreak",
    "\udcff",
    "choice(a,b)",
    "  edge ",
    "b\\,c",
]
"""Names of folders that Hydra's grammar refuses, or reads otherwise."""


def by_hydra(override: str) -> object:
    """The value as Hydra's parser and OmegaConf make it of an override."""
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    return OmegaConf.create({"value": parsed.value()}).value


def swept(override: str) -> list[object]:
    """The values of the jobs that ``-m`` makes of an override, each as its job reads it."""
    parsed = OverridesParser.create().parse_overrides([override])
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return [by_hydra(job) for (job,) in jobs]


@given(st.text(st.sampled_from("ab1_ ,()[]{}:='\"\\$#é\n~/.%"), min_size=1).filter(lambda text: "${" not in text))
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    if text[0] in "'\"":
        return  # may be in quotes as a whole
    override = literal(f"logger.name={text}")
    assert by_hydra(override) == text
    assert swept(override) == [text], "as a job of a sweep is given it"
    assert filled_in(override) == text, "as resume= and learn= read it"
    assert literal(override) == override


@pytest.mark.parametrize("name", ODD)
def test_a_folder_of_any_name_is_found_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for there in (False, True):
        if there:
            os.mkdir(name)
        (given,) = read([f"data.root={name}"])
        assert by_hydra(given) == name


@pytest.mark.parametrize("name", ["${x}", "${seed}", "\\${x}", '"quoted"', "'quoted'", "null", "NULL"])
def test_what_would_mean_something_else_is_a_folder_where_there_is_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    meant = f"data.root={name}"
    Path(name).mkdir()
    assert by_hydra(literal(meant)) == name
    assert filled_in(meant) == name


def test_what_commands_rely_on_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", "here")
    assert by_hydra(literal('data.root="a,b"')) == "a,b"
    assert by_hydra(literal("data.root='a\"b'")) == 'a"b'
    assert by_hydra(literal("method.backbone_file=null")) is None
    assert by_hydra(literal("data.root=${oc.env:PLACE}/ü")) == "here/ü"
    assert by_hydra(literal("data.root=\\${x}")) == "${x}"
    for override in (
        "data.root=pics",
        "data.increment=[4,3,3]",
        "seed=0,1",
        "data.order=seed:3",
        "method=wa",
        "~sweep",
    ):
        assert read([override]) == [override]
    assert read(["experiment=a,b", "-m"]) == ["experiment=a,b", "-m"]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("a,b", ["a", "b"]),
        ("ü,b(c", ["ü", "b(c"]),
        ('"a,b",ü', ["a,b", "ü"]),
        ("2024_01,2024_02", ["2024_01", "2024_02"]),
        ("ümlaut", ["ümlaut"]),
        ("choice(a,b)", ["a", "b"]),
        ("a\\,b", ["a,b"]),
        ("[a,b]", ["[a,b]"]),
    ],
)
def test_a_comma_separates_jobs(typed: str, values: list[str]) -> None:
    (override, _) = read([f"data.root={typed}", "-m"])
    assert swept(override) == values


def test_several_folders_without_m_are_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(name).mkdir()
    with pytest.raises(UserError, match=r"^data.root=a,b is no folder, its parts are: type -m as well"):
        read(["data.root=a,b"])
    Path("a,b").mkdir()
    assert by_hydra(*read(["data.root=a,b"])) == "a,b"


@pytest.mark.parametrize("typed", ["data.root=", "run_dir=", "method.backbone_file=", "data.sets.0.root="])
def test_a_path_has_a_name(typed: str) -> None:
    with pytest.raises(UserError, match=f"^{typed} names no (folder|file): type {typed}(DIR|FILE)"):
        read([typed])


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("data.root=a/${x}", r"(Interpolation key 'x' not found): type data.root= something else, or "
         r"'data.root=a/\${x}' for a folder of that name"),
        ("logger.name=${oc.env:NO_SUCH_NAME}", "(Environment variable 'NO_SUCH_NAME' not found)"),
        ("method.backbone_file=${nix:1}", r"or 'method.backbone_file=\${nix:1}' for a file of that name"),
        ("logger.group=${x}", r"or 'logger.group=\${x}' for this text"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_in_is_a_line(typed: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)) as error:
        filled_in(typed)
    assert str(error.value).startswith(f"{typed} cannot be filled in")


def test_a_home_is_filled_in_where_hydra_makes_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/there/me")
    assert read(["hydra.run.dir=~/runs/${seed}"]) == ['hydra.run.dir="/there/me/runs/${seed}"']
    assert read(["hydra.sweep.dir=out,1", "-m"]) == ['hydra.sweep.dir="out,1"', "-m"]


def test_paths_and_texts_are_declared_where_they_are() -> None:
    paths = {"run_dir", "data.root", "data.sets.root", "extends.run", "extends.folders.folder", "trainer.features_dir"}
    texts = {"logger.project", "logger.entity", "logger.name", "logger.group"}
    files = {"method.backbone_file", "model.weights_file"}
    assert kinds() == dict.fromkeys(paths, "folder") | dict.fromkeys(texts, "text") | dict.fromkeys(files, "file")


def test_texts_reach_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["run_dir=runs, (1)", "logger.name=März: a=b", "logger.group=1_0", "data.root=~/a$b"]
    config = compose_typed([*texts, "logger=wandb", "data=image_folder", "data.increment=1"])
    assert (config.logger.name, config.logger.group) == ("März: a=b", "1_0")
    assert config.run_dir == str(tmp_path / "runs, (1)")
    assert config.data.root == os.path.expanduser("~/a$b")
