"""What is typed, before Hydra reads it."""

from __future__ import annotations

import re

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore

from cl_lightning.config.command_line.arguments import read, wants_many
from cl_lightning.config.registry import register
from cl_lightning.core.errors import UserError
from tests.integration.commands import typed as typed_line


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("", ""),
        ("method=wa seed=1", "method=wa seed=1"),
        ("method=wa -m seed=0,1", "method=wa seed=0,1 -m"),
        ("--multirun method=wa", "method=wa --multirun"),
        ("--cfg job method=wa -v", "method=wa verbose=2 --cfg job"),
        ("method=wa --cfg=job -q seed=1", "method=wa verbose=0 seed=1 --cfg=job"),
        ("--info defaults method=wa", "method=wa --info defaults"),
        ("--info method=wa", "method=wa --info"),
        ("-c job -p data seed=1 --resolve", "seed=1 -c job -p data --resolve"),
        ("seed=-1 ~sweep +a=1", "seed=-1 ~sweep +a=1"),
        ("resume=runs/0 -v", "resume=runs/0 verbose=2"),
    ],
)
def test_flags_come_behind_overrides_with_their_values(typed: str, given: str) -> None:
    assert read(typed.split()) == given.split()


@pytest.mark.parametrize("typed", ["-m a=1,2 b=1", "a=1,2 -m b=1", "a=1,2 b=1 -m"])
def test_hydra_reads_a_multirun_wherever_the_flag_stands(typed: str) -> None:
    arguments = get_args_parser().parse_args(read(typed.split()))
    assert arguments.multirun
    assert arguments.overrides == ["a=1,2", "b=1"]
    assert wants_many(read(typed.split()))


def test_types_are_nobody_s_choice() -> None:
    register()
    store = ConfigStore.instance()
    assert store.list("method") == []
    assert store.load("method/schema_dytox.yaml").node is not None, "but Hydra finds them"


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed_line("--version") == 0
    assert re.fullmatch(r"cl_lightning \d+\.\d+\.\d+\S*, Hydra 1\.3\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--hlep", r"^--hlep does not exist \(did you mean --help\?\): type --help"),
        ("seed=1 -x", "^-x does not exist: type --help"),
        ("--help=1", "^--help=1 is not possible: type --help alone"),
        ("--cfg", "^--cfg has no value: type --cfg job or --cfg hydra or --cfg all"),
        ("seed=1 --cfg seed=2", "^--cfg seed=2 is not a choice: type --cfg job"),
        ("-cn -m", "^-cn has no value: type -cn CONFIG_NAME"),
        ("-m seed=0,1 --cfg job", "^--cfg prints one configuration: leave out -m"),
        ("=5", "^=5 cannot be read: type key=value"),
        ("", "^ cannot be read"),
        ("debug=true", "^debug=true does not exist: type debug= one of one_task, smoke$"),
        ("data=100", "^data=100 does not exist: type data= one of aircraft, "),
        ("-m memory=total,2", "^memory=total,2 does not exist"),
        ("experiment=null", "^experiment=null is what holds without it: leave it out$"),
        ("method=", "^method=, but a run needs one: type method=bic or classifier_only or "),
        ("memory=null", "^memory=null, but a run needs one: type memory=none or per_class or total$"),
        ("method=[dytox,wa]", "^method=.* are several, but a run has one: type one, or -m method=dytox,wa for all$"),
        ("method=schema_meat", "^method=schema_meat is the type that options start from"),
    ],
)
def test_what_hydra_would_answer_with_a_page_is_a_line(typed: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        read(typed.split() or [typed])
    assert "\n" not in str(error.value)
