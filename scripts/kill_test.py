"""Kill a small run again and again, and prove that it ends as if nobody had: `python scripts/kill_test.py kills=50`.

    python scripts/kill_test.py [kills=50] [methods=dytox,icarl] [workers=0,2] [seed=0] [out=DIR] [key=value ...]

One run is undisturbed. Then the same run is made once more in another folder and killed with SIGKILL, half of the time
at a random instant and half of the time at a random call of a critical function (in the middle of a step, of writing a
checkpoint, between writing and renaming, while herding, evaluating, reporting); it goes on with resume=, is killed
again, and so on until it ends, and until enough kills have been made. Results (without provenance), counts, exemplars,
weights and the rows of the curves must be those of the run in peace. With workers=2, the digits are read from files.

Each process is forked from one that has imported everything, so that a start costs a fraction of a second.
The exit code is 1 for a difference.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.hydra_errors import explain
from cl_lightning.config.saved import load_saved
from cl_lightning.config.schema import Config
from cl_lightning.config.unused.check import told
from cl_lightning.core.errors import UserError

SMALL = (
    "data.increment=[4,3,3]",
    "epochs_scale=0.004",
    "balanced_epochs_scale=0.1",
    "trainer.threads=1",
    "trainer.checkpoint_steps=3",
    "trainer.log_every=2",
    "evaluate_phases=true",
    "trainer.progress=none",
)
"""Three tasks with steps enough to be killed in, and a checkpoint every few of them."""

SITES = {
    "step": ("cl_lightning.methods.base", "Method.after_step"),
    "backward": ("cl_lightning.learning.non_finite", "NonFiniteGuard.guard"),
    "checkpoint, writing": ("cl_lightning.checkpoint.files", "HashingFile.write"),
    "checkpoint, written": ("cl_lightning.checkpoint.files", "HashingFile.finish"),
    "file, written": ("os", "replace"),
    "file, renamed": ("cl_lightning.core.atomic_write", "_sync_folder"),
    "checkpoint, clearing away": ("cl_lightning.checkpoint.files", "_superseded"),
    "parts, clearing away": ("cl_lightning.checkpoint.parts", "Parts.remove_unreferred"),
    "herding": ("cl_lightning.memory.rehearsal", "RehearsalMemory.update"),
    "evaluating": ("cl_lightning.run.task_loop", "evaluate_all"),
    "between items": ("cl_lightning.checkpoint.schedule", "CheckpointSchedule.after_item"),
    "reporting": ("cl_lightning.run.run_dir", "write_results"),
    "curves": ("cl_lightning.learning.loggers", "Curves.log"),
    "curves of a task": ("cl_lightning.learning.loggers", "Curves.log_task"),
    "evaluating after a phase": ("cl_lightning.run.task_loop", "evaluate_ready"),
    "curves of a phase": ("cl_lightning.learning.loggers", "Curves.log_phase"),
    "growing": ("cl_lightning.methods.base", "frozen_copy"),
}
"""Critical functions: the process ends at one call of these, before it does anything."""
FEW = {"step": 40, "backward": 40, "checkpoint, writing": 60, "curves": 20}
_DIGITS = Path("digits")


@dataclass(frozen=True)
class Request:
    """The options of a command line."""

    kills: int
    methods: tuple[str, ...]
    workers: tuple[int, ...]
    seed: int
    out: Path
    overrides: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code."""
    try:
        request = _request(arguments)
        warm_up()
        total, hits = 0, Counter[str]()
        cases = [(method, workers) for method in request.methods for workers in request.workers]
        _refuse_unread(request, cases)
        for index, (method, workers) in enumerate(cases):
            wanted = request.kills * (index + 1) // len(cases) - total
            made = _case(request, method, workers, wanted)
            total += made.total()
            hits += made
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain(error, arguments)}", file=sys.stderr)
        return 2
    except (UserError, ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except DifferenceError as error:
        print(f"DIFFERENT: {error}", file=sys.stderr)
        return 1
    listed = ", ".join(f"{name} {count}" for name, count in sorted(hits.items()))
    print(f"{total} kills, no difference ({listed})")
    return 0


class DifferenceError(Exception):
    """A killed run's result differs from that of the undisturbed one: the defect that this program looks for."""


def _request(arguments: Sequence[str]) -> Request:
    own = {"kills": "50", "methods": "dytox", "workers": "0", "seed": "0", "out": ""}
    overrides = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ValueError(f"{argument} is not key=value: type kills=50 methods=dytox,icarl workers=0,2 out=DIR")
        if key in own:
            own[key] = value
        else:
            overrides.append(argument)
    out = Path(own["out"]) if own["out"] else Path(tempfile.mkdtemp(prefix="kill_test_"))
    workers = tuple(int(number) for number in own["workers"].split(","))
    methods = tuple(own["methods"].split(","))
    return Request(int(own["kills"]), methods, workers, int(own["seed"]), out.resolve(), tuple(overrides))


def _options(request: Request, method: str, workers: int) -> list[str]:
    return [f"method={method}", *SMALL, *_data(request.out, workers), *request.overrides]


def _refuse_unread(request: Request, cases: Sequence[tuple[str, int]]) -> None:
    """Raise ``UserError`` for something that was typed and that no run reads."""
    if not request.overrides:
        return
    idle = [compose_one_of_many([*_options(request, *case), "run_dir=none"])[1] for case in cases]
    by_all = set.intersection(*({one.text for one in of_one} for of_one in idle)) & set(request.overrides)
    if by_all:
        raise UserError(told([one for one in idle[0] if one.text in by_all], "none of the runs"))


def _composed(options: Sequence[str], run_dir: Path) -> Config:
    """Compose the configuration of one of several methods, which need not read all options."""
    return compose_one_of_many([*options, f"run_dir={run_dir}"])[0]


def _case(request: Request, method: str, workers: int, kills: int) -> Counter[str]:
    """Test one method on one number of workers: at least ``kills`` kills, at least one whole run."""
    chance = random.Random(f"{request.seed} {method} {workers}")
    folder = request.out / f"{method}_workers{workers}"
    options = _options(request, method, workers)
    peace = folder / "peace"
    started = time.monotonic()
    ended = run(_composed(options, peace), resume=False)
    if ended != 0:
        raise DifferenceError(f"the run in peace ended with {ended}: see {peace}/out.txt")
    seconds = time.monotonic() - started
    expected, hits, rounds = outcome(peace), Counter[str](), 0
    while rounds == 0 or hits.total() < kills:
        killed = folder / f"killed_{rounds:02d}"
        hits += _killed_until_done(_composed(options, killed), seconds, chance)
        rounds += 1
        found = outcome(killed)
        for name, value in expected.items():
            if found[name] != value:
                raise DifferenceError(f"{name} of {killed} is not that of {peace}")
    print(f"{method}, {workers} workers: {hits.total()} kills in {rounds} runs of {seconds:.0f} s, no difference")
    return hits


def _killed_until_done(config: Config, seconds: float, chance: random.Random) -> Counter[str]:
    """Start, kill, resume, kill ... until the run ends by itself."""
    hits, run_dir = Counter[str](), Path(config.run_dir)
    while True:
        resume = (run_dir / "config.yaml").exists()
        resumed = load_saved(run_dir) if resume else config
        if chance.random() < 0.5:
            name, ended = "random instant", run(resumed, resume=resume, after=chance.uniform(0.0, seconds / 2))
        else:
            name = chance.choice(list(SITES))
            ended = run(resumed, resume=resume, site=name, call=chance.randint(1, FEW.get(name, 4)))
        if ended == 0:
            return hits
        if ended != -signal.SIGKILL:
            raise DifferenceError(f"{run_dir} ended with {ended}: see {run_dir}/out.txt")
        hits[name] += 1


def run(config: Config, *, resume: bool, after: float | None = None, site: str | None = None, call: int = 1) -> int:
    """Run one process, killed ``after`` seconds, or at the ``call``-th call of a ``site``; returns its exit code."""
    from cl_lightning.run.train import execute

    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            told = os.open(run_dir / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(told, 1)
            os.dup2(told, 2)
            if site is not None:
                mine(*SITES[site], call)
            execute(config, resume=resume)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
    deadline = None if after is None else time.monotonic() + after
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        time.sleep(0.002)


def mine(module: str, path: str, call: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the process send itself a signal at the ``call``-th call of ``module.path``."""
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    target: Callable[..., Any] = getattr(owner, name)
    left = call

    @functools.wraps(target)
    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)
        return target(*arguments, **options)

    setattr(owner, name, deadly)
    for other in list(sys.modules.values()):  # and wherever it has been imported by name
        if getattr(other, "__name__", "").startswith("cl_lightning") and getattr(other, name, None) is target:
            setattr(other, name, deadly)


def outcome(run_dir: Path) -> dict[str, Any]:
    """Return everything that two equal runs have in common."""
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    del results["provenance"]
    payload = load_checkpoint(list_checkpoints(run_dir / "checkpoints")[-1])
    weights = {name: weight.tolist() for name, weight in payload["network"]["weights"].items()}
    names = ("metrics.csv", "accuracy_matrix.csv", "accuracy_after_phases.csv")
    texts = {name: (run_dir / name).read_text(encoding="utf-8") for name in names if (run_dir / name).exists()}
    return {
        "results": results,
        "exemplars": payload["memory"],
        "weights": weights,
        "steps": payload["step_offset"],
        **texts,
    }


def _data(out: Path, workers: int) -> list[str]:
    """Return the overrides for digits from memory, or, so that workers have work, the same from files."""
    if workers == 0:
        return []
    root = out / _DIGITS
    _write_digits(root)
    return [
        "data=image_folder",
        f"data.root={root}",
        "data.image_size=8",
        "data.flip=false",
        "data.suggests.patch_size=2",
        "model=convit_tiny",
        "model.patch_size=2",
        "memory.size=50",
        f"trainer.workers={workers}",
    ]


def _write_digits(root: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    if root.exists():
        return
    images, labels = load_digits(return_X_y=True)
    for index, (image, label) in enumerate(zip(images[:600], labels[:600], strict=True)):
        file = root / str(label) / f"{index:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).resize((9, 9)).save(file)


def warm_up() -> None:
    """Import all that a run imports, and start no thread: what is forked from here must find its locks free."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in (
        "cl_lightning.run.train",
        "continuum.scenarios",
        "continuum.datasets",
        "scipy.special",
        "sklearn.datasets",
    ):
        importlib.import_module(module)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
