"""The program's command lines, carried out in this process, and what they leave: by the names that a user types and the
files that a user finds, so that code may move and be renamed behind them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import runpy
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.core.global_hydra import GlobalHydra

PROGRAM, BUNDLE = "cl_lightning", "cl_lightning.bundle"
Plain = Any
"""What JSON holds."""

_OF_THE_PLACE = ("run_dir", "data.root", "extends.run", "verbose")
"""Keys of ``config.yaml`` that say where files are, or how much is told."""


class CommandError(Exception):
    """A command line ended with another exit code than it should."""


def type_in(module: str, *arguments: object, code: int = 0) -> str:
    """``python -m module arguments``; returns what it printed. Raises ``CommandError`` for another exit code."""
    GlobalHydra.instance().clear()
    before, sys.argv = sys.argv, [module, *map(str, arguments)]
    told, errors = io.StringIO(), io.StringIO()
    ended: Any = 0
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(errors), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*found in sys.modules after import of package", RuntimeWarning)
            runpy.run_module(module, run_name="__main__", alter_sys=False)
    except SystemExit as exit_:
        ended = exit_.code or 0
    finally:
        sys.argv = before
    if ended != code:
        typed = " ".join(["python -m", module, *map(str, arguments)])
        raise CommandError(f"{typed}\nended with {ended}, not {code}:\n{told.getvalue()}\n{errors.getvalue()}")
    return told.getvalue()


# ---- what a run leaves -------------------------------------------------------------------------------------------


def outcome(run_dir: Path, pictures: Path, readouts: tuple[str, ...] = ()) -> dict[str, Plain]:
    """All that a run has come to: ``exact`` counts and choices, and ``near`` floats."""
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    provenance = results.pop("provenance")
    payload = _last_state(run_dir)
    exact = {
        "results": results,
        "accuracy_matrix.csv": _rows(run_dir / "accuracy_matrix.csv"),
        "phases": [[phase["task"], phase["phase"], phase["steps"]] for phase in provenance["phases"]],
        "exemplars": [{str(label): keys for label, keys in kept.items()} for kept in payload["memory"]["lists"]],
        "confusion": payload["answers"]["confusion"].tolist(),
        "config.yaml": configuration(run_dir),
    }
    return merged({"exact": exact, "near": {"metrics.csv": curves(run_dir)}}, predictions(run_dir, pictures, readouts))


def _last_state(run_dir: Path) -> dict[str, Plain]:
    """At the end of the last task: ``task_001.pt``, beside which there are places within it."""
    ends = sorted(file for file in (run_dir / "checkpoints").glob("task_*.pt") if "_item_" not in file.name)
    return dict(torch.load(ends[-1], map_location="cpu", weights_only=True))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def curves(run_dir: Path) -> list[dict[str, float]]:
    """The rows of ``metrics.csv``. Which epoch a step is said to be of is left out: up to 93a97df, an epoch's last step
    had the number of the next one.
    """
    if not (run_dir / "metrics.csv").is_file():
        return []
    rows = _rows(run_dir / "metrics.csv")
    return [{name: float(value) for name, value in row.items() if value and name != "epoch"} for row in rows]


def configuration(run_dir: Path) -> dict[str, Plain]:
    """``config.yaml``, flat, without what says where things are."""
    plain = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    for folder in (plain.get("extends") or {}).get("folders", []):
        folder["folder"] = Path(folder["folder"]).name
    for entry in plain["data"].get("sets", []):
        entry.pop("root")
    return {key: value for key, value in _leaves(plain) if key not in _OF_THE_PLACE}


def _leaves(node: dict[str, Plain], prefix: str = "") -> list[tuple[str, Plain]]:
    found: list[tuple[str, Plain]] = []
    for name, value in node.items():
        key = f"{prefix}{name}"
        found += _leaves(value, f"{key}.") if isinstance(value, dict) and value else [(key, value)]
    return found


# ---- what the commands beside a run give -------------------------------------------------------------------------


def predictions(model: Path, pictures: Path, readouts: tuple[str, ...] = ()) -> dict[str, Plain]:
    """Return what ``predict`` says of all pictures: classes from the likeliest to the least, and their scores."""
    exact: dict[str, Plain] = {}
    near: dict[str, Plain] = {}
    for readout in readouts or ("",):
        asked = ["--readout", readout] if readout else []
        told = json.loads(type_in("cl_lightning.predict", model, pictures, "--top", 99, "--format", "json", *asked))
        name = f"predictions {told['readout']}"
        files = {"/".join(Path(image["file"]).parts[-2:]): image["guesses"] for image in told["images"]}
        exact[name] = {
            "stage": told["model"]["stage"],
            "probability": told["probability"],
            "order": {file: [f"{g['class']} of task {g['task']}" for g in guesses] for file, guesses in files.items()},
        }
        near[name] = {
            file: {kind: [guess[kind] for guess in guesses] for kind in ("score", "probability")}
            for file, guesses in files.items()
        }
    return {"exact": exact, "near": near}


_DESCRIBED = ("format", "stage", "classes", "tasks", "preprocessing", "graph", "readouts", "protocol")


def exported(run_dir: Path, out: Path, pictures: Path, formats: tuple[str, ...]) -> dict[str, Plain]:
    """Return what ``export`` writes, and what is predicted with it and nothing else."""
    type_in("cl_lightning.export", run_dir, "--out", out, "--images", pictures, "--formats", *formats)
    described = json.loads((out / "model.json").read_text(encoding="utf-8"))
    exact = {
        "model.json": {key: described[key] for key in _DESCRIBED},
        "files": sorted(file.name for file in out.iterdir()),
    }
    found = merged({"exact": exact, "near": {}}, predictions(out, pictures))
    if "torch_export" in formats:
        found["near"]["model.pt2"] = _scores(out / "model.pt2", described["graph"]["input"]["shape"][1:])
    return found


def _scores(graph: Path, shape: list[int]) -> list[list[float]]:
    """Of two images that are ramps."""
    images = torch.linspace(-1, 1, 2 * shape[0] * shape[1] * shape[2]).view(2, *shape)
    with torch.no_grad():
        scores: list[list[float]] = torch.export.load(graph).module()(images).tolist()
    return scores


def bundled(file: Path) -> dict[str, Plain]:
    """Return what a bundle holds of a run, by its own list, and which exemplars."""
    with zipfile.ZipFile(file) as archive:
        index = json.loads(archive.read("exemplars/index.json"))
        return {"exact": {"names": sorted(archive.namelist()), "exemplars": index}, "near": {}}


def reported(run_dir: Path) -> dict[str, Plain]:
    """Which figures ``report`` draws, and the numbers in its page: tiles, accuracy matrix, confused classes, memory."""
    for old in [run_dir / "report.html", *(run_dir / "report").glob("*.svg"), *(run_dir / "report").glob("*.png")]:
        old.unlink(missing_ok=True)
    type_in("cl_lightning.report", run_dir)
    text = (run_dir / "report.html").read_text(encoding="utf-8")
    sections = dict(re.findall(r'<section id="(\w+)".*?>(.*?)</section>', text, re.DOTALL))
    told = {name: re.findall(r"<td[^>]*>(.*?)</td>", inside, re.DOTALL) for name, inside in sections.items()}
    told["memory"] = re.findall(r'(\w+) <span class="soft">(\d+)</span>', sections.get("memory", ""))
    tiles = re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span>', text)
    return {
        "exact": {
            "figures": {
                kind: sorted(f.stem for f in (run_dir / "report").glob(f"*.{kind}")) for kind in ("svg", "png")
            },
            "tiles": {name: value for value, name in tiles},
            "tables": {name: cells for name, cells in told.items() if cells and name not in ("protocol", "provenance")},
        },
        "near": {},
    }


def compared(*places: object) -> dict[str, Plain]:
    """Return what ``compare`` says of runs: a line for each group."""
    rows = list(csv.DictReader(io.StringIO(type_in("cl_lightning.compare", *places, "--format", "csv"))))
    return {"exact": {"groups": rows}, "near": {}}


def merged(*parts: dict[str, Plain]) -> dict[str, Plain]:
    """Several outcomes as one."""
    return {kind: {name: value for part in parts for name, value in part[kind].items()} for kind in ("exact", "near")}
