"""Command lines composed of every option and of invalid values, judged in this process without a run.

``python -m scripts.soak.command_lines 10000 0`` tries so many from a seed and prints each that ends in a traceback.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from hydra.core.global_hydra import GlobalHydra

from cl_lightning.__main__ import learnt_configuration, saved_configuration
from cl_lightning.config.command_line.arguments import read
from cl_lightning.config.command_line.literals import option_keys
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.hydra_errors import explain
from cl_lightning.config.saved import to_plain
from cl_lightning.config.schema import Config
from cl_lightning.config.yaml_files import options
from cl_lightning.core.errors import UserError, as_user_error
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.resources.memory_estimate import check_memory

GROUPS = ("method", "data", "model", "memory", "recipe", "trainer", "logger", "experiment", "sweep", "debug")
NASTY = (
    "nan", "inf", "-inf", "-1", "0", "1", "2", "1e30", "-1e30", "1e-300", "1e400", str(2**70), str(-(2**70)), "0.5",
    "1.5", "1000000", "true", "false", "", "null", "none", "auto", "[]", "{}", "[nan]", "[inf,1]", "[0]", "[null]",
    "[[1]]", "[1,2]", "{a: 1}", "{name: wa}", "[{}]", "[{name: digits}]", "[{name: digits, test_share: nan}]",
    "${seed}", "${data.sets}", "${method}", "${x}", "${", "${oc.env:HOME}", "${oc.env:NOBODY_HAS_THIS}",
    "${seed}${seed}", "[${seed}]", "'", '"', '"a,b"', "a,b", "a=b", "a b", "ü", "Ünïcödé", "\u202e", "\\", "[", "]",
    "{", "~", "-", "--", "%s", "x" * 3000, "1" * 5000, "range(1,3)", "choice(1,2)", "interval(0,1)", "glob(*)",
    "int(1)", "str(1)", "json_str({a: 1})", "extend_list(1)", "sort(2,1)", "shuffle(a,b)", "tag(a,choice(1,2))",
    "???", "0x10",
    "1_000", "2026-01-01", "!!python/object:x", "*", "&a", "\x00", "\n", "a\nb", "\x1b[31m",
)  # fmt: skip
"""Values, most of which are wrong for most options."""
_PREFIXES = ("", "", "", "", "", "", "+", "++", "~")
_ENTRY = ("0", "1", "-1", "x", "99999999999")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command line."""

    kind: Literal["accepted", "refused", "traceback"]
    text: str = ""
    """The line of a refusal, or the traceback."""


@cache
def _keys() -> tuple[str, ...]:
    return tuple(sorted(option_keys()))


def trial(drawn: random.Random, run: Path | None = None) -> list[str]:
    """Return a command line of one to four parts; where there is a ``run`` (:func:`saved_run`), some go on with it."""
    begun = []
    if run is not None and drawn.random() < 0.3:
        begun = drawn.choice(([f"resume={run}"], [f"learn={run}", f"data.new={run / 'new'}"]))
    return [*begun, *(_part(drawn) for _ in range(drawn.choice((1, 1, 1, 2, 2, 3, 4))))]


def saved_run(folder: Path, *overrides: str) -> Path:
    """Write the configuration of a run into ``folder``, and beside it classes to learn; return the run's folder."""
    run = folder / "run"
    for name in ("a", "b"):
        (run / "new" / name).mkdir(parents=True, exist_ok=True)
    plain = to_plain(compose_typed([f"run_dir={run}", *overrides]))
    (run / "config.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    return run


def _part(drawn: random.Random) -> str:
    kind = drawn.random()
    if kind < 0.15:  # so that the options of other choices are there to be typed
        group = drawn.choice(GROUPS)
        return f"{group}={drawn.choice(options(group))}"
    if kind < 0.2:
        return f"{drawn.choice(_PREFIXES)}{drawn.choice(GROUPS)}={drawn.choice(NASTY)}"
    prefix, key, value = drawn.choice(_PREFIXES), drawn.choice(_keys()), drawn.choice(NASTY)
    if key.startswith("data.sets.") and kind < 0.9:
        key = f"data.sets.{drawn.choice(_ENTRY)}.{key.removeprefix('data.sets.')}"
    elif kind < 0.25:
        parent, _, name = key.rpartition(".")
        key, value = parent or key, f"{{{name}: {value}}}"
    elif kind < 0.28:
        key = f"{key}.{drawn.choice(('x', '0', 'name', '', 'ü'))}"
    return f"{prefix}{key}" if prefix == "~" and drawn.random() < 0.5 else f"{prefix}{key}={value}"


def outcome(arguments: list[str]) -> Outcome:
    """Return the program's answer to ``arguments``, a run's overrides, before it touches the disk."""
    GlobalHydra.instance().clear()
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            _look_at(_configuration(read([*arguments, *_where(arguments)])))
    except UserError as error:
        return _one_line(str(error))
    except Exception as error:
        line = explain(error, arguments)
        return Outcome("traceback", traceback.format_exc()) if line is None else _one_line(line)
    strange = [line for line in said.getvalue().splitlines() if not line.startswith("warning: ")]
    return Outcome("traceback", f"said: {said.getvalue()}") if strange else Outcome("accepted")


def _configuration(arguments: list[str]) -> Config:
    """Build the configuration as the program does."""
    if any(word.startswith("learn=") for word in arguments):
        return learnt_configuration(arguments)
    if any(word.startswith("resume=") for word in arguments):
        return saved_configuration(arguments)
    return compose_typed(arguments)


def _where(arguments: list[str]) -> list[str]:
    given = any(word.lstrip("+~").startswith(("run_dir", "resume=")) for word in arguments)
    return [] if given else ["run_dir=not_made"]


def _look_at(config: Config) -> None:
    """Do what a run does next, where it costs nothing."""
    with as_user_error():
        names = {entry.name for entry in config.data.sets} or {config.data.name}
        if names == {"digits"}:
            check_memory(config, dataset_scenario(config.data))


def _one_line(text: str) -> Outcome:
    return Outcome("traceback", f"not one line: {text!r}") if len(text.splitlines()) != 1 else Outcome("refused", text)


def trials(seed: int, count: int) -> Iterator[tuple[list[str], Outcome]]:
    """Yield ``count`` command lines and their outcomes."""
    drawn = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        run = saved_run(Path(folder), f"method={drawn.choice(options('method'))}")
        for _ in range(count):
            arguments = trial(drawn, run)
            yield arguments, outcome(arguments)


def main() -> None:
    """Try, and print what went wrong."""
    count, seed = (
        (int(word) for word in (*sys.argv[1:], "500", "0")[:2]) if len(sys.argv) != 2 else (int(sys.argv[1]), 0)
    )
    counts: dict[str, int] = {}
    for arguments, came in trials(seed, count):
        counts[came.kind] = counts.get(came.kind, 0) + 1
        if came.kind == "traceback":
            print(arguments, came.text, sep="\n", flush=True)
    print(f"seed {seed}: {counts}")
    sys.exit(1 if counts.get("traceback") else 0)


if __name__ == "__main__":
    main()
