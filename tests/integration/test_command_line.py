"""What a user sees for a wrong command: one line, exit code 2, no traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from cl_lightning.__main__ import main
from tests.integration.commands import a_few_and_the_rest

pytestmark = pytest.mark.slow

WRONG = {
    "method=dytx": ["method=dytx", "did you mean method=dytox", "finetune"],
    "method.temprature=2": ["method.temprature", "did you mean method.temperature"],
    "seed=abc": ["seed=abc", "whole number"],
    "data=image_folder": ["data.root", "data.increment"],
    "batch.size=0": ["batch.size=0", "at least 1"],
    "memory.budget=all": ["memory.budget=all", "memory= one of none, per_class, total"],
    "model.dim=64": ["model=auto has no options", "model=convit_tiny"],
    "+method.foo=3": ["method.foo", "leave out"],
    "trainer.devices=2": ["trainer.devices=2", "trainer.devices=1"],
    "experiment=ablation_none method.finetuning.lr=1": ["method.finetuning.lr=1", "method.finetuning is null"],
    "experiment=ablation_none method.finetuning={lr:1}": ["method.finetuning={lr:1}", "method.finetuning is null"],
    "data=sequence": ["data.sets=[]", "cifar100"],
    "data=sequence data.sets=[{nmae:digits}]": ["nmae is not an option of an entry", "did you mean name"],
    "data=sequence data.sets=[{name:digits}] data.increment=2": ["data.increment=2 has no meaning for data=sequence"],
    "data.sets=[{name:digits}]": ["data.sets has no meaning for data=digits"],
    "method.sam.rho=-3": ["method.sam.rho=-3", "at least 0"],
    "method=daformer_m method.neighbours.form=near": ["method.neighbours.form=near", "similarity"],
    "method=[": ["method=[", "cannot be read"],
    "model=convit_tiny model.mlp_ratio=0": ["model.mlp_ratio=0"],
    "model=timm model.patch_size=0": ["model.patch_size=0"],
    "method.main.momentum=-1": ["method.main.momentum=-1"],
    "method=der method.temperature=0": ["method.temperature=0"],
    "trainer.threads=0": ["trainer.threads=0"],
    "epochs_scale=nan": ["epochs_scale=nan"],
    "run_dir=": ["run_dir= names no folder", "run_dir=DIR"],
    "method=null": ["method=null", "type method=bic or classifier_only or daformer_m"],
    "memory=null": ["type memory=none or per_class or total"],
    "-m seed=0,1 --cfg job": ["--cfg prints one configuration", "leave out -m"],
    "model=resnet32": ["model=resnet32", "model=convit_tiny"],
    "seed=0,1": ["seed=0,1 are several values: type -m as well for a run of each\n"],
    "data.increment=4,6": ["type -m as well for a run of each, or 'data.increment=[4,6]' for one list"],
    "data.root=${x}": ["data.root=${x} cannot be filled in", "'x' not found", "'data.root=\\${x}' for a folder"],
    "hydra.run.dir=${x}": ["hydra.run.dir=${x} cannot be filled in"],
    "hydra.run.dir=file/run": ["file/run cannot be written (Not a directory): type hydra.run.dir=DIR"],
    "-m seed=0,1 hydra.sweep.dir=file/sweep": ["file/sweep cannot be written", "type hydra.sweep.dir=DIR"],
    "data=sequence data.sets=[{name:image_folder,root:ü}]": ["cannot be read", '{name: image_folder, root: "DIR"}'],
    "model=convit_tiny model.patch_size=3": ["type model.patch_size=2 or model.patch_size=4\n"],
    "experiment=ablation_none model.dmi=3": ["model.dmi is not an option (did you mean model.dim?): model has depth"],
    "seed=null": ["seed=null is not possible", "type seed=VALUE"],
    "data.on_broken=[a]": ["data.on_broken=[a] is not possible", "one word"],
    "method.finetuning=none": ["type method.finetuning.KEY=VALUE with one of decay_vectors, epochs", "=null for none"],
    "method.main=[1]": ["method.main=[1] is not possible", "method.main.KEY=VALUE"],
    "--cfg job --resolve": ["--resolve asks for a run_dir", "type run_dir=DIR"],
    "--muti seed=0,1": ["--muti does not exist", "--multirun"],
    "data.root=DIR data.increment=2": [
        "data.root=DIR is read by nobody here (the default data, digits, have no folder)",
        "type data=image_folder",
    ],
    "~seed": ["~seed is not possible, every option has a value: type seed=VALUE"],
    "~debug=[inf,1]": ["~debug=[inf,1] takes away what is not there: type ~debug alone"],
    "++extends.run=x": ["extends is written by learn=, not typed"],
    "model=int(1)": ["model=int(1) does not exist: type model= one of alexnet, alexnet_tiny, auto, conv_vit_cifar"],
    "+debug=[[1]]": ["+debug=[[1]] does not exist: type debug= one of one_task, smoke"],
    "experiment=[null]": ["experiment=[null] does not exist"],
    "+method=[{name:digits}]": ["+method=[{name:digits}] are several, but a run has one"],
    "data.mean.x=1": ["data.mean.x=1 is none of the entries of data.mean: type 'data.mean=[...]'"],
    "++data.sets.increment=2": ["none of the entries of data.sets: type data.sets.0.increment=2"],
    "+seed=1": ["An item is already at 'seed'. Either remove + prefix: 'seed=1'"],
    "hydra/job_logging=1e400": ["hydra/job_logging=1e400 names no option"],
    "hydra.verbose=1.5": ["type hydra.verbose=true"],
    "-m hydra.sweeper=2": ["hydra.sweeper=2 is not possible: type hydra/sweeper=NAME"],
    "hydra.overrides.task=[nan]": ["filled in by Hydra, not typed"],
    "method.main.milestones=${seed}": ["method.main.milestones=0 is not a list"],
    "method={name:wa}": ["method={name:wa} is not possible, the choice brings method.name: type method=wa"],
    f"trainer.threads={'1' * 5000}": ["has a number that is too long: type trainer.threads=N with fewer digits"],
    "-m method=joint,meat memory.size=20": ["memory.size=20 is read by none of the jobs", "such as method=dytox"],
}
"""Seen in the configuration alone."""

WRONG_WITH_DATA = {
    "data=sequence data.sets=[{name:digits},{name:digits}]": ["class 0 of digits in entries 1 and 2"],
    "data=sequence data.sets=[{name:aircraft,root:missing}]": ["entry 1 (aircraft)", "fgvc-aircraft-2013b"],
    "data.increment=3": ["data.increment=3", "data.increment=1, 2, 5"],
    "data.increment=2.5": ["data.increment=2.5"],
    "data.increment=[2,x]": ["data.increment"],
    "data.std=[0]": ["data.std=[0"],
    "trainer.stop_after_task=9": ["trainer.stop_after_task=9", "0 to 4"],
    "data.initial=12": ["12", "10 classes"],
    "data.order=[0,1,2,3,3,5,6,7,8,9]": ["data.order", "3", "4"],
    "memory.size=7": ["memory.size=7", "memory.size=10"],
    "data.image_size=16": ["data.image_size=16", "type data.image_size=8\n"],
    "recipe=erratum_2022_06 memory=none data.increment=1": ["would take no step", "recipe=clean"],
    "data=image_folder data.root=missing data.increment=2": ["/missing does not exist"],
    "run_dir=file/run": ["file/run cannot be written (Not a directory): type run_dir=DIR"],
    "data.order=4": ["data.order=4", "identity", "seed:"],
    "model=timm model.name=swin_tiny_patch4_window7_224": ["model.name=swin_tiny", "vit_tiny_patch16_224"],
    "method=icarl memory=none": ["memory=total"],
    "data.on_broken=ignore": ["data.on_broken=ignore", "data.on_broken=skip"],
    "if_exists=overwrite": ["if_exists=overwrite", "if_exists=resume"],
    "trainer.devices=3 batch.replicas=2": ["trainer.devices=3 does not divide batch.replicas=2", "batch.replicas=3"],
    "trainer.strategy=ddp_spawn": ["trainer.strategy=ddp_spawn is refused", "memory and its counts", "ddp"],
    "trainer.strategy=fsdp": ["trainer.strategy=fsdp is refused", "unwrap", "trainer.strategy=ddp"],
    "trainer.precision=16-mixed trainer=cpu": ["16-mixed needs a GPU", "trainer.precision=bf16-mixed"],
    "method=meat method.backbone_file=nix model=vit_tiny": ["/nix is no file", "FILE.safetensors"],
    "trainer.checkpoint_steps=0": ["trainer.checkpoint_steps=0", "at least 1"],
}
"""Seen when the data are there, before anything is trained."""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return tmp_path


def complaint(arguments: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that the program prints for wrong arguments."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["cl_lightning", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capfd.readouterr().err
    assert ended.value.code == 2, told
    lines = [line for line in told.splitlines() if line.strip()]
    assert len(lines) == 1, told
    return lines[0]


@pytest.mark.parametrize("arguments", a_few_and_the_rest(WRONG | WRONG_WITH_DATA))
def test_errors_are_one_line(
    arguments: str, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (in_folder / "file").touch()
    line = complaint(arguments, monkeypatch, capfd) + "\n"
    for fragment in (WRONG | WRONG_WITH_DATA)[arguments]:
        assert fragment in line


def test_a_folder_that_holds_a_run_is_not_written_over(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (in_folder / "run").mkdir()
    (in_folder / "run" / "results.json").write_text("{}")
    assert "holds a run already" in complaint("run_dir=run", monkeypatch, capfd)
    assert (in_folder / "run" / "results.json").read_text() == "{}"
    told = complaint("run_dir=run/results.json", monkeypatch, capfd)
    assert told.endswith("is a file: type run_dir=DIR with another name")


@pytest.mark.slow
def test_jobs_of_a_multirun_do_not_share_a_folder(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["cl_lightning", "-m", "seed=0,1", "run_dir=one"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "hydra.sweep.dir=DIR" in capfd.readouterr().err
    assert not (in_folder / "one").exists()


@pytest.mark.parametrize("typed", ["hydra.run.dir=runs/0", "-m hydra.sweep.dir=runs", "run_dir=runs"])
def test_a_disk_that_is_full_before_anything_began_is_one_line(
    typed: str, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    line = complaint(typed, monkeypatch, capfd)
    key = "hydra.sweep.dir" if "sweep" in typed else "run_dir"
    assert f".hydra/config.yaml cannot be written ({os.strerror(errno.ENOSPC)}): type {key}=DIR, a folder" in line
    assert not list((in_folder / "runs").glob("*/*")), "nothing began"


def test_what_hydra_writes_for_a_multirun_is_no_link(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (in_folder / "mine").write_text("mine")
    (in_folder / "runs").mkdir()
    (in_folder / "runs" / "multirun.yaml").symlink_to(in_folder / "mine")
    line = complaint("-m hydra.sweep.dir=runs seed=0,1", monkeypatch, capfd)
    assert (
        "runs/multirun.yaml is a link, and nothing is written through links: delete it, or type hydra.sweep.dir" in line
    )
    assert (in_folder / "mine").read_text() == "mine"


def test_an_error_of_ours_is_not_taken_for_a_full_disk(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "not Hydra's")

    monkeypatch.setattr("cl_lightning.__main__.typed", broken)
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["cl_lightning"])
    with pytest.raises(OSError, match="not Hydra's"):
        main()


def test_a_working_directory_that_was_removed_is_one_line(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (in_folder / "gone").mkdir()
    monkeypatch.chdir(in_folder / "gone")
    (in_folder / "gone").rmdir()
    assert "the working directory is no longer there: type cd" in complaint("seed=1", monkeypatch, capfd)
    monkeypatch.chdir(in_folder)


def test_a_picture_that_cannot_be_read_is_named(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name in "ab":
        for index in range(10):
            (in_folder / "pictures" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (index, 2 * index, 3)).save(in_folder / "pictures" / name / f"{index}.png")
    (in_folder / "pictures" / "b" / "3.png").write_bytes(b"no picture")
    small = "data.root=pictures data.increment=2 data.image_size=8 model=convit_tiny model.patch_size=4 memory.size=4"
    line = complaint(f"data=image_folder {small} debug=smoke trainer.progress=none", monkeypatch, capfd)
    assert "b/3.png" in line


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.slow
def test_a_process_ends_with_code_2_and_without_a_traceback(tmp_path: Path) -> None:
    for start in (
        [sys.executable, "-m", "cl_lightning"],
        [sys.executable, "-c", "from cl_lightning.__main__ import main; main()"],
    ):
        done = run([*start, "method=dytx"], tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert not done.stdout


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """Typed is ``python -m cl_lightning --help | head -1``."""
    line = [sys.executable, "-u", "-m", "cl_lightning", "--help"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
    assert (process.returncode, told) == (0, b"")


@pytest.mark.slow
def test_help_names_the_choices_and_the_options(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "cl_lightning", "--help"], tmp_path)
    assert done.returncode == 0
    for fragment in ("data=cifar100_10steps", "dytox_plusplus", "erratum_2022_06", "epochs_scale"):
        assert fragment in done.stdout


@pytest.mark.slow
def test_the_configuration_can_be_printed(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "cl_lightning", "method=wa", "--cfg", "job"], tmp_path)
    assert done.returncode == 0
    assert "name: wa" in done.stdout
    assert not list(tmp_path.iterdir()), "printing a configuration must write nothing"


def test_no_empty_folders_are_left(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "epochs=0" in complaint("method.main.epochs=0", monkeypatch, capfd)
    assert list(in_folder.iterdir()) == [], "Hydra had made outputs/dytox_digits/TIME"
    (in_folder / "outputs" / "kept").mkdir(parents=True)
    assert "epochs=0" in complaint("method.main.epochs=0", monkeypatch, capfd)
    assert [path.name for path in (in_folder / "outputs").iterdir()] == ["kept"]
