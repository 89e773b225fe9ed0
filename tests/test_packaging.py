"""What is shipped and how it is checked: the lock, the wheel, the Makefile, the directions of imports, the network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import check_tests

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("build", "dev", "run")


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Distribution -> (version, hashes) of ``requirements/<name>.txt``."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    entries = " ".join(line.removesuffix("\\") for line in lines if not line.startswith("#"))
    found: dict[str, tuple[str, list[str]]] = {}
    current = ""
    for word in entries.split():
        if "==" in word and not word.startswith(("'", "--")) and word[0].isalnum():
            current, _, version = word.partition("==")
            assert current not in found, f"{current} is locked twice"
            found[current] = (version, [])
        elif word.startswith("--hash="):
            found[current][1].append(word.removeprefix("--hash="))
    return found


# ---- the lock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_requirement_has_hashes(name: str) -> None:
    entries = locked(name)
    assert len(entries) >= 5
    for distribution, (version, hashes) in entries.items():
        assert version, distribution
        assert hashes, distribution
        assert all(digest.startswith("sha256:") and len(digest) == 71 for digest in hashes), distribution


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index_and_no_address(name: str) -> None:
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        assert "://" not in line
        assert " @ " not in line
        assert line.startswith(("#", "    --hash=sha256:")) or line[0].isalnum(), line


def test_running_and_developing_use_the_same_versions() -> None:
    everything = locked("dev")
    for name in ("run", "build"):
        for distribution, pin in locked(name).items():
            if name == "run" or distribution in everything:
                assert everything[distribution] == pin


def test_the_lock_satisfies_the_project() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    taken = [group for name, group in extras.items() if name == "dev" or f"cl-lightning[{name}]" in extras["dev"]]
    groups = [*taken, PROJECT["project"]["dependencies"]]
    dev, run = locked("dev"), locked("run")
    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name == PROJECT["project"]["name"]:
            continue  # dev takes another extra along
        version, _ = dev[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} against {version}: type make lock"
    for text in PROJECT["project"]["dependencies"]:
        assert canonicalize_name(Requirement(text).name) in run, f"{text} is not locked: type make lock"


def test_linters_that_continuum_asks_for_stay_out() -> None:
    assert not {"prospector", "pylint", "pytest-mock"} & set(locked("dev"))


# ---- what is shipped -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = out.glob("cl_lightning-*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_carries_every_configuration_and_data_file(wheel: zipfile.ZipFile) -> None:
    shipped = set(wheel.namelist())
    configurations = list((ROOT / "conf").rglob("*.yaml"))
    assert configurations
    for path in configurations:
        name = f"cl_lightning/conf/{path.relative_to(ROOT / 'conf').as_posix()}"
        assert wheel.read(name) == path.read_bytes()
    assert "cl_lightning/data/scenarios/class_orders.yaml" in shipped
    templates = list((ROOT / "cl_lightning/report/template").iterdir())
    assert templates
    for path in [*templates, *(ROOT / "cl_lightning").rglob("*.py")]:
        assert path.relative_to(ROOT).as_posix() in shipped


def test_the_wheel_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    for name in wheel.namelist():
        assert name.startswith(("cl_lightning/", "cl_lightning-"))
        assert Path(name).suffix not in {".pyc", ".pt", ".ckpt", ".npz"}


def test_both_commands_start_the_program(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert wheel.read(name).decode().split("\n")[1:3] == [
        "cl-lightning = cl_lightning.__main__:main",
        "cl_lightning = cl_lightning.__main__:main",
    ]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert all(reference["title"] and reference["authors"] for reference in citation["references"])


# ---- make ------------------------------------------------------------------------------------------------------------


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_make_lists_every_target_with_what_it_does() -> None:
    targets = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    listed = {words[1]: words[2:] for words in (line.split() for line in make().stdout.splitlines())}
    assert set(listed) == set(targets.split()[1:])
    assert all(listed.values())


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_setup_refuses_other_pythons_in_one_line(tmp_path: Path, version: tuple[int, int]) -> None:
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = {version}; $2"\n')
    other.chmod(0o755)
    result = make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON=no-such-python {other}")
    assert result.returncode != 0
    message, *rest = result.stderr.splitlines()
    assert message.startswith("no Python 3.11, 3.12 or 3.13 with venv among 'no-such-python ")
    assert ": type make setup PYTHON=" in message
    assert all(line.startswith("make: ***") for line in rest)
    assert not (tmp_path / "venv").exists()


def test_a_second_setup_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/false")  # would fail if it were called
    (tmp_path / ".ready").touch()
    result = make("setup", f"VENV={tmp_path}")
    assert (result.returncode, result.stdout) == (0, f"{tmp_path} is ready\n")


# ---- directions of imports -------------------------------------------------------------------------------------------


def check_imports(package: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "check_imports.py"), str(package)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "code", "library"),
    [
        ("methods/dytox.py", "import pytorch_lightning as pl", "pytorch_lightning"),
        ("data/scenario.py", "from pytorch_lightning.callbacks import Callback", "pytorch_lightning"),
        ("learning/lightning_module.py", "import lightning.pytorch as pl", "lightning"),
        ("build.py", "from hydra.utils import instantiate", "hydra"),
        ("learning/trainer.py", "def f():\n    import wandb", "wandb"),
        ("learning/strategy.py", "import omegaconf", "omegaconf"),
        ("config/compose.py", "from hydra._internal.utils import get_args_parser, run_and_report", "hydra._internal"),
        ("config/compose.py", "from hydra import _internal", "hydra._internal"),
        ("__main__.py", "from hydra.core.plugins import Plugins", "hydra.core"),
        ("config/literal.py", "from omegaconf import grammar_parser", "omegaconf.grammar_parser"),
        ("memory/rehearsal.py", "import importlib\nimportlib.import_module('continuum.rehearsal')", "continuum"),
        ("metrics/accuracy.py", "import torch, continuum", "continuum"),
    ],
)
def test_a_library_outside_its_rooms_is_found(tmp_path: Path, file: str, code: str, library: str) -> None:
    place = tmp_path / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(code)
    result = check_imports(tmp_path)
    assert result.returncode == 1
    assert result.stdout.startswith(f"{place}:{len(code.splitlines())}: imports {library}, ")


def test_a_library_in_its_rooms_is_fine(tmp_path: Path) -> None:
    rooms = {
        "__main__.py": "import hydra, omegaconf",
        "config/hydra_internals.py": "import hydra._internal.utils\nfrom omegaconf import grammar_parser",
        "config/multirun.py": "from hydra.core.utils import JobReturn\nfrom hydra.core import hydra_config",
        "config/schema/extra.py": "from hydra.core.config_store import ConfigStore\nfrom omegaconf import MISSING",
        "data/sources/datasets.py": "def fetch():\n    import continuum.datasets",
        "data/datamodule.py": "import pytorch_lightning",
        "learning/loggers.py": "import wandb",
        "learning/strategy.py": "from hydra.core.hydra_config import HydraConfig\nimport lightning_fabric",
        "distributed/process_group.py": "import lightning_fabric",
        "losses/terms.py": "from cl_lightning.data import module\nimport wandbox, hydralisk",
    }
    for file, code in rooms.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(code)
    result = check_imports(tmp_path)
    assert (result.returncode, result.stdout) == (0, "Every library stays in its rooms.\n")


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("losses/extra.py", "from cl_lightning import models"),
        ("core/types.py", "import cl_lightning.data"),
        ("models/extra.py", "def f():\n    from cl_lightning.methods import base"),
        ("learning/extra.py", "import cl_lightning.factory.methods"),
        ("methods/extra.py", "from cl_lightning import memory"),
        ("data/extra.py", "import cl_lightning.report"),
        ("report/extra.py", "from cl_lightning import models"),
    ],
)
def test_an_import_against_the_arrows_is_found(tmp_path: Path, file: str, code: str) -> None:
    shutil.copytree(ROOT / "cl_lightning", tmp_path / "cl_lightning", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    with (tmp_path / "cl_lightning" / file).open("a") as module:
        module.write(f"\n{code}\n")
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"cl_lightning.{file.removesuffix('.py').replace('/', '.')}" in result.stdout


# ---- what tests may use ----------------------------------------------------------------------------------------------


def test_no_test_uses_a_private_name_of_what_it_tests() -> None:
    assert check_tests.violations(ROOT / "tests") == []


# ---- the network -----------------------------------------------------------------------------------------------------


def test_tests_cannot_reach_the_network() -> None:
    with pytest.raises(RuntimeError, match="tests need no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)  # an address kept for documentation
    with pytest.raises(RuntimeError, match="tests need no network"):
        socket.getaddrinfo("example.invalid", 80)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagrams, pytest.raises(RuntimeError, match="tests need no network"):
        datagrams.sendto(b"", ("192.0.2.1", 9))


def test_tests_can_reach_this_machine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
