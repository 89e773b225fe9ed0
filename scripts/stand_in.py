"""Train the two backbones of `table=stand_in`: `python scripts/stand_in.py data.root=DIR`.

    python scripts/stand_in.py data.root=DIR [out=DIR/stand_in]

A small vision transformer and a small ResNet learn fifty classes of CIFAR-100, each on one core. They stand in for
weights of ImageNet where those are not at hand: the table then learns the other fifty classes with them. The weights
are written to out/vit.pth and out/resnet.pth, the runs beside them; what was interrupted goes on when this is typed
again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

COMMON = (
    *("method=finetune", "memory=none", "data=cifar100_10steps", "data.order=seed:1993", "data.classes=50"),
    *("data.increment=50", "data.augmentation=basic", "recipe=clean", "epochs_scale=0.05", "lr_scale=8"),
    *("trainer.threads=1", "report.page=false"),
)
BACKBONES = {
    "vit": ("model=vit_tiny", "model.dim=96", "model.depth=4", "model.num_heads=3", "model.patch_size=4"),
    "resnet": ("model=resnet18", "model.width=16"),
}
"""Name -> the model; the table types the same."""
_RUNS = Path(__file__).parents[1]


def main(arguments: Sequence[str]) -> int:
    """Train what is missing; return the exit status."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if not given.get("data.root") or set(given) - {"data.root", "out"}:
        print(__doc__)
        return 0 if list(arguments) in (["--help"], ["-h"]) else 2
    root = Path(given["data.root"]).absolute()
    out = Path(given.get("out") or root / "stand_in").absolute()
    with ThreadPoolExecutor(len(BACKBONES)) as pool:
        statuses = list(pool.map(lambda name: train(name, root, out), BACKBONES))
    return max(statuses)


def train(name: str, root: Path, out: Path) -> int:
    """Train one backbone, or go on with it, and write its weights; return the exit status of its run."""
    weights, run = out / f"{name}.pth", out / name
    if weights.exists():
        print(f"{weights} is there already")
        return 0
    begun = (run / "config.yaml").exists()
    said = [f"resume={run}"] if begun else [*COMMON, *BACKBONES[name], f"data.root={root}", f"run_dir={run}"]
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{name}.log").open("a") as log:
        command = [sys.executable, "-m", "cl_lightning", *said]
        status = subprocess.run(command, cwd=_RUNS, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if status != 0:
        print(f"the run of {name} ended with exit status {status}: {log.name} says why", file=sys.stderr)
        return status
    torch.save(torch.load(run / "checkpoints" / "task_000.pt", weights_only=True)["network"], weights)
    print(f"{weights} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
