"""Keys that files of earlier versions lack, and the rule that held before each key came.

These tables are the only source for it. A default in ``conf/`` says what a new run does, and may
change; an entry here says what runs did before the key existed, and never changes. So whoever adds a key to a file of
a run adds a line here: the reader of that file completes it first, and no other code asks whether a key is there.

Checkpoints of formats 1 and 2 are refused, so nothing here is older than format 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from cl_lightning.core.origins import origin_of_run

Plain = Any
"""A value that JSON, YAML or a checkpoint holds."""


@dataclass(frozen=True)
class Missing:
    """A key that came later, and its value where it is missing."""

    key: str
    """Dotted; ``*`` stands for every entry of a list, or of a group. Nothing is added where the parent is missing or
    null.
    """
    value: Plain | Callable[[Mapping[str, Plain]], Plain]
    """The value, or a function that derives it from what is beside the key."""
    only: tuple[str, ...] = ()
    """Names of the methods (or models ...) that have the key, compared with ``name`` beside it. Empty: all."""
    beside: str = ""
    """A key that is beside it in every group that has it: of the groups of a method, a phase has an optimiser."""
    null: bool = False
    """True for a key that every file has, with null in it where today's files have a value."""
    in_protocol: bool = True
    """True if a ``protocol`` has the key too; False for a key that it leaves out unless something is set."""


_READ_BEFORE = {"files": "by_suffix", "orientation": "ignore", "evaluate_on": "val_or_test", "test_split": "per_image"}
"""Rules by which folders of images were read."""

_PILLOWS_LIMIT = 178_956_970
"""Number of pixels above which Pillow refuses a picture."""

_SWITCHES = (
    "repeated_augmentation",
    "order_ignores_seed",
    "schedule_lag",
    "lr_follows_batch",
    "finetuning_drop_last",
    "finetune_joint",
    "drop_path_in_frozen",
    "mixup_softmax",
    "distillation_class_mean",
    "herd_augmented",
    "herd_distinct",
    "herd_after_finetuning",
)
"""Switches of a recipe that null turned off."""

_OWN_BACKBONES = ("resnet18", "resnet32", "resnet8", "vit_cifar", "vit_tiny")
"""Models that could be neither begun from a file nor frozen by themselves."""

_LATER_SWITCHES = ("statistics_in_frozen", "general_token_in_finetuning", "classification_twice")
"""Switches that came with DKT: nothing that there was before reads them."""

_ORIGINS = {
    "published": ("dytox", "dytox_plus", "dytox_plusplus", "der"),
    "published recipe": ("icarl", "podnet", "ucir", "wa"),
    "reconstruction": ("daformer_m", "daformer_s", "meat"),
    "adaptation": ("lwf", "piggyback"),
    "reference": ("classifier_only", "finetune", "individual", "joint"),
}
"""Label -> methods of versions without labels."""

_KINDS = {
    "transformer": (
        *("dytox", "dytox_plus", "dytox_plusplus", "daformer_m", "daformer_s"),
        *("convit_cifar", "convit_imagenet", "convit_tiny"),
    ),
    "conv_transformer": ("conv_vit_cifar", "conv_vit_imagenet", "conv_vit_tiny"),
    "cnn": ("der", "icarl", "lwf", "podnet", "ucir", "wa", "resnet18", "resnet32", "resnet8"),
}
"""Kind of network -> methods that were for it, and models of it. All others were plain vision transformers, timm's
under names of its own.
"""


_ARRAYS = ("digits", "cifar100")
"""Data sets that were arrays, and not files, when there came to be a choice of preprocessing."""


_GROWING = ("dytox", "dytox_plus", "dytox_plusplus", "daformer_m", "daformer_s", "dkt")
_FROZEN = ("simplecil", "ranpac")
_NO_ADAPTATION: dict[str, Plain] = {
    "adapt": False,
    "adapter_width": 64,
    "adapter_scale": 0.1,
    "adapter_dropout": 0.1,
    "adaptation": {
        "epochs": 20, "optimiser": "sgd", "lr": 0.01, "weight_decay": 5.0e-4, "decay_vectors": True, "momentum": 0.9,
        "reference_batch": None, "schedule": "cosine", "warmup_epochs": 0.0, "warmup_lr": 0.0, "min_lr": 0.0,
        "milestones": [], "gamma": 0.1,
    },
}  # fmt: skip
"""Options of methods on frozen features from before these could be adapted: nothing was."""
_NOT_PRUNED: dict[str, Plain] = {
    "pruning": None,
    "kd_weight": 0.0,
    "kd_temperature": 2.0,
    "finetune_pruned": False,
    "pruned_finetuning": {
        "epochs": 20, "optimiser": "sgd", "lr": 0.01, "weight_decay": 5.0e-4, "decay_vectors": True, "momentum": 0.9,
        "reference_batch": None, "schedule": "steps", "warmup_epochs": 0.0, "warmup_lr": 0.0, "min_lr": 0.0,
        "milestones": [0.5], "gamma": 0.1,
    },
}  # fmt: skip
"""Options of DER from before its extractors could be pruned, and old scores distilled: neither was."""


def _as_stored(data: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return preprocessing as it was when there was no choice: arrays kept their pixels, the short side of a file was
    scaled to 256/224 of the size.
    """
    sets = data.get("sets")
    entries = [entry for entry in sets if isinstance(entry, Mapping)] if isinstance(sets, list) else []
    names = [entry.get("name") for entry in entries] or [data.get("name")]
    return {
        "size": data.get("image_size"),
        "resize": "whole" if all(name in _ARRAYS for name in names) else "crop",
        "crop_share": 0.875,
        "interpolation": "bicubic",
        "normalise": "data",
    }


CONFIGURATION: tuple[Missing, ...] = (
    Missing("if_exists", "refuse"),
    Missing("data.on_broken", "error"),
    Missing("trainer.checkpoint_steps", None),
    Missing("trainer.checkpoint_minutes", 10.0),
    # The speed settings change no number beyond rounding: an earlier run that is resumed runs like any other.
    Missing("trainer.compile", "auto"),
    Missing("trainer.keep_memory", True),
    Missing("trainer.cuda_graphs", True),
    Missing("trainer.kernels", True),
    Missing("report", {"page": True, "attention": False, "exemplars": 8}),
    Missing("verbose", 1),
    Missing("extends", None),
    Missing("data.sets", []),
    Missing("data.sets.*.augmentation", None),
    Missing("data.sets.*.crop_padding", None),
    Missing("evaluate_phases", False),
    Missing("data.max_pixels", _PILLOWS_LIMIT),
    Missing("data.balance", "none"),
    Missing("logger.tensorboard", False),
    Missing(
        "early_stopping",
        {"patience": None, "monitor": "accuracy", "min_delta": 0.0, "allow_unfinished_schedule": False},
    ),
    *(
        Missing(f"{parent}.{key}", value)
        for parent in ("data", "data.sets.*", "extends.folders.*")
        for key, value in _READ_BEFORE.items()
    ),
    Missing("extends.folders.*.allow_similar", True),
    # Phases among them stand before the scales of phases.
    *(Missing(f"method.{name}", value, only=_FROZEN) for name, value in _NO_ADAPTATION.items()),
    *(Missing(f"method.{name}", value, only=("der",)) for name, value in _NOT_PRUNED.items()),
    Missing("method.*.epochs_scale", None, beside="optimiser", in_protocol=False),
    Missing("method.*.lr_scale", None, beside="optimiser", in_protocol=False),
    *(Missing(f"recipe.{switch}", False, null=True) for switch in (*_SWITCHES, *_LATER_SWITCHES)),
    Missing("recipe.finetuning_order", "shuffled", null=True),
    Missing("recipe.date", "undated", null=True, in_protocol=False),
    Missing("recipe.replicas", 1, null=True),
    Missing("recipe.precision", "32-true", null=True),
    Missing("batch.replicas", 1, null=True),
    Missing("trainer.precision", "32-true", null=True),
    Missing("trainer.keep_features", False),
    Missing("trainer.features_dir", None),
    *(Missing(f"recipe.{switch}", False) for switch in _LATER_SWITCHES),
    Missing("recipe.similarity_mean", "pairs"),
    Missing("recipe.merge", "exact"),
    Missing("model.shortcut", "padded", only=("resnet32", "resnet8")),
    *(Missing("method.origin", label, only=methods, in_protocol=False) for label, methods in _ORIGINS.items()),
    Missing("model.weights_file", None, only=_OWN_BACKBONES),
    Missing("model.frozen", False, only=_OWN_BACKBONES),
    Missing("data.preprocess", _as_stored),
    Missing("data.cutout", 0),
    Missing("data.sets.*.cutout", None),
    Missing("method.cutout", 0, only=("dkt",)),
    Missing("method.head", "duplex", only=("dkt",)),
    Missing("method.reconstruction", None, only=_GROWING),
)
"""``config.yaml``, in the order in which the keys came."""

CHECKPOINT: tuple[Missing, ...] = (
    Missing("phases", []),
    Missing("answers", None),
    Missing("commits", []),
    Missing("after_phases", []),
    Missing("records.*.multiply_adds", None),
    Missing("records.*.peak_memory", None),
    Missing("records.*.peak_gpu_memory", None),
    Missing("class_counts", {}),
    Missing("cursor.left.stopping", None),
)
"""The state of a run, in ``checkpoints/`` and in a bundle."""

TOKEN_NETWORK: tuple[Missing, ...] = (
    Missing("token_expansion", True),
    Missing("independent_heads", True),
)
"""The description of a network of kind ``token_network``, in checkpoints and exports."""

EMBEDDING_NETWORK: tuple[Missing, ...] = (Missing("head", "linear"),)
"""The description of a network of kind ``embedding_network``: ``linear`` heads are not named in it."""

PROTOCOL: tuple[Missing, ...] = (
    Missing("method_options", {}),
    Missing("recipe_switches", {}),
    Missing("balance", "none"),
    Missing("early_stopping", "none"),
    Missing("preprocess", "usual"),
)
"""``protocol`` in ``results.json``, checkpoints and exports. Its ``method_options`` and ``recipe_switches`` are what
:data:`CONFIGURATION` has as ``method`` and ``recipe``: they are completed from there.
"""

RESULTS: tuple[Missing, ...] = (
    Missing("provenance.phases", []),
    Missing("provenance.tasks", []),
    Missing("costs", None),
    Missing("provenance.peak_memory", None),
    Missing("provenance.peak_gpu_memory", None),
    Missing("provenance.disk", None),
    Missing("macro_accuracy", None),
    Missing("last_macro_accuracy", None),
    Missing("forward_transfer", None),
    Missing("forward_transfer_reason", None),
)
"""The rest of ``results.json``."""

EXPORT: tuple[Missing, ...] = (
    Missing("protocol.evaluation", "class_incremental"),
    Missing("preprocessing.max_pixels", _PILLOWS_LIMIT),
    Missing("preprocessing.whole", False),
    Missing("preprocessing.interpolation", "bicubic"),
    Missing("preprocessing.resize", None),
)
"""``model.json``."""


def complete(plain: Mapping[str, Plain], table: Sequence[Missing]) -> dict[str, Plain]:
    """Return a copy of ``plain`` with its missing keys of ``table`` added; untouched parts are shared with it."""
    completed = dict(plain)
    for missing in table:
        _add(completed, missing.key.split("."), missing)
    return completed


def _add(node: dict[str, Plain], path: list[str], missing: Missing) -> None:
    """Follow ``path`` in ``node``, which may be changed, and set the value at its end if none is there."""
    name, *rest = path
    if not rest:
        lacks = name in node and node[name] is None if missing.null else name not in node
        if lacks and _belongs(missing, node):
            node[name] = missing.value(node) if callable(missing.value) else deepcopy(missing.value)
        return
    inner = node.get(name)
    if isinstance(inner, Mapping) and rest[0] == "*":
        node[name] = {key: _entry(entry, rest[1:], missing) for key, entry in inner.items()}
    elif isinstance(inner, Mapping):
        node[name] = copied = dict(inner)
        _add(copied, rest, missing)
    elif isinstance(inner, list) and rest[0] == "*":
        node[name] = [_entry(entry, rest[1:], missing) for entry in inner]


def _belongs(missing: Missing, node: Mapping[str, Plain]) -> bool:
    of_its_name = not missing.only or node.get("name") in missing.only
    return of_its_name and (not missing.beside or missing.beside in node)


def _entry(entry: Plain, path: list[str], missing: Missing) -> Plain:
    if not isinstance(entry, Mapping):
        return entry
    copied = dict(entry)
    _add(copied, path, missing)
    return copied


# ---- the files of a run ------------------------------------------------------------------------------------------


def complete_configuration(plain: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return a complete ``config.yaml`` of a run."""
    return complete(plain, CONFIGURATION)


def complete_protocol(protocol: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return a complete protocol: its own keys, and those of method and recipe as in a configuration."""
    completed = complete(protocol, PROTOCOL)
    for key, group in (("method_options", "method"), ("recipe_switches", "recipe")):
        if isinstance(completed[key], Mapping) and completed[key]:
            table = [
                missing for missing in CONFIGURATION if missing.key.startswith(f"{group}.") and missing.in_protocol
            ]
            with_name = {"name": completed.get(group), **completed[key]}
            filled = complete({group: with_name}, table)[group]
            completed[key] = {name: value for name, value in filled.items() if name != "name"}
    completed.setdefault("origin", _origin_before(completed))
    return completed


def _origin_before(protocol: Mapping[str, Plain]) -> str | None:
    """Return the label of a run from before there were labels; None for a method that this package never had."""
    method, model = protocol.get("method"), protocol.get("model")
    label = next((label for label, methods in _ORIGINS.items() if method in methods), None)
    if label is None or model is None:
        return label
    of_method, of_model = (next((kind for kind in _KINDS if name in _KINDS[kind]), "vit") for name in (method, model))
    return origin_of_run(label, of_method, of_model)


def complete_results(results: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return a complete ``results.json`` of a run."""
    return {**complete(results, RESULTS), "protocol": complete_protocol(results["protocol"])}


def complete_checkpoint(payload: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return a complete checkpoint of today's format."""
    completed = complete(payload, CHECKPOINT)
    identity = completed.get("identity")
    if isinstance(identity, Mapping) and isinstance(identity.get("protocol"), Mapping):
        completed["identity"] = {**identity, "protocol": complete_protocol(identity["protocol"])}
    return completed


def complete_export(described: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return a complete ``model.json`` of an export."""
    completed = complete(described, EXPORT)
    return {**completed, "protocol": complete_protocol(completed["protocol"])}
