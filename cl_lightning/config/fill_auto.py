"""Defaults of a configuration: what the user left open is filled in from the method and the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

from omegaconf import OmegaConf

from cl_lightning.config.preprocess import fill_preprocess
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schedule_scales import as_typed
from cl_lightning.config.schema import (
    Config,
    DataConfig,
    DERConfig,
    DKTConfig,
    FrozenConfig,
    MemoryConfig,
    MethodConfig,
    MixupConfig,
    ModelConfig,
    PathNetConfig,
    RecipeConfig,
    ResNet18Config,
    TaskTransformerConfig,
    TimmBackboneConfig,
    TimmConfig,
    ViTMethodConfig,
)
from cl_lightning.config.schema.open_options import Open, closed, opened
from cl_lightning.config.starting_weights import starts_trained
from cl_lightning.config.yaml_files import load_option, options, schema_name
from cl_lightning.core.errors import UserError

T = TypeVar("T")

_SMALL = 64
"""Largest side of a small image, in pixels."""


def fill_in(config: Open[Config], typed: Collection[str] = ()) -> Config:
    """Return a copy of ``config`` without ``auto`` and without ``None`` where a value is needed.

    An explicit value always wins over a recipe, and a recipe over a suggestion of the data. ``typed`` are the options
    that the user has set (``overrides.keys_set``): what the data suggest scales no epochs and no rate among them.
    """
    data = config.data.suggests
    recipe = _fill_recipe(config.recipe, data.recipe or config.method.recipe)
    chosen = _chosen_model(config.model, data.models.get(config.method.encoder, ""))
    data_filled = fill_preprocess(_fill_data(config.data, config.method), chosen, typed)
    model = _fill_model(chosen, data_filled)
    memory = config.memory if config.method.rehearsal else MemoryConfig(budget="none", size=0, scope="global")
    size = {"total": data.memory, "per_class": data.memory_per_class}.get(memory.budget, 0)
    suggested = suggested_scales(config)
    filled = dataclasses.replace(
        config,
        **{name: _or(getattr(config, name), scale) for name, scale in suggested.items()},
        method=as_typed(_fill_method(config.method, model), typed, _left_open(config, suggested)),
        recipe=recipe,
        model=model,
        memory=dataclasses.replace(memory, size=_or(memory.size, size)),
        data=data_filled,
        batch=dataclasses.replace(
            config.batch,
            size=_or(config.batch.size, data.batch_size),
            replicas=_or(config.batch.replicas, recipe.replicas),
        ),
        trainer=dataclasses.replace(
            config.trainer,
            precision=_or(config.trainer.precision, recipe.precision),
            threads=config.trainer.threads or data.threads,
        ),
    )
    return closed(filled)


def suggested_scales(config: Open[Config]) -> dict[str, float]:
    """Return the scales that the data suggest for the method: name of the run's scale -> value."""
    data = config.data.suggests
    return {
        "epochs_scale": data.epochs_scale,
        "balanced_epochs_scale": data.balanced_epochs_scale,
        "lr_scale": data.lr_scale.get(config.method.encoder, 1.0),
    }


def _left_open(config: Open[Config], scales: dict[str, float]) -> dict[str, float]:
    return {name: scale for name, scale in scales.items() if getattr(config, name) is None}


def _fill_data(data: Open[DataConfig], method: Open[MethodConfig]) -> Open[DataConfig]:
    sets = [
        dataclasses.replace(
            entry,
            flip=_or(entry.flip, data.flip),
            orientation=_or(entry.orientation, data.orientation if entry.name == "image_folder" else "ignore"),
        )
        for entry in data.sets
    ]
    return dataclasses.replace(
        data,
        augmentation=_or(data.augmentation, method.augmentation),
        cutout=_or(data.cutout, getattr(method, "cutout", 0)),  # few methods are published with it
        sets=sets,
    )


def _fill_method(method: Open[MethodConfig], model: ModelConfig) -> MethodConfig:
    """Replace MixUp with alpha 0, sharpness-aware steps of radius 0 and pruning by no rule by null. Their options exist
    anyway, so that ``method.mixup.alpha=0.8`` can be typed for every method that may have it: nothing can be merged
    into a null. A backbone that comes from nowhere else is trained by the first task.
    """
    if getattr(method, "main", None) is None and not isinstance(method, FrozenConfig):
        raise UserError(f"method.main=null leaves method={method.name} nothing to train: type method.main.epochs=N")
    if isinstance(method, TaskTransformerConfig):
        sam = None if method.sam is not None and method.sam.rho == 0 else method.sam
        branch = method.reconstruction if method.reconstruction and method.reconstruction.weight else None
        return dataclasses.replace(method, mixup=_fill_mixup(method.mixup), sam=sam, reconstruction=branch)
    if isinstance(method, DERConfig):
        unpruned = method.pruning is None or method.pruning.rule == "none"
        return dataclasses.replace(method, pruning=None if unpruned else method.pruning)
    if isinstance(method, ViTMethodConfig | FrozenConfig):
        method = dataclasses.replace(method, backbone_task=_or(method.backbone_task, not starts_trained(method, model)))
    if isinstance(method, ViTMethodConfig):
        return dataclasses.replace(method, mixup=_fill_mixup(method.mixup))
    return method


def _fill_mixup(mixup: MixupConfig | None) -> MixupConfig | None:
    return None if mixup is not None and mixup.alpha == 0 else mixup


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


_UNSET = {
    "date": "undated",
    "finetuning_order": "shuffled",
    "similarity_mean": "pairs",
    "merge": "exact",
    "replicas": 1,
    "precision": "32-true",
}
"""Values of null beside a recipe that is chosen by name, as they have always been; other switches are off."""


def _fill_recipe(recipe: Open[RecipeConfig], suggested: str | None) -> RecipeConfig:
    if recipe.name != "auto":
        given = dataclasses.asdict(recipe)
        filled: dict[str, Any] = {
            key: _UNSET.get(key, False) if value is None else value for key, value in given.items()
        }
        return RecipeConfig(**filled)
    if suggested == "auto" or suggested not in options("recipe"):
        allowed = ", ".join(f"recipe={name}" for name in options("recipe") if name != "auto")
        raise UserError(f"recipe {suggested!r} of method or data is unknown: type {allowed}")
    chosen = load_option("recipe", suggested)
    given = {key: value for key, value in dataclasses.asdict(recipe).items() if value is not None and key != "name"}
    return RecipeConfig(**{**chosen, **given, "date": str(chosen["date"])})


def changed_switches(recipe: RecipeConfig) -> dict[str, Any]:
    """Return the switches in which ``recipe`` differs from the published set of its name."""
    named = load_option("recipe", recipe.name)
    given = dataclasses.asdict(recipe)
    return {key: value for key, value in given.items() if key != "date" and value != named[key]}


_OF_TASK_TRANSFORMERS = (
    "distillation_class_mean",
    "finetune_joint",
    "finetuning_drop_last",
    "finetuning_order",
    "general_token_in_finetuning",
    "herd_after_finetuning",
    "herd_augmented",
    "herd_distinct",
    "mixup_softmax",
    "statistics_in_frozen",
)
_OF_DKT = ("classification_twice", "merge", "similarity_mean")


def unread_switches(method: MethodConfig) -> tuple[str, ...]:
    """Return the switches of a recipe that only DyTox's family, or DKT of it, reads, for another method."""
    of_family = () if isinstance(method, TaskTransformerConfig) else _OF_TASK_TRANSFORMERS
    return of_family if isinstance(method, DKTConfig) else (*of_family, *_OF_DKT)


def _has_own_patches(model: Open[ModelConfig], size: int) -> bool:
    """Return whether null means the patches of a name: vit_tiny_patch16_224 has patches of 16."""
    return isinstance(model, TimmBackboneConfig) or (isinstance(model, TimmConfig) and size > _SMALL)


def _chosen_model(model: Open[ModelConfig], suggested: str) -> Open[ModelConfig]:
    if model.name != "auto":
        return model
    if suggested not in options("model"):
        allowed = ", ".join(f"model={name}" for name in options("model") if name != "auto")
        raise UserError(f"the data suggest no encoder for this method ({suggested!r}): type {allowed}")
    chosen = load_option("model", suggested)
    schema = SCHEMAS["model"][schema_name("model", suggested)]
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(opened(schema)), chosen))  # type: ignore[return-value]


def _fill_model(model: Open[ModelConfig], data: DataConfig) -> ModelConfig:
    size = data.preprocess.size
    if getattr(model, "patch_size", 0) is None and not _has_own_patches(model, size):
        model = dataclasses.replace(model, patch_size=data.suggests.patch_size)  # type: ignore[call-arg]
    if isinstance(model, ResNet18Config | PathNetConfig):
        model = dataclasses.replace(model, stem=_or(model.stem, "large" if size > _SMALL else "small"))
    return model
