"""Which runs are kept, how they were made at 93a97df, and what is done with each: read by ``make.py`` and by the tests.

Paths are relative to a folder in which a run's own files are ``runs/NAME`` and the others
hold generated pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PICTURES, MORE, AGAIN, ASKED = Path("pictures"), Path("more"), Path("again"), Path("asked")
"""What ``data=image_folder`` and ``data=sequence`` look at; what ``learn=`` adds, and again; what is predicted."""
FOLDERS = {
    PICTURES: (20, {"birch": 0, "cedar": 1, "maple": 2, "olive": 3}),
    MORE: (20, {"rowan": 4, "willow": 5}),
    AGAIN: (20, {"alder": 6, "hazel": 7}),
    ASKED: (1, {"cedar": 1, "olive": 3, "rowan": 4, "hazel": 7}),
}
"""Folder -> pictures of each class, and class -> which stripes it has. Some digits are asked for, too."""

_QUIET = ("trainer=cpu", "trainer.progress=none", "trainer.log_every=4", "report.page=false")
_DIGITS = ("data=digits", "data.classes=4", "memory.size=20", *_QUIET)
_TRANSFORMER = ("model=convit_tiny", "model.dim=16", "model.num_heads=2", "model.depth=1")
_VIT = ("model=vit_tiny", "model.dim=16", "model.num_heads=2", "model.depth=2")
_RESNET = ("model=resnet18", "model.width=2", "model.stem=small")
_SHORT = ("epochs_scale=0.03", "balanced_epochs_scale=0.5")
_FOLDER = (
    "data=image_folder", f"data.root={PICTURES}", "data.increment=2", "data.image_size=12", "data.flip=false",
    "memory.size=16", "batch.size=16", *_QUIET,
)  # fmt: skip
_SETS = (
    "data.sets=[{name: digits, classes: 2, augmentation: none, crop_padding: 0, flip: false}, "
    f"{{name: image_folder, root: {PICTURES}, select: [olive, birch]}}]"
)


@dataclass(frozen=True)
class Case:
    """A run that is kept, or several of one command."""

    made: tuple[str, ...]
    """What was typed behind ``python -m cl_lightning``, but for where its files go. Runs that it names are kept too."""
    does: tuple[str, ...]
    """Names of ``operations.OPERATIONS``."""
    stopped: str | None = None
    """Ctrl-C came when the checkpoint of this name had been written."""
    moved: tuple[str, ...] = ()
    """Beside ``resume=``: where data are that are not where the run had them, and no page a second time."""
    learns: tuple[str, ...] = ()
    """Beside ``learn=``: what makes it short."""
    folder: Path = MORE
    """What ``learn=`` adds."""
    readouts: tuple[str, ...] = ()
    """All that are predicted by; by default the method's own alone."""
    formats: tuple[str, ...] = ("safetensors",)
    """Of ``export``."""
    jobs: tuple[str, ...] = ()
    """Folders of a multirun, below the case's own."""


CASES: dict[str, Case] = {
    "finished": Case(
        ("method=dytox", *_DIGITS, *_TRANSFORMER, *_SHORT, "report.page=true", "report.attention=true"),
        ("resume", "learn", "predict", "export", "bundle", "compare", "report"),
        moved=("report.page=false",),
        learns=("report.page=false",),
        formats=("safetensors", "torch_export"),
    ),
    "within_a_phase": Case(
        ("method=dytox_plusplus", *_DIGITS, *_TRANSFORMER, *_SHORT, "trainer.checkpoint_steps=60"),
        ("resume", "predict", "export", "report"),
        stopped="task_001_item_01_step_00000120.pt",
    ),
    "between_phases": Case(
        ("method=der", *_DIGITS, *_RESNET, "epochs_scale=0.05", "balanced_epochs_scale=0.5", "lr_scale=0.3"),
        ("resume", "predict", "report"),
        stopped="task_001_item_02.pt",
    ),
    "der": Case(("resume=runs/between_phases",), ("learn", "predict", "export", "compare")),
    "replicas_stopped": Case(
        (
            "method=daformer_m",
            *_DIGITS,
            *_TRANSFORMER,
            *_SHORT,
            "memory.scope=per_replica",
            "memory.size=80",
            "batch.replicas=2",
            "batch.size=8",
            "recipe.herd_augmented=true",
        ),
        ("resume", "predict"),
        stopped="task_001_item_03.pt",
    ),
    "replicas": Case(
        ("resume=runs/replicas_stopped",),
        ("learn", "predict", "export", "bundle", "report"),
        learns=("epochs_scale=0.01", "balanced_epochs_scale=0.1"),
    ),
    "meat_stopped": Case(
        (
            "method=meat",
            *_DIGITS,
            *_VIT,
            "epochs_scale=1",
            "method.backbone.epochs=25",
            "trainer.checkpoint_steps=60",
        ),
        ("resume", "predict"),
        stopped="task_001_item_01_step_00000240.pt",
        readouts=("linear", "entropy", "class_mean"),
    ),
    "meat": Case(
        ("resume=runs/meat_stopped",),
        ("learn", "predict", "export", "compare", "report"),
        learns=("epochs_scale=0.3",),
        readouts=("linear", "entropy", "class_mean"),
    ),
    "image_folder_stopped": Case(
        ("method=wa", *_FOLDER, *_RESNET, "epochs_scale=0.05", "lr_scale=0.3", "trainer.stop_after_task=0"),
        ("resume", "predict", "export"),
        moved=(f"data.root={PICTURES}",),
    ),
    "image_folder": Case(
        ("resume=runs/image_folder_stopped",),
        ("learn", "predict", "bundle", "compare", "report"),
        learns=("epochs_scale=0.02",),
    ),
    "sequence": Case(
        (
            "method=finetune",
            "data=sequence",
            _SETS,
            "data.image_size=12",
            "memory.size=16",
            "batch.size=16",
            "data.augmentation=basic",
            *_QUIET,
            "model=convit_tiny",
            *_TRANSFORMER[1:],
            "model.patch_size=4",
            "epochs_scale=0.03",
            "lr_scale=2",
            "trainer.checkpoint_steps=12",
        ),
        ("resume", "predict", "export", "report"),
        stopped="task_001_item_01_step_00000012.pt",
        moved=(f"data.sets.1.root={PICTURES}",),
    ),
    "grown_stopped": Case(
        ("learn=runs/finished", f"data.new={MORE}", "trainer.checkpoint_steps=6", "report.page=false"),
        ("resume", "predict"),
        stopped="task_002_item_01_step_00000006.pt",
        moved=(f"data.new={MORE}",),
    ),
    "grown": Case(
        ("resume=runs/grown_stopped",),
        ("resume", "learn", "predict", "export", "bundle", "compare", "report"),
        moved=(f"data.new={MORE}",),
        folder=AGAIN,
    ),
    "bundle": Case(("runs/image_folder",), ("import", "learn", "predict"), learns=("epochs_scale=0.02",)),
    "multirun": Case(
        (
            "-m",
            "method=icarl",
            *_DIGITS,
            *_RESNET,
            "epochs_scale=0.05",
            "lr_scale=0.2",
            "seed=0,1",
        ),
        ("compare", "predict", "export", "learn", "report"),
        readouts=("nme", "linear"),
        jobs=("0", "1"),
    ),
}
"""Name of the folder below ``runs`` -> what it is."""
