"""Published weights into a file of ours and back, by the command."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.checkpoint import files, state
from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.published.weights import export_dytox
from scripts.convert import IMPORTED, main
from scripts.reference.vectors import VectorFile, rebuild
from tests.golden import GOLDEN

ROOT = Path(__file__).parents[2]


def golden_network(task: int = 2) -> TaskNetwork:
    return rebuild(VectorFile(GOLDEN / "dytox_small.npz"), task)


def published(path: Path, **parts: Any) -> Path:
    args = argparse.Namespace(drop_path=0.2, head_div=0.1, ind_clf="1-1")
    torch.save({"model": export_dytox(golden_network()), "epoch": 19, "task_id": 2, "args": args} | parts, path)
    return path


def run_of(network: Network, path: Path) -> Path:
    """What a run of ours keeps of its network."""
    part = {"structure": network.structure(), "weights": network.state_dict()}
    files.save_whole(path, {"version": files.VERSION, "network": part, "teacher": None})
    return path


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_an_imported_checkpoint_gives_the_golden_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(published(tmp_path / "p.pth")), str(tmp_path / "new" / "o.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{tmp_path / 'p.pth'}: DyTox, 3 tasks of 3, 2 and 4 classes (epoch 19, task_id 2)",
        "images of 16 x 16 pixels, 3 channels, patches of 4, width 24, 4 heads, 2 blocks, MLP ratio 4",
        f"{sum(p.numel() for p in golden_network().parameters()):,} parameters, 173 of them in the divergence head",
        "not in the weights: drop_path=0.2 (from the arguments), locality_strength=1 (the published default)",
        f"wrote {tmp_path / 'new' / 'o.pt'}: weights and the network's description; "
        "it is not a run that can be gone on with",
    ]
    payload = torch.load(tmp_path / "new" / "o.pt", weights_only=True)
    assert payload["version"] == IMPORTED
    network = state.restore_network(payload["network"])
    golden = VectorFile(GOLDEN / "dytox_small.npz")
    with torch.no_grad():
        scores = network.logits(network(golden.images))
    torch.testing.assert_close(scores, golden["task2/logits"], atol=1e-5, rtol=0)
    assert network.structure()["encoder"]["drop_path"] == 0.2
    with pytest.raises(ValueError, match="weights-1"):  # nothing takes it for a run
        files.load_checkpoint(tmp_path / "new" / "o.pt")
    assert not list(tmp_path.rglob("*.part"))


def test_there_and_back_again(tmp_path: Path) -> None:
    there, back = tmp_path / "o.pt", tmp_path / "back.pth"
    torch.save(export_dytox(golden_network(0)), tmp_path / "bare.pth")
    for source in (published(tmp_path / "p.pth"), tmp_path / "bare.pth"):
        assert main(["import", str(source), str(there)]) == 0
        assert main(["export", str(there), str(back)]) == 0
        content = torch.load(back, weights_only=True)
        assert list(content) == ["model"]
        original = torch.load(source, weights_only=False)
        assert equal(content["model"], original.get("model", original))
        there.unlink()
        back.unlink()


def test_the_last_task_of_a_run_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task in (0, 1, 2):
        run_of(golden_network(task), tmp_path / "run" / "checkpoints" / f"task_{task:03d}.pt")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "p.pth")]) == 0
    assert "task_002.pt: DyTox, 3 tasks of 3, 2 and 4 classes" in capsys.readouterr().out
    assert equal(torch.load(tmp_path / "p.pth", weights_only=True)["model"], export_dytox(golden_network()))
    first = tmp_path / "run" / "checkpoints" / "task_000.pt"
    assert main(["export", str(first), str(tmp_path / "first.pth")]) == 0
    assert "1 task of 3 classes" in capsys.readouterr().out


def resnet() -> Network:
    backbone = {"kind": "cifar_resnet", "depth": 8, "channels": 3}
    return build_network({"kind": "embedding_network", "backbone": backbone, "bias": True, "classes": [2]}, Key(0))


def test_wrong_input_is_one_line_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, ours = published(tmp_path / "p.pth"), run_of(golden_network(), tmp_path / "task_000.pt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"version": 7, "network": {}}, tmp_path / "old.pt")
    torch.save({"version": files.VERSION, "network": {}}, tmp_path / "damaged.pt")
    torch.save({"model": {"classifier.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save({"model": {}, "args": argparse.Namespace(path=Path("x"))}, tmp_path / "foreign.pth")
    run_of(resnet(), tmp_path / "resnet.pt")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.p*")}
    for direction, source, told in (
        ("import", "no.pth", "does not exist"),
        ("import", "empty", "is a folder"),
        ("import", "text.pt", "not a checkpoint"),
        ("import", "task_000.pt", "type convert.py export"),
        ("import", "other.pth", "classifier.weight has no place"),
        ("import", "foreign.pth", "nothing from it was executed"),
        ("export", "no.pt", "does not exist"),
        ("export", "empty", "holds no checkpoints/task_*.pt"),
        ("export", "text.pt", "not a checkpoint"),
        ("export", "foreign.pth", "argparse.Namespace"),
        ("export", "other.pth", "type convert.py import"),
        ("export", "old.pt", "format 7"),
        ("export", "damaged.pt", "is damaged"),
        ("export", "resnet.pt", "embedding_network"),
    ):
        assert main([direction, str(tmp_path / source), str(tmp_path / "out.pt")]) == 2, source
        out, err = capsys.readouterr()
        assert told in err, err
        assert (out, err.count("\n")) == ("", 1), err
        assert not (tmp_path / "out.pt").exists()
    for direction, source in (("import", theirs), ("export", ours)):
        assert main([direction, str(source), str(tmp_path / "text.pt")]) == 2
        assert "exists and is not written over" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.glob("*.p*")} == before


@pytest.mark.slow
def test_it_runs_as_a_script(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "convert.py"), "import", "p.pth", "o.pt"]
    published(tmp_path / "p.pth")
    (tmp_path / "o.pt").touch()
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "o.pt exists and is not written over: type another name\n"
