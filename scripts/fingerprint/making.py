"""The making of the runs, through nothing but the public command line and its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError
from threading import Event
from typing import NamedTuple

from scripts.fingerprint.checkouts import commit_of
from scripts.fingerprint.ledger import Ledger, machine, version_of
from scripts.fingerprint.numbers import Run, read_run
from scripts.fingerprint.settings import Group


class Ended(NamedTuple):
    """The exit code and output of a command."""

    code: int
    told: str


Call = Callable[[Sequence[str], Path, Mapping[str, str]], Ended]
"""Function that runs a command in a folder with an environment."""


def call(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ended:
    """Run a command in a process of its own."""
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return Ended(done.returncode, done.stdout)


def make_ledger(
    checkout: Path, groups: Sequence[Group], say: Callable[[str], None], call: Call = call, jobs: int = 1
) -> Ledger:
    """Run the package in ``checkout``, ``jobs`` groups at a time, each in a process with one thread. A run
    that fails is in it as failed; the reason is reported.

    Raises:
        ValueError: another package than the checkout's was run.
    """
    started = time.monotonic()
    package = {"version": version_of(checkout), "commit": commit_of(checkout)}
    runs: dict[str, Run] = {}
    stopped = Event()

    def until_stopped(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ended:
        """Run a command unless Ctrl-C has ended the others, which must not look like methods that failed."""
        ended = Ended(1, "") if stopped.is_set() else call(command, folder, environment)
        if stopped.is_set():
            raise KeyboardInterrupt
        return ended

    with tempfile.TemporaryDirectory(prefix="fingerprint-") as folder, ThreadPoolExecutor(jobs) as pool:

        def make(number: int) -> dict[str, Run]:
            return _runs(checkout, groups[number], Path(folder) / str(number), say, until_stopped)

        try:
            for found in (pool.map if jobs > 1 else map)(make, range(len(groups))):
                runs |= found
        except BaseException:
            stopped.set()
            raise
    return Ledger(package, machine(), runs, round(time.monotonic() - started, 1))


def _runs(checkout: Path, group: Group, folder: Path, say: Callable[[str], None], call: Call) -> dict[str, Run]:
    """Make the runs of a group: all in one process, as a start takes longer than many a run. One without results there
    gets a process of its own: a method that this commit does not know, or a crash, ends the others too.
    """
    say(f"running {', '.join(map(group.name, group.methods))}")
    ended = call(_command(group, group.methods, folder), checkout, _environment(checkout))
    found: dict[str, Run] = {}
    for method in group.methods:
        place, why = folder / method, ended
        if len(group.methods) > 1 and not (place / "results.json").is_file():
            place = folder / "alone" / method
            why = call(_command(group, [method], place.parent), checkout, _environment(checkout))
        run = _read(checkout, place, group, why.code)
        if run.failed:
            say(f"{group.name(method)} failed, {run.failed}:\n{_tail(why.told)}")
        found[group.name(method)] = run
    return found


def _read(checkout: Path, place: Path, group: Group, code: int) -> Run:
    overrides = list(group.overrides)
    if not (place / "results.json").is_file():
        return Run(overrides, failed=f"exit code {code} and no results.json")
    _check_commit(checkout, place)
    try:
        return read_run(place, overrides)
    except OSError as error:  # its own words would name a folder of this machine
        return Run(overrides, failed=f"{Path(error.filename or '').name} cannot be read: {error.strerror}")
    except (ValueError, LookupError, RuntimeError, UnpicklingError) as error:
        return Run(overrides, failed=f"its files cannot be read: {type(error).__name__} {error}")


def _check_commit(checkout: Path, place: Path) -> None:
    """Raise ``ValueError`` if an installed package was run in place of the checkout's."""
    results = json.loads((place / "results.json").read_text(encoding="utf-8"))
    ran, meant = results["provenance"].get("commit"), commit_of(checkout)
    if meant is not None and (ran or "none").rstrip("+") != meant.rstrip("+"):
        raise ValueError(f"the package that ran is of commit {ran}, not {meant}: type make fingerprint in its checkout")


def _command(group: Group, methods: Sequence[str], folder: Path) -> list[str]:
    """Return the command as typed; paths with odd characters are quoted for Hydra."""
    return [
        sys.executable, "-m", "cl_lightning", "-m", f"method={','.join(methods)}", *group.overrides,
        f"hydra.sweep.dir='{folder}'", "hydra.sweep.subdir=${method.name}",
    ]  # fmt: skip


def _environment(checkout: Path) -> dict[str, str]:
    """Return an environment with one thread, no GPU, no page, and the checkout's package before an installed one."""
    ours = {
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "CL_LIGHTNING_REPORT": "false",
        "WANDB_MODE": "disabled",
    }
    return {**os.environ, **ours}


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
