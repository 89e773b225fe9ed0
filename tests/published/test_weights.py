"""Published weights in our network and back: round trips, golden scores, and what is refused."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_network
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.task_attention import TaskAttentionBlock
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.published.checkpoint import load_plain, read_checkpoint
from cl_lightning.published.weights import GOLDEN as GOLDEN_NAMES
from cl_lightning.published.weights import exact_ratio, export_dytox, import_network, structure_of
from scripts.reference.vectors import VectorFile, rebuild
from tests.golden import GOLDEN

State = dict[str, Tensor]


def network(classes: tuple[int, ...] = (3, 2), diverge: bool = True, **sizes: Any) -> TaskNetwork:
    options = {"image_size": 8, "patch_size": 4, "dim": 12, "num_heads": 3, "depth": 2, "mlp_ratio": 2.5} | sizes
    encoder = {"kind": "convit", "channels": 3, "locality": 1.0, "drop_path": 0.1, **options}
    structure = {
        "kind": "task_network", "encoder": encoder, "decoder": {"kind": "task_attention"}, "diverge": diverge,
        "independent_heads": True, "classes": list(classes),
    }  # fmt: skip
    return build_network(structure, Key(0))  # type: ignore[return-value]


def published(classes: tuple[int, ...] = (3, 2), **sizes: Any) -> State:
    return export_dytox(network(classes, **sizes))


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "sizes"),
    [
        ((3, 2), {}),
        ((5,), {}),
        ((1, 4, 1), {"dim": 14, "num_heads": 7, "depth": 3, "channels": 1, "image_size": 6, "patch_size": 2}),
        ((2, 2), {"diverge": False}),
        ((2, 3), {"mlp_ratio": 31 / 12, "image_size": 4}),
    ],
)
def test_ours_come_back_the_same(classes: tuple[int, ...], sizes: dict[str, Any]) -> None:
    ours = network(classes, **sizes)
    state = export_dytox(ours)
    back = import_network(state)
    assert back.structure() == ours.structure() == structure_of(state) | ours.structure()
    assert list(back.state_dict()) == list(ours.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), ours.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(export_dytox(back).values(), state.values(), strict=True))


def test_an_export_is_a_copy() -> None:
    ours = network()
    export_dytox(ours)["pos_embed"].zero_()
    assert ours.get_parameter("encoder.pos_embed").abs().sum() > 0


def test_the_published_names() -> None:
    """Section 1.7 of the specification, written out for two blocks and two tasks."""
    norms = [f"norm{k}.{p}" for k in (1, 2) for p in ("weight", "bias")]
    mlp = [f"mlp.fc{k}.{p}" for k in (1, 2) for p in ("weight", "bias")]
    gated = ["gating_param", "qk.weight", "v.weight", "proj.weight", "proj.bias", "pos_proj.weight", "pos_proj.bias"]
    asking = ["q.weight", "k.weight", "v.weight", "proj.weight", "proj.bias"]
    head = ["head.weight", "head.bias", "norm.weight", "norm.bias"]
    expected = {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "task_tokens.0", "task_tokens.1"}
    for k in (0, 1):
        expected |= {f"sabs.{k}.{name}" for name in [*norms, *mlp, *(f"attn.{g}" for g in gated)]}
    expected |= {f"tabs.0.{name}" for name in [*norms, *mlp, *(f"attn.{a}" for a in asking)]}
    expected |= {f"{place}.{name}" for place in ("head.0", "head.1", "head_div") for name in head}
    assert set(published()) == expected


@pytest.mark.parametrize("task", [0, 1, 2])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_imported_weights_give_the_golden_scores(task: int, prefix: str) -> None:
    golden = VectorFile(GOLDEN / "dytox_small.npz")
    theirs = {"patch_embed.": "patch_embed.proj.", "encoder.": "sabs.", "decoder.": "tabs.0."}
    state = {}
    for name, value in golden.folder(f"task{task}/params/").items():
        start = next((start for start in theirs if name.startswith(start)), "")
        state[prefix + theirs.get(start, "") + name.removeprefix(start)] = value
    ours = import_network(state)
    with torch.no_grad():
        features = ours(golden.images)
        torch.testing.assert_close(ours.logits(features), golden[f"task{task}/logits"], atol=1e-5, rtol=0)
        if task:
            expected = golden[f"task{task}/divergence_logits"]
            torch.testing.assert_close(ours.auxiliary(features), expected, atol=1e-5, rtol=0)
    assert ours.structure() == rebuild(golden, task).structure()
    assert ours.structure()["classes"] == golden.meta["increments"][: task + 1]
    assert {prefix + name for name in export_dytox(ours)} == set(state)


def test_both_tables_of_names_lead_back() -> None:
    ours = network((3, 2, 4))
    for name in ours.state_dict():
        assert GOLDEN_NAMES.ours(GOLDEN_NAMES.theirs(name)) == name
    assert GOLDEN_NAMES.ours("key_banks.0.weight") is None
    assert GOLDEN_NAMES.ours(GOLDEN_NAMES.theirs("encoder.pos_embed")) == "encoder.pos_embed"


@given(st.integers(1, 2000), st.integers(1, 8000))
@settings(max_examples=300)
def test_the_ratio_gives_the_hidden_width_again(dim: int, hidden: int) -> None:
    assert int(dim * exact_ratio(hidden, dim)) == hidden


def test_half_precision_is_held_exactly() -> None:
    state = {name: value.half() for name, value in published().items()}
    ours = import_network(state)
    assert all(p.dtype == torch.float32 for p in ours.parameters())
    assert torch.equal(ours.get_parameter("encoder.pos_embed").half(), state["pos_embed"])


# ---- what weights do not hold ----------------------------------------------------------------------------------------


def test_what_weights_do_not_hold_is_published_or_from_the_arguments() -> None:
    state = published((4,))
    plain, told = structure_of(state), structure_of(state, {"drop_path": 0.2, "locality_strength": 2, "head_div": 0.0})
    assert (plain["encoder"]["drop_path"], plain["encoder"]["locality"], plain["diverge"]) == (0.1, 1.0, True)
    assert (told["encoder"]["drop_path"], told["encoder"]["locality"], told["diverge"]) == (0.2, 2.0, False)
    assert structure_of(published(diverge=False))["diverge"] is False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ind_clf": "n-1"}, "ind_clf='n-1' .* only independent heads"),
        ({"drop_path": 1.0}, r"drop_path=1.0 .* \[0, 1\)"),
        ({"drop_path": "x"}, "drop_path='x' .* not a number"),
        ({"locality_strength": None}, "locality_strength=None .* not a number"),
        ({"locality_strength": float("nan")}, "locality_strength=nan .* not a number"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        import_network(published(), arguments)


# ---- refusals --------------------------------------------------------------------------------------------------------


def without(*names: str) -> State:
    return {name: value for name, value in published().items() if name not in names}


def but(**changed: Any) -> State:
    return published() | {name.replace("__", "."): value for name, value in changed.items()}


ONE_D = torch.zeros(12)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({}, "head.0 is missing"),
        (but(tabs__1__norm1__weight=ONE_D), "tabs.1.norm1.weight: several task-attention blocks"),
        (but(head__weight=torch.zeros(5, 12)), "head.weight: only independent heads"),
        (but(pos_embed=torch.zeros(1, 6, 12)), "pos_embed has 6 patches, which fill no square"),
        (but(pos_embed=ONE_D), r"pos_embed is of shape \(12,\): it must have 3"),
        (but(patch_embed__proj__weight=torch.zeros(12, 3, 4, 2)), "patch_embed.proj.weight has patches of 4 x 2"),
        (without("pos_embed"), "pos_embed is missing"),
        (without("sabs.1.mlp.fc1.bias"), r"sabs.1.mlp.fc1.bias is missing: .* shape \(30,\)"),
        (without("head_div.norm.bias"), r"head_div.norm.bias is missing: .* shape \(12,\)"),
        ({k: v for k, v in published().items() if not k.startswith("sabs.0.")}, "sabs.0 is missing"),
        ({k: v for k, v in published().items() if not k.startswith("sabs.")}, "sabs.0 is missing"),
        (without("task_tokens.0"), "task_tokens.0 is missing"),
        (without("task_tokens.1"), r"1 task_tokens.\* and 2 head.\*"),
        (but(sabs__0__attn__qk__bias=torch.zeros(24)), "sabs.0.attn.qk.bias has no place in the network"),
        (but(sabs__x__norm1__weight=ONE_D), "sabs.2 is missing: .* not sabs.x"),
        (but(transformer__norm__weight=ONE_D), "transformer.norm.weight has no place in DyTox"),
        (but(head_div__head__weight=torch.zeros(6, 12)), r"head_div.head.weight .* \(6, 12\), .* \(3, 12\)"),
        (but(head__1__head__weight=torch.zeros(2, 24)), r"head.1.head.weight .* \(2, 24\), .*only independent heads"),
        (but(head__1__head__bias=torch.zeros(3)), r"head.1.head.bias .* \(3,\)"),
        (but(sabs__0__attn__gating_param=torch.zeros(5)), "gating_param has 5 heads, which do not divide the width"),
        (but(sabs__1__attn__gating_param=torch.zeros(4)), r"sabs.1.attn.gating_param .* \(4,\), .* \(3,\)"),
        (but(tabs__0__mlp__fc1__weight=torch.zeros(31, 12)), r"tabs.0.mlp.fc1.weight .* \(31, 12\)"),
        (but(pos_embed=[1.0]), "pos_embed is of type list"),
        (but(pos_embed=torch.zeros(1, 4, 12, dtype=torch.int64)), "pos_embed is torch.int64"),
        (but(pos_embed=torch.zeros(1, 4, 12, dtype=torch.float64)), "pos_embed is torch.float64"),
        (but(head__0__head__weight=torch.zeros(0, 12)), r"head.0.head.weight is of shape \(0, 12\)"),
        (published((3,)) | {"head_div.norm.bias": ONE_D}, "head_div.* beside a single head"),
        ({f"module.{k}" if "0" in k else k: v for k, v in published().items()}, "module.* has no place"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(state: State, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        import_network(state)
    assert "\n" not in str(caught.value)


def test_heads_that_all_predict_everything_are_separated_by_the_divergence_head() -> None:
    """Mode 1-n: the second head has all five classes. Only the divergence head knows that two of them are new."""
    state = published((3, 5)) | {k: v for k, v in published((3, 2)).items() if k.startswith("head_div.")}
    with pytest.raises(ValueError, match=r"head_div.head.weight .* \(3, 12\), .* \(6, 12\).*only independent"):
        import_network(state)


class Foreign(Encoder):
    """Another encoder."""

    mlp_ratio = 4.0
    drop_path = 0.1
    forward = drop_rates = None  # type: ignore[assignment]

    def structure(self) -> dict[str, Any]:
        return {"kind": "timm_vit"}


def test_only_what_has_published_names_is_exported() -> None:
    structure = network().structure()
    for told, changed in {
        "token_expansion=false": {"decoder": {"kind": "task_attention", "expansion": False}},
        "independent_heads=false": {"classifier": {"kind": "joint"}},
        "the decoder is dual_attention: only method=dytox": {"decoder": {"kind": "dual_attention"}},
    }.items():
        with pytest.raises(ValueError, match=told):
            export_dytox(build_network(structure | changed, Key(0)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the encoder is timm_vit: only model=convit"):
        export_dytox(TaskNetwork(Foreign(dim=12, num_heads=3), TaskAttentionBlock(12, 3)))


# ---- checkpoints -----------------------------------------------------------------------------------------------------


class Harm:
    """Makes a file when it is unpickled in earnest."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


class HarmByPath(Harm):
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def checkpoint(**parts: Any) -> dict[str, Any]:
    """What the published code saves."""
    args = argparse.Namespace(drop_path=0.05, locality_strength=1.0, head_div=0.1, ind_clf="1-1", lr=5e-4, seed=0)
    return {
        "model": OrderedDict(published()), "optimizer": {"state": {}, "param_groups": []}, "lr_scheduler": {"t": 0},
        "epoch": 19, "task_id": 1, "scaler": {}, "args": args,
    } | parts  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_checkpoint_is_read_with_its_arguments(tmp_path: Path, zipped: bool) -> None:
    torch.save(checkpoint(), tmp_path / "p.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "p.pth")
    assert found.progress == {"epoch": 19, "task_id": 1}
    assert found.arguments is not None
    assert found.arguments["drop_path"] == 0.05
    assert structure_of(found.weights, found.arguments)["encoder"]["drop_path"] == 0.05
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_a_bare_state_dict_is_read_too(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "p.pth")
    found = read_checkpoint(tmp_path / "p.pth")
    assert (found.arguments, found.progress) == (None, {})
    assert set(found.weights) == set(published())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("harm", [Harm, HarmByPath])
@pytest.mark.parametrize("place", ["args", "in args", "model", "extra", "whole"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, harm: type[Harm], place: str, zipped: bool
) -> None:
    mark, file = tmp_path / "executed", tmp_path / "p.pth"
    bad = harm(mark)
    content: Any = {
        "args": lambda: checkpoint(args=bad),
        "in args": lambda: checkpoint(args=argparse.Namespace(drop_path=0.1, hook={"deep": [bad]})),
        "model": lambda: checkpoint(model={"pos_embed": bad}),
        "extra": lambda: checkpoint(extra=bad),
        "whole": lambda: bad,
    }[place]()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError) as caught:
        read_checkpoint(file)
    assert not mark.exists()
    message = str(caught.value)
    assert ("posix.system" if harm is Harm else "pathlib") in message or "getattr" in message
    assert "nothing from it was executed" in message
    assert "\n" not in message
    pickle.loads(pickle.dumps(bad))  # it is harm indeed
    assert mark.exists()


class Stranger:
    """A class of nobody's."""


def test_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    for extra, name in ((Stranger(), "Stranger"), (Path("x"), "pathlib"), (torch.nn.Linear(1, 1), "Linear")):
        torch.save(checkpoint(args=argparse.Namespace(x=extra)), tmp_path / "p.pth")
        with pytest.raises(ValueError, match=name):
            read_checkpoint(tmp_path / "p.pth")
    torch.save(checkpoint(), tmp_path / "p.pth")
    with pytest.raises(ValueError, match="argparse.Namespace"):
        load_plain(tmp_path / "p.pth")  # nobody allowed it here


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "holds a list, not a checkpoint"),
        ({}, "its model is empty"),
        ({"model": {}}, "its model is empty"),
        ({"model": [1]}, "its model is list"),
        ({"model": {"a": torch.zeros(1)}, "args": 3}, "args are of type int"),
        ({"version": 1, "network": {}}, "one of our own files.*export"),
    ],
)
def test_other_contents_are_reported_in_one_line(tmp_path: Path, content: Any, told: str) -> None:
    torch.save(content, tmp_path / "p.pth")
    with pytest.raises(ValueError, match=told):
        read_checkpoint(tmp_path / "p.pth")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken", b"\x80\x02", b"\x80\x04N."])
def test_files_that_are_no_checkpoints_are_reported_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.pth").write_bytes(content)
    with pytest.raises(ValueError, match="not a checkpoint" if content else "is an empty file: type a") as caught:
        read_checkpoint(tmp_path / "p.pth")
    assert "\n" not in str(caught.value)


def test_no_file_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_checkpoint(tmp_path / "p.pth")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_checkpoint(tmp_path)
