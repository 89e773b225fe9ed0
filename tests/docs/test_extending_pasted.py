"""Code that the guide prints, pasted into a copy of the checkout: the new method and the new data set are whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.pages import ROOT, blocks

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
PAGE = (ROOT / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
COPIED = ("cl_lightning", "conf", "tests", "scripts", "docs", "pyproject.toml", "README.md", "Makefile", "CHANGELOG.md")


def printed(text: str, language: str = "python") -> str:
    (found,) = [block for block in blocks(PAGE, language) if text in block]
    return found


def insert(file: Path, before: str, added: str) -> None:
    """Put text in front of another, which is in the file once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, (file, before, text.count(before))
    file.write_text(text.replace(before, added + before), encoding="utf-8")


def append(file: Path, added: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f"\n\n{added}")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with LFL and the data set ``npz``, as the page says to add them."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", "*.npz", "*.gz")
        shutil.copytree(source, copy / name, ignore=ignore) if source.is_dir() else shutil.copy(source, copy / name)
    add_method(copy)
    add_data(copy)
    return copy


def add_method(copy: Path) -> None:
    package, schema = copy / "cl_lightning", copy / "cl_lightning" / "config" / "schema"
    (package / "methods" / "lfl.py").write_text(printed("class LFL(Method)"))
    (package / "losses" / "features.py").write_text(printed("def feature_distance"))
    (copy / "conf" / "method" / "lfl.yaml").write_text(printed("name: lfl", "yaml"))
    (copy / "tests" / "methods" / "test_lfl.py").write_text(printed("def test_the_squared_distance"))
    append(schema / "method.py", printed("class LFLConfig"))
    insert(schema / "__init__.py", "    LwFConfig,\n", "    LFLConfig,\n")
    insert(schema / "__init__.py", '    "LoggerConfig",\n', '    "LFLConfig",\n')
    insert(package / "config" / "registry.py", "    LwFConfig,\n", "    LFLConfig,\n")
    insert(package / "config" / "registry.py", '        "ucir": ', printed('"lfl": LFLConfig'))
    convolutional = package / "factory" / "convolutional.py"
    insert(convolutional, "    LwFConfig,\n", "    LFLConfig,\n")
    insert(convolutional, "lwf, podnet", "lfl, ")
    append(convolutional, printed("def build_lfl"))
    methods = package / "factory" / "methods.py"
    insert(methods, "    LwFConfig,\n", "    LFLConfig,\n")
    insert(methods, "    build_lwf,\n", "    build_lfl,\n")
    insert(methods, "    LwFConfig: build_lwf,\n", printed("LFLConfig: build_lfl"))
    insert(copy / "scripts" / "fingerprint" / "settings.py", '"lwf", "icarl"', '"lfl", ')


def add_data(copy: Path) -> None:
    datasets = copy / "cl_lightning" / "data" / "sources" / "datasets.py"
    (copy / "conf" / "data" / "npz.yaml").write_text(printed("name: npz", "yaml"))
    insert(datasets, "def _cifar100(", printed("def _npz") + "\n\n")
    text = datasets.read_text(encoding="utf-8")
    text = re.sub(r"^ARRAY_CHANNELS = .*\n", printed("ARRAY_CHANNELS"), text, flags=re.MULTILINE)
    text = text.replace("import tempfile\n", "import tempfile\nimport zipfile\nimport zlib\n")
    text = text.replace("import NOT_GIVEN, ", "import NOT_GIVEN, InvalidFileError, ")
    datasets.write_text(text, encoding="utf-8")
    insert(datasets, '    "digits": _digits,\n', printed('"npz": _npz'))
    insert(copy / "tests" / "test_configs.py", '    "data=sequence": [', printed('"data=npz"'))
    conditions = copy / "cl_lightning" / "config" / "unused" / "conditions.py"
    insert(conditions, '"cifar100")\n', '"npz", ')


def ran(checkout: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=checkout, env=environment, capture_output=True, text=True
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


def test_the_method_holds_what_all_methods_promise(checkout: Path) -> None:
    which = "lfl or every_option_is_in or each_option_of or has_bounds or every_method_is_run"
    tests = ["methods", "test_configs.py", "config", "scripts/test_fingerprint.py"]
    told = ran(checkout, "pytest", "-v", "-p", "no:cacheprovider", "-k", which, *[f"tests/{name}" for name in tests])
    contract = "test_contract.py::test_scores_do_not_depend_on_the_rest_of_the_batch[lfl] PASSED"
    assert contract in told
    assert "test_lfl.py::test_the_squared_distance_to_the_features_before_growth_counts PASSED" in told
    assert "test_configs.py::test_every_option_composes_and_is_accepted[method-lfl] PASSED" in told


def test_it_trains_on_arrays_of_a_file(checkout: Path, tmp_path: Path) -> None:
    labels = np.arange(40) % 4
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    file = tmp_path / "a.npz"
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    run = ["cl_lightning", "method=lfl", "model=resnet8", "data=npz", "data.increment=2", "data.image_size=8"]
    ran(checkout, *run, f"data.root={file}", "method.main.epochs=1", f"run_dir={tmp_path / 'run'}", "report.page=false")
    assert (tmp_path / "run" / "results.json").is_file()
