"""Bundles that are damaged, or made by somebody with right checksums: each refused in a line, nothing left behind."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cl_lightning.bundle.__main__ import main as bundle
from scripts.soak.bundles import damage, packed, unpacked
from tests.integration.commands import typed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = ["epochs_scale=0.004", "trainer.progress=none", "logger=none", "report.page=false", "data.classes=4"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bundles")
    method = ["method=icarl", "model=resnet8", "evaluate_phases=true", "memory.size=20"]
    assert typed(*TINY, *method, "data.increment=2", f"run_dir={folder}/run") == 0
    assert bundle(["export", f"{folder}/run", f"{folder}/b"]) == 0
    return (folder / "b").read_bytes()


def refused(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (folder / "b").write_bytes(content)
    capsys.readouterr()
    assert bundle(["import", f"{folder}/b", f"{folder}/out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder}/b is refused: " in line
    assert len(line) < 500
    assert [path.name for path in folder.iterdir()] == ["b"]
    return line


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("decade", range(6))
def test_each_of_many_is_refused(decade: int, whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(10 * decade, 10 * decade + 10):
        name, content = damage(random.Random(seed), whole)
        print(seed, name)
        refused(content, tmp_path, capsys)


def test_what_was_only_packed_anew_is_taken(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(packed(unpacked(whole)))
    assert bundle(["import", f"{tmp_path}/b", f"{tmp_path}/out"]) == 0
    assert (tmp_path / "out" / "results.json").is_file()


@pytest.mark.slow
def test_asserts_that_are_left_out_let_nothing_in(whole: bytes, tmp_path: Path) -> None:
    """``python -O``, over the same damages."""
    (tmp_path / "b").write_bytes(whole)
    program = f"""
import random, sys, warnings
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from cl_lightning.bundle.__main__ import main
from scripts.soak.bundles import damage
warnings.simplefilter("ignore")
folder = Path({str(tmp_path)!r})
whole = (folder / "b").read_bytes()
if __debug__:
    raise SystemExit("not optimised")
for seed in range(40):
    (folder / "b").write_bytes(damage(random.Random(seed), whole)[1])
    if main(["import", str(folder / "b"), str(folder / "out")]) != 2:
        raise SystemExit(f"seed {{seed}} was accepted")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-O", "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stderr.splitlines()) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def relabelled(whole: bytes, *, state: str | None, results: str | None) -> bytes:
    """The same bundle with other labels of what its method is; None takes one away, as of an earlier version."""
    files = unpacked(whole)
    written = (("state.json", '["origin", "{}"], ', state), ("results.json", '"origin": "{}",', results))
    for name, entry, label in written:
        old = entry.format("published recipe").encode()
        assert files[name].count(old) == 1
        files[name] = files[name].replace(old, b"" if label is None else entry.format(label).encode())
    return packed(files)


def test_a_label_is_that_of_the_configuration(whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = "published recipe"
    told = refused(relabelled(whole, state="reference", results="reference"), tmp_path, capsys)
    assert "its state is of a run with another origin than its config.yaml" in told
    told = refused(relabelled(whole, state=known, results="published"), tmp_path, capsys)
    assert "its results.json has another 'origin' than its state" in told
    told = refused(relabelled(whole, state=known, results="best"), tmp_path, capsys)
    assert "origin is 'best', not published or" in told


@pytest.mark.parametrize("results", [None, "published recipe"])
def test_a_bundle_from_before_there_were_labels_is_taken(whole: bytes, results: str | None, tmp_path: Path) -> None:
    files = unpacked(relabelled(whole, state=None, results=results))
    files["config.yaml"] = files["config.yaml"].replace(b"  origin: published recipe\n", b"")
    assert files["config.yaml"] != unpacked(whole)["config.yaml"]
    (tmp_path / "b").write_bytes(packed(files))
    assert bundle(["import", f"{tmp_path}/b", f"{tmp_path}/out"]) == 0
