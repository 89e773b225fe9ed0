"""Hyper-parameters that a file of golden vectors was computed with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cl_lightning.core.errors import InvalidFileError
from scripts.reference.vectors import META


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a file; what ``meta.json`` leaves out is as published."""

    lr: float = 5e-4
    weight_decay: float = 1e-6
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    sam_rho: float = 3.0
    sam_adaptive: bool = True
    mixup_lambda: float = 0.3
    label_smoothing: float = 0.1
    head_div_weight: float = 0.1
    distillation_tau: float = 1.0
    steps: int = 10

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Settings:
        """Read them; ``ValueError`` names one that is impossible, or that our network does not have."""
        for name in ("layernorm_eps", "encoder_layernorm_eps"):
            if not math.isclose(_number(meta, name, 1e-5), 1e-5):
                raise InvalidFileError(
                    META, f"says {name}={meta[name]}: our LayerNorms have 1e-05, this file needs others"
                )
        numbers = {name: _number(meta, name, getattr(cls, name)) for name in _NUMBERS}
        for name in ("mixup_lambda", "label_smoothing"):
            if numbers[name] > 1:
                raise InvalidFileError(META, f"says {name}={numbers[name]}: it is a share, at most 1")
        steps = _number(meta, "steps", cls.steps)
        if steps != int(steps):
            raise InvalidFileError(META, f"says steps={steps}: it must be a whole number")
        adaptive = meta.get("sam_adaptive", cls.sam_adaptive)
        if not isinstance(adaptive, bool):
            raise InvalidFileError(META, f"says sam_adaptive={adaptive!r}: it must be true or false")
        return cls(**numbers, adam_betas=_betas(meta, cls.adam_betas), sam_adaptive=adaptive, steps=int(steps))

    def reach(self, steps: int) -> float:
        """Return the largest distance of two runs of Adam after ``steps`` with steps of arbitrary sign: each step
        is at most lr max(1, (1 - beta1) / sqrt(1 - beta2)) long (Kingma & Ba 2015, section 2.1).
        """
        beta1, beta2 = self.adam_betas
        return 2 * steps * self.lr * max(1.0, (1 - beta1) / math.sqrt(1 - beta2))


_NUMBERS = (
    "lr", "weight_decay", "adam_eps", "sam_rho", "mixup_lambda", "label_smoothing", "head_div_weight",
    "distillation_tau",
)  # fmt: skip


def _betas(meta: Mapping[str, Any], default: tuple[float, float]) -> tuple[float, float]:
    betas = meta.get("adam_betas", default)
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise InvalidFileError(META, f"says adam_betas={betas!r}: it must be two numbers")
    first, second = (_number({"adam_betas": value}, "adam_betas", value) for value in betas)
    if max(first, second) >= 1:
        raise InvalidFileError(META, f"says adam_betas={betas!r}: both must be below 1")
    return first, second


def _number(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidFileError(META, f"says {name}={value!r}: it must be a number, at least 0")
    return value
