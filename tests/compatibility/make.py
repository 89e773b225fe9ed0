"""Make the runs that are kept, and record what comes of them: ``python -m tests.compatibility.make CODE [NAME ...]``.

CODE is a clean worktree of the commit that the runs are of (``git worktree add CODE 93a97df``); whatever else is on the
path, its program makes the runs and carries out the operations. NAME chooses cases, those made of others behind them;
with --record, the runs are those that are kept already, and only what comes of them is written down anew.
What would tell of this machine is taken out of the files, see README.md; a file that still names it is an error.
"""

from __future__ import annotations

import getpass
import json
import lzma
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMIT = "93a97df"
RUNS = Path(__file__).with_name("runs")
_NOT_KEPT = ("hydra.yaml", "multirun.yaml")
"""Hydra's own account of the machine; nobody reads it."""
_DRAWN = (".html", ".png", ".svg")
"""Drawn from the other files of a run, and again by ``report``."""
_TEXTS = (".csv", ".json", ".log", ".yaml")
_watched: dict[str, bool] = {}
"""Checkpoint -> whether it has been written."""


def main(arguments: list[str]) -> int:
    """Carry out the command line; returns the exit code."""
    code = _code(Path(arguments[0]).resolve())
    os.environ.update(CL_LIGHTNING_REPORT="false", OMP_NUM_THREADS="1", WANDB_MODE="disabled", MPLBACKEND="Agg")
    os.environ["CL_LIGHTNING_CACHE"] = tempfile.mkdtemp()
    sys.path.insert(0, str(code))
    import torch

    import cl_lightning
    from tests.compatibility.cases import CASES

    if Path(cl_lightning.__path__[0]).parent != code:
        raise SystemExit(f"cl_lightning is that of {cl_lightning.__path__[0]}, not of {code}")
    torch.set_num_threads(1)
    sys.addaudithook(_stop_when_written)
    names = [name for name in arguments[1:] if name != "--record"]
    for name in names or CASES:
        if "--record" not in arguments:
            _make(name, code)
        _record(name)
    total = sum(file.stat().st_size for file in RUNS.iterdir())
    print(f"{total / 1e6:.2f} MB in {RUNS}")
    return 0


def _code(folder: Path) -> Path:
    git = ["git", "-C", str(folder)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    if not head.startswith(COMMIT) or changed:
        raise SystemExit(f"{folder} is not a clean worktree of {COMMIT}: type git worktree add {folder} {COMMIT}")
    return folder


@contextmanager
def _elsewhere() -> Iterator[Path]:
    """A folder of its own to work in, with the pictures."""
    from tests.compatibility.operations import write_all_pictures

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_all_pictures(folder)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


# ---- making ------------------------------------------------------------------------------------------------------


def _make(name: str, code: Path) -> None:
    """Make the case, and pack it."""
    from tests.compatibility.cases import CASES
    from tests.compatibility.commands import BUNDLE, PROGRAM, type_in
    from tests.compatibility.kept import unpack
    from tests.compatibility.operations import FILE

    case, run_dir = CASES[name], Path("runs") / name
    with _elsewhere() as folder:
        first, *rest = case.made
        for other in CASES:  # the run that this one is made of
            if first.removeprefix("resume=").removeprefix("learn=") == f"runs/{other}":
                unpack(other, folder)
        if not case.jobs and not first.startswith(("resume=", "learn=", "runs/")):
            typed = [*case.made, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}"]
        elif case.jobs:
            typed = [*case.made, f"hydra.sweep.dir={run_dir}"]
        elif first.startswith("learn="):
            typed = [*case.made, f"run_dir={run_dir}"]
        elif first.startswith("resume="):
            shutil.move(first.removeprefix("resume="), run_dir)
            typed = [f"resume={run_dir}", *CASES[first.removeprefix("resume=runs/")].moved, *rest]
        else:
            run_dir.mkdir()
            type_in(BUNDLE, "export", first, run_dir / FILE)
            typed = []
        if typed:
            with _interrupted(run_dir, case.stopped):
                type_in(PROGRAM, *typed, code=0 if case.stopped is None else 75)
        for place in [run_dir / job for job in case.jobs] or [run_dir]:
            _thin_out(place / "checkpoints")
        _scrub(run_dir, folder, code)
        _pack(name, folder)
    print(f"{name}: {(RUNS / name).with_suffix('.tar.xz').stat().st_size} bytes")


@contextmanager
def _interrupted(run_dir: Path, checkpoint: str | None) -> Iterator[None]:
    """Press Ctrl-C when the file has been written."""
    if checkpoint is None:
        yield
        return
    _watched[checkpoint] = False
    yield
    if not _watched.pop(checkpoint):
        raise SystemExit(f"{run_dir} was never at {checkpoint}")


def _stop_when_written(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: a file takes its name when all of it is there."""
    if event == "os.rename" and _watched.get(Path(os.fsdecode(arguments[1])).name) is False:
        _watched[Path(os.fsdecode(arguments[1])).name] = True
        signal.raise_signal(signal.SIGINT)


def _thin_out(checkpoints: Path) -> None:
    """Leave the end of the last task, and of the places within tasks the last one if the run was left there."""
    files = sorted(
        checkpoints.glob("task_*.pt"), key=lambda file: (file.stem.split("_")[1], "_item_" not in file.name, file.name)
    )
    for file in files[:-1]:
        if "_item_" in file.name:
            file.unlink()


# ---- what tells of this machine ----------------------------------------------------------------------------------


def _scrub(run_dir: Path, folder: Path, code: Path) -> None:
    """Leave out of text files where and on what they were made."""
    files = [file for file in sorted(run_dir.rglob("*")) if file.is_file()]
    for file in files:
        if file.name in _NOT_KEPT or file.suffix in _DRAWN:
            file.unlink()
        elif file.suffix in _TEXTS:
            text = file.read_text(encoding="utf-8").replace(f"{folder}/", "")
            if file.name == "results.json":
                results = json.loads(text)
                results["provenance"] |= {"host": "host", "device": "processor"}
                text = json.dumps(results, indent=2) + "\n"
            file.write_text(text, encoding="utf-8")
    paths = [str(folder), str(code), str(Path.home()), sys.prefix, f"/{getpass.getuser()}/", tempfile.gettempdir()]
    for file in filter(Path.is_file, files):
        content = file.read_bytes()
        found = [path for path in paths if path.encode() in content]
        if file.suffix in _TEXTS and re.search(rf"\b{re.escape(platform.node())}\b", content.decode()):
            found.append("the host")
        if found:
            raise SystemExit(f"{file} names {', '.join(found)}")


# ---- packing -----------------------------------------------------------------------------------------------------


def _pack(name: str, folder: Path) -> None:
    RUNS.mkdir(exist_ok=True)
    target = RUNS / f"{name}.tar.xz"
    with (
        lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for file in sorted(path for path in (folder / "runs" / name).rglob("*") if path.is_file()):
            info = tarfile.TarInfo(file.relative_to(folder).as_posix())
            info.size = file.stat().st_size
            with file.open("rb") as content:
                tar.addfile(info, content)


# ---- recording ---------------------------------------------------------------------------------------------------


def _record(name: str) -> None:
    """Carry out the case's operations, each on a fresh copy, and write down what comes of them."""
    from tests.compatibility.cases import CASES
    from tests.compatibility.kept import unpack
    from tests.compatibility.operations import carry_out

    recorded: dict[str, Any] = {}
    for operation in CASES[name].does:
        with _elsewhere() as folder:
            unpack(name, folder)
            recorded[operation] = carry_out(operation, name, CASES[name])
    (RUNS / f"{name}.json").write_text(_lines(recorded) + "\n", encoding="utf-8")


def _lines(plain: Any, depth: int = 3) -> str:
    """JSON with a line for each value ``depth`` mappings down."""
    if depth == 0 or not isinstance(plain, dict) or not plain:
        return json.dumps(plain, sort_keys=True, allow_nan=False)
    inner = ",\n".join(f"{json.dumps(key)}: {_lines(plain[key], depth - 1)}" for key in sorted(plain))
    return f"{{\n{inner}\n}}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
