"""Checkpoints whose checksum is right and whose contents are not: told in one line by whoever reads one."""

from __future__ import annotations

import copy
import functools
import operator
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning import export, predict
from cl_lightning.bundle import __main__ as bundle
from cl_lightning.checkpoint.files import load_checkpoint, save_whole
from tests.integration.commands import typed, write_digits

FILES = ("data=image_folder", "data.image_size=8", "model=resnet8", "data.increment=2", "memory.size=20", "seed=1",
         "method=icarl", "epochs_scale=0.03", "trainer.threads=1", "trainer.progress=none")  # fmt: skip
READERS: dict[str, Callable[[Path], int]] = {
    "resume=": lambda run: typed(f"resume={run}"),
    "learn=": lambda run: typed(f"learn={run}", f"data.new={run.parent / 'new'}", f"run_dir={run.parent / 'more'}"),
    "predict": lambda run: predict.main([str(run), str(run.parent / "new")]),
    "export": lambda run: export.main([str(run), "--out", str(run.parent / "e"), "--formats", "safetensors"]),
    "bundle": lambda run: bundle.main(["export", str(run), str(run.parent / "b.zip")]),
}
Place = tuple[Any, ...]
GONE = object()
CASES: list[tuple[Place, Any]] = [
    (("identity",), GONE),
    (("identity", "protocol"), []),
    (("identity", "protocol", "tasks"), [2, 1]),
    (("identity", "protocol", "method_options"), torch.zeros(2)),
    (("identity", "class_names", 0), None),
    (("version",), torch.zeros(2)),
    (("network", "structure"), GONE),
    (("network", "structure", "kind"), "no_such_kind"),
    (("network", "structure", "backbone", "channels"), 10**9),
    (("network", "structure", "backbone", "depth"), -1),
    (("network", "structure", "classes"), [2, 10**12]),
    (("network", "weights", "backbone.conv.weight"), torch.zeros(1)),
    (("network", "weights", "backbone.conv.weight"), torch.zeros(1).expand(16, 3, 3, 3)),
    (("network", "weights", "backbone.norm.bias"), GONE),
    (("extra", "class_means"), torch.zeros(4, 64).to_sparse()),
    (("memory", "lists", 0, 99), []),
    (("memory", "budget", "size"), None),
    (("step_offset",), -1),
    (("records", 0), {}),
    (("records", 1, "index"), 0),
    (("cursor", "items"), 10**9),
    (("cursor", "seconds"), "x"),
    (("phases", 0), torch.zeros(3)),
    (("answers", "confusion"), None),
    (("matrices", "class_incremental", "nme", 1), []),
    (("matrices",), {}),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, and a finished run of some of them."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(write_digits(root / "known") / "0", root / "new" / "zero")
    assert typed(*FILES, f"data.root={root / 'known'}", f"run_dir={root / 'run'}") == 0
    return root


def _with(payload: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(payload)
    node = functools.reduce(operator.getitem, place[:-1], changed)
    if value is GONE:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_it_is_reported_in_one_line(
    name: str, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    payload = load_checkpoint(made / "run" / "checkpoints" / "task_001.pt")
    for number, (place, value) in enumerate(CASES):
        folder = tmp_path / str(number)
        if name == "bundle" and place[0] in ("network", "extra"):
            continue  # whoever imports the bundle is told
        shutil.copytree(made, folder)
        for file in (folder / "run" / "checkpoints").iterdir():
            file.unlink()
        save_whole(folder / "run" / "checkpoints" / "task_001.pt", _with(payload, place, value))
        capfd.readouterr()
        assert READERS[name](folder / "run") == 2, (place, value)
        told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(told) == 1, (place, value, told)
        assert len(told[0]) < 600
