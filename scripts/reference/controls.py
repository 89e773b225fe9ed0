"""Controls of the replay: each of these changes of ours, alone, must differ from the recorded run.

    python -m scripts.reference.controls FOLDER        # the table of docs/REPRODUCIBILITY.md, from the .npz files there

A replay that agrees says little if it would agree with anything. The whole table takes a quarter of an hour on a core.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cl_lightning.core.types import Phase
from scripts.reference.comparison import compare_tasks, first_difference
from scripts.reference.recorded import RecordedRun
from scripts.reference.vectors import VectorFile


def training(phase: str, *parts: str) -> Callable[[Phase], Phase]:
    """Return a change by which a phase trains these parts of the network as well."""
    return lambda of: dataclasses.replace(of, trains=(*of.trains, *parts)) if of.name == phase else of


@dataclass(frozen=True)
class Control:
    """One change of a recorded run."""

    run: str
    """File name, without its suffix."""
    change: str
    """Overrides of our command line, or the change of a phase."""
    entry: str
    """Entry with the first difference; empty for a change that rightly makes none."""
    change_phase: Callable[[Phase], Phase] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Overrides of our command line."""
        return () if self.change_phase else tuple(self.change.split())


CONTROLS = (
    Control("dytox", "recipe.repeated_augmentation=false", "task0/main/rows"),
    Control("dytox", "recipe.order_ignores_seed=false", "task0/main/rows"),
    Control("dytox", "recipe.schedule_lag=false", "task0/main/lr"),
    Control("dytox", "recipe.herd_distinct=true", "task0/memory/rows"),
    Control("dytox", "recipe.distillation_class_mean=false", "task1/main/losses[distillation]"),
    Control("dytox", "old tokens are trained in the main phase", "task1/main/losses", training("main", "old_tokens")),
    Control("dytox", "old heads are trained in the main phase", "task1/main/losses", training("main", "old_heads")),
    Control("dytox", "recipe.herd_after_finetuning=true", "task1/finetuning/rows"),
    Control("dytox", "recipe.finetuning_order=shuffled", "task1/finetuning/rows"),
    Control(
        "dytox", "the encoder is trained in fine-tuning", "task1/finetuning/losses", training("finetuning", "encoder")
    ),
    Control("dytox", "recipe.finetuning_drop_last=false", ""),
    Control("dytox_plus", "recipe.finetuning_drop_last=false", "task1/finetuning/rows"),
    Control("dytox_plus", "recipe.mixup_softmax=true", "task0/main/losses[classification]"),
    Control("dytox_plus", "method.mixup.in_finetuning=false", "task1/finetuning/losses[classification]"),
    Control("dytox_plusplus", "method.sam.adaptive=false", "task1/main/losses_at_worst"),
    Control("dytox_plusplus", "method.sam.from_task=0", "task0/main/losses[classification]"),
    Control("dytox_two_processes", "batch.replicas=1 batch.size=48", "task0/main/rows"),
    Control("dytox_two_processes", "recipe.lr_follows_batch=false", "task0/main/lr"),
)


def first_place(run: RecordedRun, control: Control) -> str:
    """Describe the first difference of ``control``, at which the replay ends. Empty where there is none."""
    row = first_difference(run, words=control.words, change_phase=control.change_phase)
    return "" if row is None else f"{row.entry}: {row.note}"


def largest_change(run: RecordedRun, control: Control) -> float:
    """Return the largest change of a cell of the accuracy matrix over the whole run, in points."""
    ours = compare_tasks(run, words=control.words, change_phase=control.change_phase).accuracies
    theirs = run.file["accuracy_matrix"].tolist()
    pairs = ((a, b) for mine, recorded in zip(ours, theirs, strict=True) for a, b in zip(mine, recorded, strict=False))
    return 100 * max(abs(a - b) for a, b in pairs if a is not None)


def table(folder: Path, controls: Sequence[Control] = CONTROLS) -> Iterator[str]:
    """Yield lines of Markdown, one a control, as they are measured."""
    yield "| run | changed | seen first | largest change of a cell, points |"
    yield "|---|---|---|---|"
    for control in controls:
        run = RecordedRun(VectorFile(folder / f"{control.run}.npz"))
        place = first_place(run, control).partition(", ")[0] or "nowhere, rightly"
        change = f"`{control.change}`" if control.words else control.change
        yield f"| `{control.run}` | {change} | {place} | {largest_change(run, control):.1f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Change one thing at a time, and see where a replay notices it.")
    parser.add_argument("folder", type=Path, help="the folder of the recorded runs")
    for line in table(parser.parse_args(arguments).folder):
        print(line, flush=True)


if __name__ == "__main__":
    main()
