"""Each use of what Hydra and OmegaConf do not document, against the very versions that are installed: an update that
breaks one fails here.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cl_lightning.config import hydra_internals as internals
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.registry import register
from cl_lightning.config.yaml_files import config_dir
from scripts.check_imports import violations

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("distribution", internals.VERIFIED)
def test_the_file_was_verified_with_what_is_installed_and_locked(distribution: str) -> None:
    verified = internals.VERIFIED[distribution]
    assert version(distribution) == verified, "read hydra_internals.py again, then write the new version into VERIFIED"
    assert f"\n{distribution}=={verified} " in (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")


def test_flags_of_the_command_line() -> None:
    flags = internals.command_line_flags()
    assert (flags["-m"].nargs, flags["--multirun"].dest) == (0, "multirun")
    assert list(flags["--cfg"].choices or ()) == ["job", "hydra", "all"]
    assert (flags["--cfg"].nargs, flags["--info"].nargs) == (None, "?")


def test_overrides_are_read_as_hydra_reads_them() -> None:
    plain, chosen, ranged, searched = internals.parse_overrides(["a=1", "b=1,x", "c=range(1,3)", "d=interval(0,1)"])
    assert (plain.key_or_group, plain.value(), plain.input_line) == ("a", 1, "a=1")
    assert (plain.is_sweep_override(), chosen.is_choice_sweep()) == (False, True)
    assert (ranged.is_range_sweep(), searched.is_interval_sweep()) == (True, True)
    assert list(chosen.sweep_string_iterator()) == ["1", "x"]
    with pytest.raises(OverrideParseException) as raised:
        internals.parse_overrides(["b=1", "a=["])
    assert raised.value.override == "a=["


def test_values_are_read_with_their_quotes_and_sweeps() -> None:
    quoted = internals.as_typed('"x,y"')
    assert (quoted, quoted.text) == (internals.QuotedString("x,y", internals.Quote.double), "x,y")
    assert quoted.with_quotes() == '"x,y"'
    assert [internals.as_typed(each) for each in ("x", "1", "null", "[", "1" * 5000)] == ["x", 1, None, None, None]
    assert isinstance(internals.as_typed("1,x"), internals.ChoiceSweep)
    assert internals.as_typed("1,x").list == [1, "x"]
    assert all(isinstance(internals.as_typed(each), internals.Sweep) for each in ("range(1,3)", "interval(0,1)"))
    assert isinstance(internals.as_typed("glob(*)"), internals.Glob)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("${x}", True), (r"\${x}", True), ("a${oc.env:HOME}b", True), ("${", False), ("$x", False), ("", False)],
)
def test_what_omegaconf_would_fill_in(text: str, expected: bool) -> None:
    assert internals.has_interpolation(text) is expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("${x}", "Interpolation key 'x' not found"),
        ("${oc.env:NOBODY_HAS_THIS}", "Environment variable 'NOBODY_HAS_THIS' not found"),
        ("${nix:1}", "Unsupported interpolation type nix"),
    ],
)
def test_why_something_was_not_filled_in(text: str, why: str) -> None:
    with pytest.raises(OmegaConfBaseException) as raised:
        OmegaConf.create({"a": text}).get("a")
    assert internals.why_unresolved(raised.value) == why


@dataclasses.dataclass
class _Phase:
    lr: float = 0.1


@dataclasses.dataclass
class _Method:
    phase: _Phase | None = None


@pytest.mark.parametrize(("key", "value"), [("phase.lr", 1), ("phase", {"lr": 1})])
def test_a_value_in_a_group_that_is_null(key: str, value: Any) -> None:
    with pytest.raises((AssertionError, AttributeError)) as raised:
        OmegaConf.update(OmegaConf.structured(_Method), key, value, merge=True)
    assert internals.merges_into_null(raised.value)
    assert not internals.merges_into_null(AssertionError("ours"))
    assert not internals.merges_into_null(ValueError("type for root"))


def test_types_are_found_but_neither_listed_nor_copied() -> None:
    register()
    store = ConfigStore.instance()
    assert store.list("method") == []
    assert copy.deepcopy(store) is store
    first, second = (store.load("method/schema_dytox.yaml").node for _ in range(2))
    first.temperature = 7.0
    assert OmegaConf.is_missing(second, "temperature"), "Hydra copies what it reads, so the store need not be copied"


class _Noting(Launcher):
    def __init__(self, launcher: Launcher, answers: list[JobReturn]) -> None:
        self.launcher, self.answers = launcher, answers

    def setup(self, **given: Any) -> None:
        """Nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.answers.extend(self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx))
        return self.answers


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hydra's plugins and its state, as they are given back afterwards."""
    instance = Plugins.instance()
    for name in ("instantiate_sweeper", "instantiate_launcher"):
        monkeypatch.setattr(instance, name, getattr(instance, name))
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def test_a_multirun_goes_through_the_plugins_that_replace_its_own(
    plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[JobReturn] = []
    seen: list[str] = []

    def sweeper(config: DictConfig, make: Callable[[], Sweeper]) -> Sweeper:
        seen.append(config.hydra.sweeper._target_)
        return make()

    def job(config: DictConfig) -> float:
        return 6 / config.x

    internals.replace_plugins(sweeper, lambda config, made: _Noting(made, answers))
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none", f"hydra.sweep.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["job", *quiet, "+x=2,0", "-m"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ZeroDivisionError):
        hydra.main(config_path=str(tmp_path), config_name=None, version_base="1.3")(job)()
    assert [name.rpartition(".")[2] for name in seen] == ["BasicSweeper"], "asked once, with the configuration"
    good, bad = answers
    assert good.return_value == 3
    assert bad.status is JobStatus.FAILED
    assert isinstance(internals.error_of_job(bad), ZeroDivisionError)


def test_a_job_is_as_it_was_behind_another_composition(plugins: None) -> None:
    register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        job = GlobalHydra.instance().hydra
        compose_one_of_many(["run_dir=none"])
        assert GlobalHydra.instance().hydra is job
        with pytest.raises(HydraException):
            compose_one_of_many(["run_dir=none", "seed=abc"])
        assert GlobalHydra.instance().hydra is job
    assert not GlobalHydra.instance().is_initialized()
    compose_one_of_many(["run_dir=none"])
    assert not GlobalHydra.instance().is_initialized()


# ---- nowhere else ----------------------------------------------------------------------------------------------------


def _private(tree: ast.AST) -> Iterator[str]:
    """Attributes of others that begin with an underscore, and those of the libraries' classes that are assigned."""
    theirs = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and re.match(r"(hydra|omegaconf)\b", node.module or "")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if node.attr.startswith("_") and not node.attr.endswith("_") and owner not in ("self", "cls"):
            yield f"{node.lineno}: {ast.unparse(node)}"
        if owner in theirs and isinstance(node.ctx, ast.Store):
            yield f"{node.lineno}: {ast.unparse(node)} = ..."


def _uses(source: str) -> list[str]:
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return list(_private(tree)) if any(re.search(r"\b(hydra|omegaconf)\b", ast.unparse(one)) for one in imports) else []


def test_no_other_file_uses_what_is_private() -> None:
    package = ROOT / "cl_lightning"
    assert violations(package) == []
    found = {
        path.relative_to(package).as_posix(): uses
        for path in package.rglob("*.py")
        if path.name != "hydra_internals.py" and (uses := _uses(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("node = config._get_node('a')", "config._get_node"),
        ("from hydra.core.config_store import ConfigStore\nConfigStore.list = print", "ConfigStore.list = ..."),
    ],
)
def test_such_uses_are_found(code: str, use: str) -> None:
    (line,) = _uses(f"import omegaconf\n{code}\nself._own = config.hydra.launcher._target_")
    assert line.endswith(f": {use}")
