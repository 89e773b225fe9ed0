"""The table of options that not every run reads and the conditions under which they are, used by ``check.py``.

``always_read.ALWAYS`` and :data:`LINES` together name every option of the schema, each once (a test sees to it). A line
holds conditions on the filled-in configuration for its options to be read, and what to type to meet them.
Switches that depend on the machine (``trainer.*``) count as read: one command is for a laptop and a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

from cl_lightning.config.early_stopping import evaluates_share, stops_early
from cl_lightning.config.schedule_scales import all_phases, phases_of, trains_balanced
from cl_lightning.config.schema import (
    ConvViTConfig,
    DERConfig,
    DKTConfig,
    FrozenConfig,
    HATConfig,
    JointConfig,
    MEATConfig,
    PhaseConfig,
    SetConfig,
    TaskTransformerConfig,
    UCIRConfig,
    ViTMethodConfig,
)
from cl_lightning.config.schema.method import ENCODERS
from cl_lightning.config.schema.phase_role import PhaseRole
from cl_lightning.config.unused.conditions import (
    ARRAYS,
    LISTED,
    Facts,
    any_phase,
    augments,
    draws_page,
    freezes,
    has,
    has_no_split,
    is_left_to_data,
    is_method,
    is_open,
    keeps_exemplars,
    looks_below_root,
    mirrors,
    patch_size_is_open,
    reads_at_image_size,
    scales_epochs,
    scales_images,
)
from cl_lightning.config.unused.needs import Line, Need

# ---- what to type -------------------------------------------------------------------------------------------------

_TRAINS = Need(any_phase(lambda phase: True), "method.backbone_task=true")
_OF_DYTOX = Need(is_method(TaskTransformerConfig), "method=dytox or method=daformer_m")
_OF_DKT = Need(is_method(DKTConfig), "method=dkt")
_DUPLEX = Need(lambda f: getattr(f.config.method, "head", "duplex") == "duplex", "method.head=duplex")
_BATCH_NORM = Need(lambda f: isinstance(f.config.model, ConvViTConfig), "model=conv_vit_cifar")
_GENERAL_TOKEN = Need(lambda f: getattr(f.config.model, "general_token", False), "model.general_token=true")
_CAN_REMEMBER = Need(
    lambda f: not isinstance(f.config.method, JointConfig | ViTMethodConfig | FrozenConfig | HATConfig),
    "a method that keeps exemplars, such as method=dytox",
)
_REMEMBERS = Need(lambda f: f.config.method.rehearsal, "method.rehearsal=true")
_MEMORY = (_CAN_REMEMBER, _REMEMBERS, Need(keeps_exemplars, "memory=total or memory=per_class"))
_FINETUNES = (_OF_DYTOX, *_MEMORY, Need(has("finetuning"), "method.finetuning.KEY=VALUE"))
_DISTILS = (_OF_DYTOX, Need(has("distillation"), "method.distillation=true"))
_FROZEN = Need(
    lambda f: (
        isinstance(f.config.method, FrozenConfig)
        or (isinstance(f.config.method, MEATConfig) and not (f.config.method.token_masks or f.config.method.ffn_masks))
        or getattr(f.config.model, "frozen", False)
    ),
    "a method that reads frozen features: method=simplecil, ranpac or classifier_only, or model.frozen=true",
)
_MIXES = Need(has("mixup"), "method.mixup.alpha=0.8")
_TOKEN_MASKS = Need(has("token_masks"), "method.token_masks=true")
_MASKS = Need(lambda f: has("token_masks")(f) or has("ffn_masks")(f), "method.token_masks=true")
_WANDB = Need(lambda f: f.config.logger.wandb, "logger=wandb")
_SETS_OF_FILES = "data=image_folder or another set of files"
_IN_ENTRY = "it within an entry of data.sets"
_ONE_SET = Need(lambda f: not f.config.data.sets, _IN_ENTRY)
_STOPS = Need(lambda f: stops_early(f.config), "early_stopping.patience=5")
_NO_VALIDATION = Need(lambda f: not f.config.data.validation, "data.validation=0")
_READS_TEST = Need(lambda f: not evaluates_share(f.config), "data.validation=0")
_AUGMENTED = "data.augmentation=basic"
_SCALES = Need(scales_images, "data.preprocess.size=N", "arrays keep their pixels")
_NO_SPLIT = "the root of a folder that is not sorted into train/ and val/ or test/"


def _trained(name: str, role: PhaseRole) -> tuple[Need, ...]:
    """Return the conditions for a phase to be trained."""
    if role.first_task_if is not None:
        option = f"method.{role.first_task_if}"
        return (
            Need(has(role.first_task_if), f"{option}.epochs=N" if role.first_task_if == name else f"{option}=true"),
        )
    switched = () if role.only_if is None else (Need(has(role.only_if), f"method.{role.only_if}=true"),)
    return (*(_MEMORY if role.balanced else ()), *switched)


def lines_of_phase(name: str, use: PhaseRole) -> list[Line]:
    """Return the lines of a phase's options."""
    key, there = f"method.{name}", _trained(name, use)

    def line(names: str, *needs: Need) -> Line:
        return Line(tuple(f"{key}.{field}" for field in names.split()), (*there, *needs))

    def need(holds: Callable[[PhaseConfig], bool], option: str) -> Need:
        return Need(lambda f: name in phases_of(f.config.method) and holds(phases_of(f.config.method)[name]), option)

    steps = need(lambda phase: phase.schedule == "steps", f"{key}.schedule=steps")
    return [
        Line((key,), there),
        line("epochs epochs_scale optimiser lr lr_scale weight_decay schedule warmup_epochs"),
        line("decay_vectors", need(lambda phase: phase.weight_decay > 0, f"{key}.weight_decay=W with W above 0")),
        line("momentum", need(lambda phase: phase.optimiser == "sgd", f"{key}.optimiser=sgd")),
        line("reference_batch", Need(lambda f: f.config.recipe.lr_follows_batch, "recipe.lr_follows_batch=true")),
        line("warmup_lr", need(lambda phase: phase.warmup_epochs > 0, f"{key}.warmup_epochs=N with N above 0")),
        line("min_lr", need(lambda phase: phase.schedule == "cosine", f"{key}.schedule=cosine")),
        line("milestones", steps),
        line("gamma", steps, need(lambda phase: bool(phase.milestones), f"{key}.milestones=[0.5,0.8]")),
    ]


# ---- the table ----------------------------------------------------------------------------------------------------


def _line(keys: str, *needs: Need) -> Line:
    return Line(tuple(keys.split()), needs)


def _unless_none(need: Need) -> Need:
    """Return the condition for a memory that is to hold something."""
    return Need(lambda f: f.given.memory.budget == "none" or need.holds(f), need.type)


def _is_one_of(group: str, name: str, *values: str) -> Need:
    """Return the condition for an option of a group of the method's, which may be null, to have one of some values."""
    return Need(
        lambda f: getattr(getattr(f.config.method, group, None), name, "none") in values,
        " or ".join(f"method.{group}.{name}={value}" for value in values),
    )


def _suggestions() -> list[Line]:
    """Return the lines of the data's suggestions, which are read where the user has not decided."""
    auto = Need(lambda f: f.given.model.name == "auto", "model=auto")
    rate = Need(is_open("lr_scale"), "lr_scale=null")
    found = [
        _line("data.suggests.recipe", Need(lambda f: f.given.recipe.name == "auto", "recipe=auto")),
        _line("data.suggests.patch_size", Need(patch_size_is_open, "model.patch_size=null")),
        _line("data.suggests.batch_size", Need(is_open("batch.size"), "batch.size=null")),
        _line("data.suggests.threads", Need(is_open("trainer.threads"), "trainer.threads=null")),
    ]
    for name, budget in (("memory", "total"), ("memory_per_class", "per_class")):
        kind = Need(lambda f, budget=budget: f.config.memory.budget == budget, f"memory={budget}")  # type: ignore[misc]
        found.append(_line(f"data.suggests.{name}", *_MEMORY, kind, Need(is_open("memory.size"), "memory.size=null")))
    for name in ("epochs_scale", "balanced_epochs_scale"):
        left = Need(is_open(name), f"{name}=null")
        found.append(_line(f"data.suggests.{name}", *_SCALED[name], left))
    for encoder in ENCODERS:
        own = Need(lambda f, kind=encoder: f.config.method.encoder == kind, f"a method with encoder: {encoder}")  # type: ignore[misc]
        found += [_line(f"data.suggests.models.{encoder}", own, auto)]
        found += [_line(f"data.suggests.lr_scale.{encoder}", own, rate, *_SCALED["lr_scale"])]
    return found


_SCALED = {
    "epochs_scale": (
        _TRAINS,
        Need(scales_epochs("epochs_scale"), "method.main.epochs_scale=null"),
    ),
    "balanced_epochs_scale": (
        *_MEMORY,
        Need(
            lambda f: trains_balanced(f.config),
            "method=dytox or method=der",
        ),
        Need(scales_epochs("balanced_epochs_scale"), "the phase's own epochs_scale=null"),
    ),
    "lr_scale": (
        _TRAINS,
        Need(any_phase(lambda phase: phase.lr_scale is None), "method.main.lr_scale=null"),
    ),
}
"""Scale of the run -> conditions for it to apply to a phase."""

LINES: tuple[Line, ...] = (
    *(_line(name, *needs) for name, needs in _SCALED.items()),
    # method
    *(line for name, use in all_phases().items() for line in lines_of_phase(name, use)),
    _line("method.encoder", Need(lambda f: f.given.model.name == "auto" or f.given.lr_scale is None, "model=auto")),
    _line(
        "method.recipe",
        Need(lambda f: f.given.recipe.name == "auto", "recipe=auto"),
        Need(lambda f: f.given.data.suggests.recipe is None, "data.suggests.recipe=null"),
    ),
    _line("method.adapter_width method.adapter_scale method.adapter_dropout", Need(has("adapt"), "method.adapt=true")),
    _line("method.augmentation", Need(is_open("data.augmentation"), "data.augmentation=null")),
    _line(
        "method.cutout",
        Need(is_open("data.cutout"), "data.cutout=null"),
        Need(lambda f: bool(f.given.data.sets) or augments(f), _AUGMENTED),
    ),
    _line(
        "method.temperature",
        Need(lambda f: getattr(f.config.method, "distillation", True), "method.distillation=true"),
        Need(
            lambda f: not isinstance(f.config.method, DERConfig) or keeps_exemplars(f),
            "memory=total or memory=per_class",
        ),
        Need(lambda f: not isinstance(f.config.method, MEATConfig) or _MASKS.holds(f), _MASKS.type),
    ),
    _line("method.variants", Need(lambda f: bool(f.given.data.sets) or augments(f), "data.augmentation=variants")),
    _line("method.noise_power", Need(has("gradient_noise"), "method.gradient_noise=0.3")),
    _line("method.ranking_weight", *_MEMORY),
    _line(
        "method.margin",
        Need(
            lambda f: not isinstance(f.config.method, UCIRConfig) or keeps_exemplars(f),
            "memory=total or memory=per_class",
        ),
        Need(lambda f: getattr(f.config.method, "ranking_weight", 1) > 0, "method.ranking_weight=1"),
        Need(lambda f: getattr(f.config.method, "nca", "paper") != "public", "method.nca=paper"),
    ),
    _line(
        "method.negatives",
        *_MEMORY,
        Need(lambda f: getattr(f.config.method, "ranking_weight", 0) > 0, "method.ranking_weight=1"),
    ),
    _line("method.finetuning_batch_norm", *_MEMORY, Need(has("finetuning"), "method.finetuning.KEY=VALUE")),
    _line("method.finetuning_early method.finetuning_early.tasks method.finetuning_early.epochs", *_FINETUNES),
    _line("method.mixup.smoothing", _MIXES),
    _line("method.mixup.in_finetuning", *_FINETUNES, _MIXES),
    _line(
        "method.reconstruction.mask method.reconstruction.ffn_ratio method.reconstruction.reduction",
        Need(has("reconstruction"), "method.reconstruction.weight=0.5"),
    ),
    _line("method.pruning.sparsity method.pruning.s_max method.pruning.kernel", _is_one_of("pruning", "rule", "masks")),
    _line("method.pruning.share", _is_one_of("pruning", "rule", "scales")),
    _line("method.pruning.start method.finetune_pruned", _is_one_of("pruning", "rule", "masks", "scales")),
    _line("method.kd_temperature", Need(has("kd_weight"), "method.kd_weight=1")),
    _line("method.sam.adaptive method.sam.from_task", Need(has("sam"), "method.sam.rho=3")),
    _line(
        "method.neighbours.k method.neighbours.weight",
        _is_one_of("neighbours", "form", "similarity", "distance", "order"),
    ),
    _line("method.neighbours.temperature", _is_one_of("neighbours", "form", "similarity")),
    _line("method.neighbours.margin", _is_one_of("neighbours", "form", "order")),
    _line("method.gamma", _MASKS),
    _line("method.token_mask_blocks method.keep method.drop_weight method.token_rate", _TOKEN_MASKS),
    _line("method.ffn_rate", Need(has("ffn_masks"), "method.ffn_masks=true")),
    # data
    _line(
        "data.root",
        Need(lambda f: f.config.data.name != "digits", _SETS_OF_FILES, "the default data, digits, have no folder"),
        Need(lambda f: bool(f.config.data.sets) or looks_below_root(f), _SETS_OF_FILES),
        Need(looks_below_root, _IN_ENTRY),
    ),
    _line("data.on_broken", _ONE_SET, Need(lambda f: f.config.data.name not in ARRAYS, _SETS_OF_FILES)),
    _line(
        "data.test_share data.test_split",
        _ONE_SET,
        Need(lambda f: f.config.data.name == "image_folder", "data=image_folder"),
        Need(lambda f: has_no_split(f.config.data.root), _NO_SPLIT),
    ),
    _line(
        "data.evaluate_on",
        Need(lambda f: _STOPS.holds(f) or _ONE_SET.holds(f), _IN_ENTRY),
        Need(lambda f: _STOPS.holds(f) or f.config.data.name == "image_folder", "data=image_folder"),
        Need(lambda f: _STOPS.holds(f) or _NO_VALIDATION.holds(f), "data.validation=0"),
    ),
    _line(
        "data.max_pixels", Need(lambda f: bool(f.config.data.sets) or f.config.data.name not in ARRAYS, _SETS_OF_FILES)
    ),
    _line("data.files", _ONE_SET, Need(lambda f: f.config.data.name in LISTED, "data=image_folder")),
    _line(
        "data.augmentation",
        Need(lambda f: not f.given.data.sets or any(e.augmentation is None for e in f.given.data.sets), _IN_ENTRY),
    ),
    _line(
        "data.crop_padding",
        Need(lambda f: bool(f.given.data.sets) or augments(f), _AUGMENTED),
        Need(lambda f: not f.given.data.sets or is_left_to_data("crop_padding")(f), _IN_ENTRY),
    ),
    _line(
        "data.cutout",
        Need(lambda f: bool(f.given.data.sets) or augments(f), _AUGMENTED),
        Need(lambda f: not f.given.data.sets or is_left_to_data("cutout")(f), _IN_ENTRY),
    ),
    _line(
        "data.flip",
        Need(lambda f: bool(f.given.data.sets) or mirrors(f), _AUGMENTED),
        Need(lambda f: not f.given.data.sets or is_left_to_data("flip")(f), _IN_ENTRY),
    ),
    _line("data.image_size", Need(reads_at_image_size, "data.preprocess.size=null")),
    _line("data.preprocess.resize data.preprocess.interpolation", _SCALES),
    _line(
        "data.preprocess.crop_share",
        _SCALES,
        Need(lambda f: f.config.data.preprocess.resize == "crop", "data.preprocess.resize=crop"),
    ),
    _line(
        "data.mean data.std",
        Need(lambda f: f.config.data.preprocess.normalise == "data", "data.preprocess.normalise=data"),
    ),
    *_suggestions(),
    _line("data.sets.root", Need(lambda f: _entry(f).name != "digits", "name: of a set that lies in files")),
    _line(
        "data.sets.on_broken", Need(lambda f: _entry(f).name not in ARRAYS, "name: image_folder, or another of files")
    ),
    _line(
        "data.sets.test_share data.sets.test_split",
        Need(lambda f: _entry(f).name == "image_folder", "name: image_folder"),
        Need(lambda f: has_no_split(_entry(f).root), _NO_SPLIT),
    ),
    _line("data.sets.evaluate_on", Need(lambda f: _entry(f).name == "image_folder", "name: image_folder"), _READS_TEST),
    _line("data.sets.files", Need(lambda f: _entry(f).name in LISTED, "name: image_folder")),
    _line("data.sets.orientation", Need(lambda f: _entry(f).name not in ARRAYS, "name: of a set that lies in files")),
    _line("data.sets.crop_padding data.sets.cutout", Need(lambda f: augments(f, _entry(f)), "augmentation: basic")),
    _line("data.sets.flip", Need(lambda f: mirrors(f, _entry(f)), "augmentation: basic")),
    # memory
    _line("memory memory.budget", *map(_unless_none, (_CAN_REMEMBER, _REMEMBERS))),
    _line("memory.size memory.scope", *_MEMORY),
    _line("early_stopping.monitor early_stopping.min_delta early_stopping.allow_unfinished_schedule", _STOPS),
    # recipe
    _line(
        "recipe.schedule_lag",
        Need(
            any_phase(lambda phase: phase.schedule != "constant" or phase.warmup_epochs > 0),
            "method.main.schedule=cosine",
        ),
    ),
    _line(
        "recipe.lr_follows_batch",
        Need(any_phase(lambda phase: phase.reference_batch is not None), "method.main.reference_batch=N"),
    ),
    _line("recipe.finetuning_order recipe.finetuning_drop_last recipe.finetune_joint", *_FINETUNES),
    _line("recipe.herd_after_finetuning", *_FINETUNES),
    _line("recipe.herd_augmented recipe.herd_distinct", _OF_DYTOX, *_MEMORY),
    _line("recipe.distillation_class_mean", *_DISTILS),
    _line("recipe.mixup_softmax", _OF_DYTOX, _MIXES),
    _line("recipe.statistics_in_frozen", *_FINETUNES, _BATCH_NORM),
    _line("recipe.general_token_in_finetuning", *_FINETUNES, _BATCH_NORM, _GENERAL_TOKEN),
    _line("recipe.classification_twice", _OF_DKT, *_DISTILS),
    _line(
        "recipe.similarity_mean", _OF_DKT, *_DISTILS, Need(has("similarity_weight"), "method.similarity_weight=0.003")
    ),
    _line("recipe.merge", _OF_DKT, _DUPLEX),
    _line(
        "recipe.drop_path_in_frozen",
        Need(freezes, "a method that freezes what it trained, such as method=dytox with a memory"),
        Need(
            lambda f: getattr(f.config.model, "drop_path", 0.0) > 0,
            "model=convit_cifar, which has model.drop_path=0.1",
        ),
    ),
    _line("recipe.replicas", Need(is_open("batch.replicas"), "batch.replicas=null")),
    _line("recipe.precision", Need(is_open("trainer.precision"), "trainer.precision=null")),
    # logger and report
    _line("trainer.keep_features", _FROZEN),
    _line(
        "trainer.features_dir", _FROZEN, Need(lambda f: f.config.trainer.keep_features, "trainer.keep_features=true")
    ),
    _line("logger.project logger.entity logger.mode logger.name logger.group", _WANDB),
    _line(
        "report.attention",
        Need(is_method(TaskTransformerConfig), "method=dytox or method=daformer_m"),
        Need(draws_page, "report.page=true"),
    ),
    _line("report.exemplars", *_MEMORY, Need(lambda f: draws_page(f) or f.config.logger.wandb, "report.page=true")),
)


def _entry(f: Facts) -> SetConfig:
    assert f.entry is not None, "an option of an entry of data.sets"
    return f.entry


BY_KEY = {key: line for line in LINES for key in line.keys}
