"""What processes tell each other: the types that went come back, nothing else gets in, and no pickle is near."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import pytest
import torch

import cl_lightning
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.saved import load_plain, to_plain
from cl_lightning.config.yaml_files import options
from cl_lightning.distributed.messages import decode, encode
from tests.core.test_serialization import STATE, same

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "value",
    [
        None,
        (True, 3, "three", -0.0, 1e-320, 0.1 + 0.2, math.inf, 2**70, ""),
        [[], (), {}, ("config", {"a": [1, (2,)]})],
        {("class_incremental", "linear"): torch.arange(6).view(3, 2), 4: None},
        torch.tensor([math.nan, -0.0]).view(torch.int32),
        STATE,
    ],
    ids=str,
)
def test_a_value_comes_back_with_its_types(value: object) -> None:
    message = encode(value)
    assert (message.dtype, message.ndim) == (torch.uint8, 1)
    assert same(value, decode(message))


@pytest.mark.parametrize(
    "value", [{1, 2}, Path("x"), b"bytes", len, [object()]], ids=lambda value: type(value).__name__
)
def test_another_type_is_a_bug_that_is_named(value: object) -> None:
    kind = type(value[0] if isinstance(value, list) else value).__name__
    with pytest.raises(TypeError, match=kind):
        encode(value)


WHOLE = bytes(encode(["text", torch.ones(2)]).tolist())
BAD = {
    "nothing": b"",
    "short": WHOLE[:5],
    "cut": WHOLE[:-3],
    "no tensors": WHOLE[:30],
    "far too long": b"\xff" * 8 + WHOLE[8:],
    "a pickle": pickle.dumps(print),
    "no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "deep": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "another kind": (14).to_bytes(8, "little") + b'{"import": []}',
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_message_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="from another process"):
        decode(torch.frombuffer(bytearray(BAD[name]), dtype=torch.uint8) if BAD[name] else torch.empty(0).byte())


@pytest.mark.parametrize("method", options("method"))
def test_a_configuration_crosses_whole(method: str, tmp_path: Path) -> None:
    typed = [f"method={method}", "data.increment=5", f"run_dir={tmp_path}", f"data.root={tmp_path}/\\${{x}}", "seed=3"]
    if method in ("meat", "piggyback", "classifier_only", "individual"):
        typed += ["model=vit_tiny", *([] if method == "individual" else ["method.backbone_task=true"])]
    config, _ = compose_one_of_many(typed)
    assert load_plain(decode(encode(to_plain(config)))) == config


def test_nothing_in_the_package_unpickles() -> None:
    """What reads a file or a message of others must not be able to run code from it."""
    forbidden = re.compile(
        r"(all_gather|gather|broadcast|scatter)_object|(send|recv)_object|pickle\.loads?\(|Unpickler|marshal\.loads?\("
        r"|allow_pickle=True|weights_only=False|torch\.load\((?![^\n]*weights_only=True)"
    )
    folder = Path(cl_lightning.__file__).parent
    found = [
        f"{path.relative_to(folder)}: {match.group()}"
        for path in sorted(folder.rglob("*.py"))
        for match in forbidden.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found
