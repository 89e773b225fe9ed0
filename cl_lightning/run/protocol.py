"""The protocol of a run, which every number is printed with: from the configuration and the images."""

from __future__ import annotations

import dataclasses
from typing import Any

from cl_lightning.config.early_stopping import early_stopping_text, stoppable_phases, stops_early
from cl_lightning.config.fill_auto import changed_switches
from cl_lightning.config.origin import origin_of
from cl_lightning.config.preprocess import preprocess_text
from cl_lightning.config.schedule_scales import OWN_SCALES, epochs_of, lr_scale_of, phases_of, trained_phases
from cl_lightning.config.schema import Config, DataConfig, MethodConfig, SetConfig
from cl_lightning.data.scenarios.scenario import Scenario


def protocol(config: Config, scenario: Scenario) -> dict[str, Any]:
    """Return the protocol, which no number of the run must be printed without."""
    return {
        "method": config.method.name,
        "origin": origin_of(config),
        "data": config.data.name,
        "classes": len(scenario.class_names),
        "tasks": [len(task.classes) for task in scenario.tasks],
        "order": _order(config.data),
        "evaluates_on": scenario.evaluates_on,
        **({"evaluation_folder": scenario.evaluation_folder} if scenario.evaluation_folder else {}),
        "model": config.model.name,
        "memory": memory_name(config),
        "memory_scope": config.memory.scope,
        "recipe": config.recipe.name,
        "recipe_changes": ", ".join(f"{k}={v}" for k, v in changed_switches(config.recipe).items()) or "none",
        "recipe_switches": {
            k: v
            for k, v in dataclasses.asdict(config.recipe).items()
            if k not in ("name", "date", "replicas", "precision")
        },
        "replicas": config.batch.replicas,
        "batch": config.batch.size,
        "precision": config.trainer.precision,
        "epochs": epochs(config),
        "lr_scale": lr_scale(config),
        "augmentation": augmentation_text(config.data),
        "preprocess": preprocess_text(config.data),
        "balance": config.data.balance,
        "early_stopping": early_stopping_text(config),
        "method_options": method_options(config.method),
        "seed": config.seed,
        **({"sets": [_set_text(entry) for entry in config.data.sets]} if config.data.sets else {}),
        **({} if config.extends is None else {"extended": _extended(config, scenario)}),
    }


def augmentation_text(data: DataConfig) -> str:
    """Return how training images are changed at random: its name, and the side of Cutout's squares if there are any."""
    cuts = data.cutout > 0 and data.augmentation != "none"
    return f"{data.augmentation}, cutout {data.cutout}" if cuts else data.augmentation


def own_pictures(config: Config) -> bool:
    """Return whether the data are a folder of somebody's own, and no published set."""
    return config.data.name == "image_folder"


def comparable(identity: Any) -> Any:
    """Return a part of a checkpoint's identity without what may differ in one and the same run.

    That is the path of the weights, as what was in that file is in the checkpoint, and earlier versions saved a path as
    it was typed; the text on changed switches, which are there by value too; and the label of what the method is, which
    moves no number and may be put right.
    """
    if not isinstance(identity, dict) or "method_options" not in identity:
        return identity
    options = {name: value for name, value in identity["method_options"].items() if name != "backbone_file"}
    told = ("origin", "recipe_changes")
    return {name: value for name, value in identity.items() if name not in told} | {"method_options": options}


def method_options(method: MethodConfig) -> dict[str, Any]:
    """Return all options of a method but its name and label. A phase without a scale of its own has no key for it, as
    in runs from before there was any.
    """
    plain = {name: value for name, value in dataclasses.asdict(method).items() if name not in ("name", "origin")}
    for name in phases_of(method):
        plain[name] = {k: v for k, v in plain[name].items() if v is not None or k not in OWN_SCALES}
    return plain


def _order(data: DataConfig) -> str | int | list[int]:
    """Return the class order; of several sets, that of each."""
    if data.sets:
        return ", ".join("as selected" if entry.select else _typed(entry.order) for entry in data.sets)
    return data.order if isinstance(data.order, str | int) else list(data.order)


def _set_text(entry: SetConfig) -> str:
    """Return one of several sets as a text, without its path and its class order."""
    options = {
        "classes": len(entry.select) if entry.select else entry.classes or "all",
        "increment": _typed(entry.increment or "all"),
        "mirrored": "yes" if entry.flip else "no",
        **({} if entry.augmentation is None else {"augmentation": entry.augmentation}),
        **({} if entry.cutout is None else {"cutout": str(entry.cutout)}),
        **({} if entry.crop_padding is None else {"padding": str(entry.crop_padding)}),
    }
    return f"{entry.name} ({', '.join(f'{name} {value}' for name, value in options.items())})"


def _typed(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else str(list(value)).replace(" ", "")


def _extended(config: Config, scenario: Scenario) -> list[str]:
    """Return a text for each task that was added to a finished run: its folder, and the options that were changed."""
    assert config.extends is not None
    folders = config.extends.folders
    first = len(scenario.tasks) - len(folders) + 1
    return [
        f"task {first + index}: folder {entry.name}, fingerprint {fingerprint}"
        + "".join(f", {change}" for change in entry.changed)
        for index, (entry, fingerprint) in enumerate(zip(folders, scenario.fingerprints[1:], strict=True))
    ]


def epochs(config: Config) -> str:
    """Return the scaled epochs of each phase: ``500 main + 20 finetuning``; ``at most 500 main`` where it may end
    early. ``none`` where none is trained.
    """
    stoppable = stoppable_phases(config) if stops_early(config) else {}
    each = (
        f"{'at most ' if name in stoppable else ''}{epochs_of(name, phase, config)} {name}"
        for name, phase in trained_phases(config).items()
    )
    return " + ".join(each) or "none"


def lr_scale(config: Config) -> float | str:
    """Return the factor of all learning rates; of each phase, where they differ: ``main 1, finetuning 4``."""
    scales = {name: lr_scale_of(phase, config) for name, phase in trained_phases(config).items()}
    if len(set(scales.values())) > 1:
        return ", ".join(f"{name} {scale:g}" for name, scale in scales.items())
    return next(iter(scales.values()), config.lr_scale)


def memory_name(config: Config) -> str:
    """Return the budget as a text: ``2000 in total``."""
    size = config.memory.size
    return {"total": f"{size} in total", "per_class": f"{size} per class", "none": "none"}[config.memory.budget]
