"""What is exported computes what the model does, and is not there if it does not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core.cli import carried_out
from cl_lightning.core.errors import UserError
from cl_lightning.deploy import formats
from cl_lightning.deploy.exported import load_exported
from cl_lightning.deploy.verification import Comparison, compare, sample
from cl_lightning.export import FORMAT_NAMES, main
from cl_lightning.predict import main as predict
from tests.config.made import data_of
from tests.deploy.conftest import Run, daformer, der, dytox, icarl, runs_are_read_once
from tests.deploy.runs import live_scores, pictures, save_pictures

Captured = pytest.CaptureFixture[str]


__all__ = ["daformer", "der", "dytox", "icarl", "runs_are_read_once"]  # fixtures that work by being here
pytestmark = pytest.mark.usefixtures("runs_are_read_once")


def export(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_what_can_be_typed_is_what_can_be_written() -> None:
    assert tuple(formats.FORMATS) == FORMAT_NAMES


def test_the_model_comes_back_from_two_files_alone(icarl: Run, tmp_path: Path, capsys: Captured) -> None:
    assert export(icarl.folder, "--out", tmp_path / "out", "--formats", "safetensors") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.json", "model.safetensors"]
    told = capsys.readouterr().err
    assert "compared on 64 images of digits/test, in batches of 1, 7 and all" in told
    assert "largest difference of a score 0.0e+00" in told or "e-0" in told
    images = pictures(9)
    model = load_exported(tmp_path / "out")
    assert list(model.readouts) == ["nme", "linear"]
    for readout in model.readouts:
        torch.testing.assert_close(model.scores(images, readout), live_scores(icarl.method, images, readout))
    for name in ("class_names", "task_sizes", "preprocessing", "protocol", "stage"):
        assert getattr(model, name) == getattr(icarl.model, name)
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert description["files"]["model.safetensors"]["largest_difference"] <= 1e-5
    assert str(tmp_path) not in json.dumps(description), "paths of this machine are nobody's business"


def test_an_export_predicts_like_its_run(icarl: Run, tmp_path: Path, capsys: Captured) -> None:
    save_pictures(tmp_path / "images", pictures(4))
    assert export(icarl.folder, "--out", tmp_path / "out", "--formats", "safetensors") == 0
    capsys.readouterr()
    tables = []
    for model in (icarl.folder, tmp_path / "out"):
        assert predict([str(model), str(tmp_path / "images"), "--format", "csv"]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_a_program_is_read_by_torch_alone(dytox: Run, tmp_path: Path, capsys: Captured) -> None:
    assert export(dytox.folder, "--out", tmp_path, "--formats", "torch_export") == 0
    assert "read-out linear" in capsys.readouterr().err
    file = (tmp_path / "model.pt2").read_bytes()
    assert b"cl_lightning::" not in file, "no operators of ours"
    assert str(Path(formats.__file__).parents[2]).encode() not in file, "no paths of this machine"
    serves_every_batch(torch.export.load(tmp_path / "model.pt2").module(), dytox, "linear")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "readout"), [("icarl", "nme"), ("der", "linear"), ("daformer", "linear")])
def test_every_kind_of_network_and_read_out_is_traced(name: str, readout: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    serves_every_batch(formats.traced(run.model, readout).module(), run, readout)


def serves_every_batch(program: formats.Scores, run: Run, readout: str) -> None:
    for size in (1, 2, 7, 33):
        images = pictures(size)
        found = program(run.model.preprocessing.normalised(images))
        torch.testing.assert_close(found, live_scores(run.method, images, readout), atol=1e-4, rtol=1e-4)


def differing(change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files say something else than the model."""
    read = formats.FORMATS["safetensors"].read

    def reads(*arguments: Any) -> formats.Scores:
        scores = read(*arguments)
        return lambda images: change(scores(images))

    wrong = formats.Format("model.safetensors", formats.FORMATS["safetensors"].write, reads)
    monkeypatch.setitem(formats.FORMATS, "safetensors", wrong)


@pytest.mark.parametrize("change", [lambda s: s + 1e-2, lambda s: s.flip(1), lambda s: s * torch.nan])
def test_a_file_that_is_not_the_model_is_removed(
    change: Callable[[Tensor], Tensor], der: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    differing(change, monkeypatch)
    (tmp_path / "model.json").write_text("of an earlier export")
    assert export(der.folder, "--out", tmp_path, "--formats", "safetensors", "--overwrite") == 1
    assert list(tmp_path.iterdir()) == []
    assert "error: model.safetensors is not the model and was removed" in capsys.readouterr().err


def test_a_network_that_a_format_cannot_carry_is_reported_in_one_line(
    der: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such operator\nand a long story")

    quick = formats.FORMATS["safetensors"]
    monkeypatch.setitem(formats.FORMATS, "torch_export", formats.Format("model.pt2", refuse, quick.read))
    assert export(der.folder, "--out", tmp_path, "--formats", "torch_export", "safetensors") == 1
    line = "error: model.pt2 cannot be made of this network (RuntimeError: no such operator)\n"
    assert line in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_differences_are_judged_by_the_scale_of_scores() -> None:
    assert Comparison(difference=9e-4, scale=10, changed=0).agrees
    assert not Comparison(difference=1.1e-3, scale=10, changed=0).agrees
    assert not Comparison(difference=0, scale=10, changed=1).agrees
    assert not Comparison(difference=torch.nan, scale=10, changed=0).agrees


def test_a_program_of_one_batch_size_is_found(der: Run) -> None:
    model = der.model

    def rigid(images: Tensor) -> Tensor:
        scores = model.predict(images)["linear"]
        return scores if len(images) == 20 else scores + 1

    found = compare(model, "linear", rigid, pictures(20))
    assert found.difference == pytest.approx(1, abs=1e-4)
    assert not found.agrees


def test_images_to_compare_on_are_the_users_else_the_datas_else_random(der: Run, tmp_path: Path) -> None:
    model = der.model
    save_pictures(tmp_path / "images", pictures(100))
    digits = data_of("digits", root="data")
    named = sample(model, digits, [str(tmp_path / "images")])
    assert named.origin == "64 images of --images"
    assert torch.equal(named.images[1], pictures(100)[1])
    assert sample(model, digits, []).origin == "64 images of digits/test"
    assert sample(model, data_of("digits", root="data", validation=0.1), []).origin == "64 images of digits/train"
    folder = data_of("image_folder", root=str(tmp_path))
    assert torch.equal(sample(model, folder, []).images, named.images)
    for elsewhere in (data_of("cifar100_10steps", root=str(tmp_path)), data_of("image_folder", root="nowhere")):
        assert sample(model, elsewhere, []).origin.startswith(
            "64 random images, because the run's data are not at hand"
        )
    (tmp_path / "x.png").touch()
    with pytest.raises(UserError, match="none could be read as an image"):
        sample(model, digits, [str(tmp_path / "x.png")])


def test_a_format_that_cannot_be_made_here_says_what_to_install(
    der: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    onnx = formats.FORMATS["onnx"]
    monkeypatch.setitem(formats.FORMATS, "onnx", formats.Format(onnx.file, onnx.write, onnx.read, ("no_such_package",)))
    quick = formats.FORMATS["safetensors"]
    monkeypatch.setitem(formats.FORMATS, "torch_export", formats.Format("model.pt2", quick.write, quick.read))
    line = 'onnx is left out, it needs no_such_package: type pip install "cl-lightning[onnx]"'
    assert export(der.folder, "--out", tmp_path / "all") == 0
    assert line in capsys.readouterr().err
    assert (tmp_path / "all" / "model.safetensors").is_file()
    assert export(der.folder, "--out", tmp_path / "two", "--formats", "onnx", "safetensors") == 1, "it was asked for"
    assert (tmp_path / "two" / "model.safetensors").is_file()
    assert export(der.folder, "--out", tmp_path / "none", "--formats", "onnx") == 1
    assert not (tmp_path / "none").exists()


def test_onnx_is_asked_for_one_file_with_a_free_batch_and_compared_through_its_runtime(
    der: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packages are not there, so torch's exporter and the runtime are stood in for."""
    asked: dict[str, Any] = {}
    model = der.model

    def stands_in(module: torch.nn.Module, example: tuple[Tensor, ...], file: str, **options: Any) -> None:
        asked.update(options, module=module, example=example)
        Path(file).write_bytes(b"onnx")

    class InferenceSession:
        def __init__(self, file: str, providers: list[str]) -> None:
            assert Path(file).read_bytes() == b"onnx"
            assert providers == ["CPUExecutionProvider"]

        def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
            assert outputs == ["scores"]
            with torch.no_grad():
                return [asked["module"](torch.from_numpy(inputs["images"])).numpy()]

    runtime = ModuleType("onnxruntime")
    runtime.InferenceSession = InferenceSession  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr(torch.onnx, "export", stands_in)
    onnx = formats.FORMATS["onnx"]
    monkeypatch.setitem(formats.FORMATS, "onnx", formats.Format(onnx.file, onnx.write, onnx.read))
    assert export(der.folder, "--out", tmp_path, "--formats", "onnx") == 0
    assert (tmp_path / "model.onnx").read_bytes() == b"onnx"
    assert (asked["dynamo"], asked["external_data"]) == (True, False)
    assert (asked["input_names"], asked["output_names"]) == (["images"], ["scores"])
    assert list(asked["dynamic_shapes"]["images"]) == [0]
    assert asked["example"][0].shape == (2, 1, 8, 8)
    assert json.loads((tmp_path / "model.json").read_text())["graph"]["output"]["shape"] == ["batch", 4]
    assert model.readout(None) == "linear"


def test_an_earlier_export_stays_unless_it_may_be_replaced(der: Run, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "model.onnx").write_bytes(b"of another run")
    assert export(der.folder, "--out", tmp_path, "--formats", "safetensors") == 2
    told = capsys.readouterr().err
    assert told.endswith(
        f"error: --out {tmp_path} holds an export already (model.onnx): type --overwrite, or another folder\n"
    )
    assert (tmp_path / "model.onnx").read_bytes() == b"of another run"
    assert export(der.folder, "--out", tmp_path, "--formats", "safetensors", "--overwrite") == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_files_that_are_not_what_was_written_are_refused(der: Run, tmp_path: Path, capsys: Captured) -> None:
    assert export(der.folder, "--out", tmp_path / "out", "--formats", "safetensors") == 0
    for name, change, told in [
        ("model.safetensors", b"other weights", "is not the file that model.json was written with"),
        ("model.safetensors", None, "has no model.safetensors: export it again"),
        ("model.json", b'{"format": 9}', "has format 9, this program reads format 1"),
        ("model.json", b"{", "is not what was written"),
        ("model.json", None, "is no export, it has no model.json"),
    ]:
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        (tmp_path / "copy" / name).unlink() if change is None else (tmp_path / "copy" / name).write_bytes(change)
        with pytest.raises(UserError, match=told):
            load_exported(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: --out"),
        (["--out", "x", "--formats", "onyx"], "argument --formats: invalid choice: 'onyx'"),
    ],
)
def test_errors_are_one_line(arguments: list[str], told: str, tmp_path: Path, capsys: Captured) -> None:
    assert export(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {told}")
    assert error.count("\n") == 1


def test_a_full_disk_is_reported_in_one_line(capsys: Captured) -> None:
    def full() -> int:
        raise OSError(28, "No space left on device", "model.pt2")

    assert carried_out(full) == 1
    assert capsys.readouterr().err == "error: model.pt2: No space left on device\n"
