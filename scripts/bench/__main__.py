"""Measure speed, as ratios in one run: `make bench`, or `python -m scripts.bench [--gpu] [--only PART ...]`.

Everything is timed in turn with what it is compared with, and the median over pairs is reported, so that a busy machine
disturbs both. The table goes to the terminal, the same with shapes, threads, versions and commit to a JSON file, which
is written after each part: measured rows stay when a later part fails or is stopped. The exit code is 0
whether targets are met or not (`--strict`: 1 if one is missed), 1 if a part failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.models import kernels
from cl_lightning.run.malloc import keep_freed_memory
from cl_lightning.run.run_dir import commit
from scripts.bench import dual, masks, parts, program, roofline, steps
from scripts.bench.measure import Row

_PLAIN = {1: 1.1, 10: 1.4, 50: 2.8}
"""Tasks -> required speedup of our step over the plain formulation."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of the measurements."""

    device: str
    batch: int
    pairs: int
    quick: bool


def _setting(sizes: Sizes) -> steps.Setting:
    """Return the setting of steps; on a GPU as in training: in bf16, and replayed."""
    encoder, on_gpu = TINY if sizes.quick else None, sizes.device == "cuda"
    return steps.Setting(sizes.device, sizes.batch, sizes.pairs, bf16=on_gpu, replay=on_gpu, encoder=encoder)


def _steps(sizes: Sizes, trunks: TrunkCompiler | None) -> Iterator[Row]:
    setting, on_gpu = _setting(sizes), sizes.device == "cuda"
    yield steps.many_against_one(setting, 50, 1.10 if on_gpu else 1.15, trunks)
    for tasks, at_least in _PLAIN.items():
        often = dataclasses.replace(setting, pairs=sizes.pairs if sizes.quick or tasks > 10 else 2 * sizes.pairs)
        yield steps.against_plain(often, tasks, at_least, trunks)


def _eager(sizes: Sizes) -> Iterator[Row]:
    yield from _steps(sizes, None)


def _compiled(sizes: Sizes) -> Iterator[Row]:
    """Yield the rows of steps with compiled trunks."""
    yield from _steps(sizes, TrunkCompiler(True))


def _bf16(sizes: Sizes) -> Iterator[Row]:
    setting = dataclasses.replace(_setting(sizes), bf16=True)
    if sizes.device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        yield Row("step, plain in float32 / ours in bf16, 50 tasks", None, 4.5, detail="this CPU computes no bf16")
        return
    for trunks in (None,) if sizes.quick else (None, TrunkCompiler(True)):
        yield steps.against_plain_in_single(setting, 50, 4.5, trunks)


def _herding(sizes: Sizes) -> Iterator[Row]:
    yield from parts.herding(*((500, 64) if sizes.quick else (5000, 3840)), 10, 20, 1 if sizes.quick else 3)


def _augmentation(sizes: Sizes) -> Iterator[Row]:
    yield parts.augmentation(128, sizes.pairs, sizes.device, None)
    together = 2560 if sizes.device == "cuda" else 640  # steps of 128 that training augments together
    yield parts.augmentation(together, sizes.pairs, sizes.device, 10.0)


def _loop(sizes: Sizes) -> Iterator[Row]:
    steps, pairs = (18, 1) if sizes.quick else (1950, 5) if sizes.device == "cuda" else (99, 9)
    yield program.around_the_step(steps, pairs, sizes.device, 1.05, sizes.quick)


def _memory(sizes: Sizes) -> Iterator[Row]:
    if sizes.device == "cpu" and not Path("/proc/self/status").exists():
        yield Row("peak memory, 50 tasks / 1 task", None, at_most=1.2, detail="known on Linux only")
        return
    yield program.peak_memory(2 if sizes.quick else 50, 4 if sizes.quick else 64, sizes.device, 1.2)


def _start(sizes: Sizes) -> Iterator[Row]:
    yield program.start_of_the_program(3.0)


def _roofline(sizes: Sizes) -> Iterator[Row]:
    on_gpu = sizes.device == "cuda"
    step = steps.Step(10, _setting(sizes))
    dtype = torch.bfloat16 if on_gpu else torch.float32
    name = f"roofline / step, 10 tasks, {'compiled, replayed, bf16' if on_gpu else 'eager'}"
    with step.compiled(TrunkCompiler(True) if on_gpu else None) as measured:
        yield roofline.against_roofline(name, step.uncompiled, measured, sizes.device, dtype, 0.6 if on_gpu else None)


def _dual(sizes: Sizes) -> Iterator[Row]:
    batch = 4 if sizes.quick else 256 if sizes.device == "cuda" else 64
    yield dual.evaluation(10, batch, sizes.pairs, sizes.device, 1.4, TINY if sizes.quick else None)


def _masks(sizes: Sizes) -> Iterator[Row]:
    vit = {**masks.DEIT_TINY, "image_size": 32, "depth": 1} if sizes.quick else masks.DEIT_TINY
    yield masks.inference(128 if sizes.device == "cuda" else 8, sizes.pairs, sizes.device, 1.1, vit)
    yield masks.sampling(sizes.pairs, sizes.device, 2.0, vit)


PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "start": _start,
    "herding": _herding,
    "augmentation": _augmentation,
    "loop": _loop,
    "memory": _memory,
    "steps": _eager,
    "bf16": _bf16,
    "daformer": _dual,
    "meat": _masks,
    "roofline": _roofline,
    "compiled": _compiled,
}
TINY = {**steps.CIFAR, "dim": 24, "num_heads": 4, "depth": 1}


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="on the first CUDA device instead of the CPU")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("outputs/bench.json"), help="the JSON file (%(default)s)")
    parser.add_argument("--batch", type=int, help="images a step (16 on a CPU, 128 on a GPU)")
    parser.add_argument("--pairs", type=int, default=5, help="timings of each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run? Numbers mean nothing")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a target is missed")
    asked = parser.parse_args(arguments)
    if asked.gpu and not torch.cuda.is_available():
        parser.error("--gpu, but torch sees no CUDA device: leave --gpu out")
    if asked.pairs < 1 or (asked.batch is not None and asked.batch < 1):
        parser.error("--pairs and --batch are at least 1")
    device = "cuda" if asked.gpu else "cpu"
    sizes = Sizes(device, asked.batch or (128 if asked.gpu else 16), asked.pairs, asked.quick)
    if asked.gpu:  # as a run does
        kernels.smoke_test()
    else:
        keep_freed_memory()
    started, rows = time.monotonic(), list[Row]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in asked.only:
            print(f"{part} ...", file=sys.stderr, flush=True)
            rows += _measured(part, sizes)
            _write(asked.out, rows, sizes, time.monotonic() - started)
    _show(rows)
    print(f"{time.monotonic() - started:.0f} s; written to {asked.out}")
    verdicts = {row.verdict for row in rows}
    return int("failed" in verdicts or (asked.strict and "missed" in verdicts))


def _measured(part: str, sizes: Sizes) -> Iterator[Row]:
    """Yield the rows of one part; an error ends this part and not the others."""
    try:
        yield from PARTS[part](sizes)
    except Exception as error:
        traceback.print_exc()
        yield Row(part, None, detail=f"{type(error).__name__}: {error}", failed=True)


def _show(rows: list[Row]) -> None:
    table = Table("what", "ratio", "target", "", "measured")
    for row in rows:
        table.add_row(row.name, "n/a" if row.value is None else f"{row.value:.2f}", row.target, row.verdict, row.detail)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _write(out: Path, rows: list[Row], sizes: Sizes, taken: float) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "rows": [{**dataclasses.asdict(row), "target": row.target, "verdict": row.verdict} for row in rows],
        "sizes": dataclasses.asdict(sizes),
        "encoder": TINY if sizes.quick else steps.CIFAR,
        "machine": _machine(),
        "seconds": round(taken, 1),
    }
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    """Return the machine, threads, versions and commit of the measurement."""
    libraries = ("torch", "torchvision", "pytorch-lightning", "timm", "numpy", "pillow")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(),
        "cores": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
        "commit": commit(),
    }


if __name__ == "__main__":
    sys.exit(main())
