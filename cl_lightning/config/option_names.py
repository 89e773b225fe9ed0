"""Names that the command line has for the arguments of the library, and for words that people type."""

from __future__ import annotations

import dataclasses

from cl_lightning.config.schema import SetConfig
from cl_lightning.core.errors import Options

DATA = Options("data.", {"name": "data"})
MEMORY = Options("memory.", {"kind": "memory", "replicas": "batch.replicas"})
MODEL = Options("model.", {"image_size": "data.preprocess.size", "path": "method.backbone_file"})
METHOD = Options("method.")
TRAINER = Options("trainer.")
LOGGER = Options("logger.")
LEARNT = Options("data.", {"name": "data", "root": "data.new"})
"""Names for a folder that ``learn=`` adds to a run."""
RUN = Options(
    renamed={name: f"data.{name}" for name in ("augmentation", "max_pixels", "mean", "std")}
    | {"kind": "memory", "replicas": "batch.replicas", "scope": "memory.scope", "size": "memory.size"}
)
"""Names for errors that only a whole run, or one that has begun, can meet."""

COMMON_WORDS = {
    "aug": "data.augmentation",
    "augmentation": "data.augmentation",
    "backbone": "model",
    "batch_size": "batch.size",
    "bs": "batch.size",
    "crop_pct": "data.preprocess.crop_share",
    "dataset": "data",
    "device": "trainer.accelerator",
    "devices": "trainer.devices",
    "epoch": "method.main.epochs",
    "epochs": "method.main.epochs",
    "gpus": "trainer.devices",
    "image_size": "data.image_size",
    "img_size": "data.image_size",
    "input_size": "data.preprocess.size",
    "interpolation": "data.preprocess.interpolation",
    "learning_rate": "method.main.lr",
    "lr": "method.main.lr",
    "max_epochs": "method.main.epochs",
    "memory_size": "memory.size",
    "n_epochs": "method.main.epochs",
    "network": "model",
    "normalise": "data.preprocess.normalise",
    "normalize": "data.preprocess.normalise",
    "num_epochs": "method.main.epochs",
    "num_workers": "trainer.workers",
    "optim": "method.main.optimiser",
    "optimiser": "method.main.optimiser",
    "optimizer": "method.main.optimiser",
    "out": "run_dir",
    "output": "run_dir",
    "output_dir": "run_dir",
    "patience": "early_stopping.patience",
    "precision": "trainer.precision",
    "resize": "data.preprocess.resize",
    "root": "data.root",
    "schedule": "method.main.schedule",
    "scheduler": "method.main.schedule",
    "val_split": "data.validation",
    "validation": "data.validation",
    "warmup_epochs": "method.main.warmup_epochs",
    "wd": "method.main.weight_decay",
    "weight_decay": "method.main.weight_decay",
    "workers": "trainer.workers",
}
"""Words of other programs that people type, and the option that is meant."""

_OF_AN_ENTRY = frozenset(each.name for each in dataclasses.fields(SetConfig))


def of_entry(place: int, name: str) -> Options:
    """Return the names within entry ``place`` (from 1) of ``data.sets``, which is of the data set ``name``."""
    return dataclasses.replace(DATA, entry=f"data.sets, entry {place} ({name})", keys=_OF_AN_ENTRY)
