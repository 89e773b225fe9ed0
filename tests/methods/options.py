"""Options of methods as ``conf/`` has them, but for what a test changes."""

from __future__ import annotations

from functools import cache
from typing import Any

from cl_lightning.config.schema import (
    BiCConfig,
    DAFormerConfig,
    DERConfig,
    DyToxConfig,
    HATConfig,
    LwFConfig,
    MEATConfig,
    PODNetConfig,
    RPSNetConfig,
    UCIRConfig,
    WAConfig,
)
from cl_lightning.losses.neighbours import Neighbours
from cl_lightning.methods.bic import BiCOptions
from cl_lightning.methods.der import DEROptions
from cl_lightning.methods.dytox import DyToxOptions
from cl_lightning.methods.hat import HATOptions
from cl_lightning.methods.lwf import LwFOptions
from cl_lightning.methods.meat import MEATOptions
from cl_lightning.methods.podnet import PODNetOptions
from cl_lightning.methods.rpsnet import RPSNetOptions
from cl_lightning.methods.ucir import UCIROptions
from cl_lightning.methods.wa import WAOptions
from tests.config.made import filled


@cache
def _method(name: str) -> Any:
    return filled(f"method={name}").method


def dytox_options(**changed: Any) -> DyToxOptions:
    """Return DyTox's, with the switches of ``recipe=clean``."""
    method: DyToxConfig = _method("dytox")
    recipe = filled("recipe=clean").recipe
    options: dict[str, Any] = {
        "distillation": method.distillation,
        "temperature": method.temperature,
        "divergence_weight": method.divergence_weight,
        "sharpness_from_task": _method("dytox_plusplus").sam.from_task,
        "softmax": recipe.mixup_softmax,
        "distillation_class_mean": recipe.distillation_class_mean,
        "rehearsal": method.rehearsal,
        "herd_augmented": recipe.herd_augmented,
        "herd_distinct": recipe.herd_distinct,
        "herd_after_finetuning": recipe.herd_after_finetuning,
        "finetune_first": recipe.finetune_joint,
        "statistics_in_frozen": recipe.statistics_in_frozen,
        "reconstruction_weight": 0.0,
        "reconstruction_reduction": "mean",
    }
    return DyToxOptions(**{**options, **changed})


def wa_options(**changed: Any) -> WAOptions:
    """Return WA's."""
    method: WAConfig = _method("wa")
    options = {"temperature": method.temperature, "clip": method.clip, "rehearsal": method.rehearsal}
    return WAOptions(**{**options, **changed})


def der_options(**changed: Any) -> DEROptions:
    """Return DER's."""
    method: DERConfig = _method("der")
    weight, temperature = method.auxiliary_weight, method.temperature
    options: dict[str, Any] = {"auxiliary_weight": weight, "temperature": temperature, "rehearsal": method.rehearsal}
    options |= {"pruning": None, "kd_weight": method.kd_weight, "kd_temperature": method.kd_temperature}
    return DEROptions(**{**options, **changed})


def meat_options(**changed: Any) -> MEATOptions:
    """Return MEAT's."""
    method: MEATConfig = _method("meat")
    options = {"keep": method.keep, "drop_weight": method.drop_weight, "readouts": tuple(method.readouts)}
    return MEATOptions(**{**options, **changed})


def hat_options(**changed: Any) -> HATOptions:
    """Return HAT's."""
    method: HATConfig = _method("hat")
    options: dict[str, Any] = {
        "usage_weight": method.usage_weight,
        "embedding_limit": method.embedding_limit,
        "readouts": tuple(method.readouts),
    }
    return HATOptions(**{**options, **changed})


def neighbours(form: str, **changed: Any) -> Neighbours:
    """Return those of DAFormer's reconstruction, which has no form unless one is chosen."""
    method: DAFormerConfig = _method("daformer_m")
    given = method.neighbours
    options = {"k": given.k, "temperature": given.temperature, "margin": given.margin}
    return Neighbours(form, **{**options, **changed})


def lwf_options(**changed: Any) -> LwFOptions:
    """Return LwF's without a memory."""
    method: LwFConfig = _method("lwf")
    options: dict[str, Any] = {
        "temperature": method.temperature,
        "weight": method.weight,
        "all_classes_compete": False,
        "per_task": method.softmax == "per_task",
        "rehearsal": method.rehearsal,
    }
    return LwFOptions(**{**options, **changed})


def ucir_options(**changed: Any) -> UCIROptions:
    """Return UCIR's, with a memory."""
    method: UCIRConfig = _method("ucir")
    options: dict[str, Any] = {
        "less_forget_weight": method.less_forget_weight,
        "ranking_weight": method.ranking_weight,
        "margin": method.margin,
        "negatives": method.negatives,
        "imprint": method.imprint,
        "rehearsal": method.rehearsal,
    }
    return UCIROptions(**{**options, **changed})


def bic_options(**changed: Any) -> BiCOptions:
    """Return BiC's."""
    method: BiCConfig = _method("bic")
    options: dict[str, Any] = {
        "temperature": method.temperature,
        "held_share": method.held_out,
        "offset_weight": method.offset_weight,
        "decay_over": None,
        "moving_statistics": method.correction_batch_norm == "training",
    }
    return BiCOptions(**{**options, **changed})


def rpsnet_options(**changed: Any) -> RPSNetOptions:
    """Return RPS-Net's."""
    method: RPSNetConfig = _method("rpsnet")
    options: dict[str, Any] = {
        "modules": method.modules,
        "path_every": method.path_every,
        "candidates": method.candidates,
        "temperature": method.temperature,
        "growth": method.growth,
        "held_share": method.held_out,
        "reference_parity": method.reference_parity,
    }
    return RPSNetOptions(**{**options, **changed})


def podnet_options(**changed: Any) -> PODNetOptions:
    """Return PODNet's, with a memory."""
    method: PODNetConfig = _method("podnet")
    options: dict[str, Any] = {
        "nca": method.nca,
        "margin": method.margin,
        "pod_flat": method.pod_flat,
        "pod_spatial": method.pod_spatial,
        "moving_statistics": method.finetuning_batch_norm == "training",
        "rehearsal": method.rehearsal,
    }
    return PODNetOptions(**{**options, **changed})
