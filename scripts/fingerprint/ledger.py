"""The ledger file: the runs' numbers, commit, versions and processor. No path, no host."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scripts.fingerprint.numbers import Run

FORMAT = 1
LIBRARIES = (
    "torch", "torchvision", "pytorch-lightning", "timm", "numpy", "scikit-learn", "continuum", "hydra-core",
)  # fmt: skip


@dataclass(frozen=True)
class Ledger:
    """Numbers of the runs of one commit, made on one machine."""

    package: dict[str, str | None]
    """Version and commit of ours; ``+`` behind the commit: with local changes."""
    machine: dict[str, str]
    """Properties that rounding depends on: processor, instruction set, threads, versions."""
    runs: dict[str, Run]
    seconds: float = 0.0


def machine() -> dict[str, str]:
    """Return the machine's properties for this process's children."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": "1",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    """Return the processor's name, with family and model; its kind where the system does not report them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    told = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.+?)\s*$", text, re.MULTILINE))
    if len(told) < 3:
        return platform.processor() or platform.machine()
    return f"{told['model name']} (family {told['cpu family']}, model {told['model']})"


def version_of(checkout: Path) -> str | None:
    """Return our version, as the checkout declares it; the installed one may differ."""
    try:
        declared = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    except OSError:
        return None
    version = declared.get("project", {}).get("version")
    return None if version is None else str(version)


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Write JSON with a list of numbers to a line. Raises ``OSError``."""
    text = json.dumps({"format": FORMAT, **dataclasses.asdict(ledger)}, indent=1)
    compact = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", _on_one_line, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact + "\n", encoding="utf-8")


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]"


def read_ledger(path: Path) -> Ledger:
    """Invert :func:`write_ledger`. Raises ``ValueError`` for other files, ``OSError``."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}, this script reads {FORMAT}")
        runs = {name: _run(run) for name, run in content["runs"].items()}
        return Ledger(content["package"], content["machine"], runs, content["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} was not written by make fingerprint ({error}): type make fingerprint OUT=FILE"
        ) from error


def _run(plain: dict[str, Any]) -> Run:
    """Build a run from JSON, which has no tuples."""
    run = Run(**plain)
    matrices = {
        name: [[(int(hits), int(total)) for hits, total in row] for row in rows] for name, rows in run.matrices.items()
    }
    phases = [(int(task), str(phase), int(steps)) for task, phase, steps in run.phases]
    return dataclasses.replace(run, matrices=matrices, phases=phases)
