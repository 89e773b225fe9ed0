"""Names of timm's networks: a name is that of an architecture, with or without the tag of its weights (``NAME.TAG``).

Only names in timm's own registry are taken, never an address (``hf-hub:...``): a name in a file cannot fetch anything.
"""

from __future__ import annotations

import difflib
from typing import Any

from cl_lightning.core.errors import InvalidSettingError

_COMMON = ("resnet50", "vit_base_patch16_224", "convnext_tiny")
"""Names to offer where nothing is near."""


def check_name(name: str) -> None:
    """Raise ``ValueError`` for a name that timm does not know, with the nearest that it does."""
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=4) or _COMMON
        raise InvalidSettingError("name", name, "is not a timm model", tuple(close))
    if not tag:
        return
    tags = [given.partition(".")[2] for given in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag not in tags:
        close = difflib.get_close_matches(tag, tags, n=3) or tags[:3]
        known = (architecture, *(f"{architecture}.{other}" for other in close))
        raise InvalidSettingError("name", name, f"has a tag that timm's {architecture} does not", known)


def expected_size(name: str) -> int:
    """Return the side of the images that ``name`` was made for. Raises ``ValueError`` as :func:`check_name` does."""
    return int(max(pretrained_config(name).input_size[1:]))


def pretrained_config(name: str) -> Any:
    """Return what timm knows about the weights of ``name``. Raises ``ValueError`` as :func:`check_name` does, and for
    a name that timm has given up: it knows nothing about its weights.
    """
    import timm

    check_name(name)
    known = timm.get_pretrained_cfg(name)
    if known is None:
        raise InvalidSettingError("name", name, "is an old name of timm's", _of_today(name))
    return known


def _of_today(name: str) -> tuple[str, ...]:
    """Return today's name of an old one as timm maps it; where it does not say, the nearest."""
    import timm
    from timm.models import _registry

    mapped = getattr(_registry, "_deprecated_models", {}).get(name)
    return (mapped,) if mapped else tuple(difflib.get_close_matches(name, timm.list_models(), n=4) or _COMMON)
