"""The rule that no test uses a private name of what it tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_tests import violations


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("from cl_lightning.run.job import _left, attempt", "imports cl_lightning.run.job._left"),
        ("import scripts.soak._pairs", "imports scripts.soak._pairs"),
        ("launcher._judge(ranks)", "uses launcher._judge"),
        ("made(1)._options.size = 3", "uses made(1)._options"),
        ("monkeypatch.setattr(launcher, '_POLL', 0)", "names _POLL"),
        (
            "monkeypatch.setattr('cl_lightning.distributed.launcher._POLL', 0)",
            "names cl_lightning.distributed.launcher._POLL",
        ),
        ("patch.object(Learner, '_freeze')", "names _freeze"),
        ("program = 'import launcher as l; l._POLL = 0'", "names l._POLL"),
        ("class Quiet(Learner):\n    def test(self):\n        return self._freeze()", "uses self._freeze"),
    ],
)
def test_a_private_name_of_another_is_named(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(text)
    (line,) = violations(tmp_path)
    assert line == f"{tmp_path}/test_it.py:{len(text.splitlines())}: {told}, which is private"


@pytest.mark.parametrize(
    "text",
    [
        "def _made(): ...\n_made()",
        "class Fake:\n    _kept = 0\n    def __init__(self): self._seen = 0\n    def _go(self): ...\n"
        "Fake()._go()\nFake()._seen == Fake._kept",
        "point._replace(x=1)\nos._exit(0)\nsetattr(Image, '_initialized', 0)",
        "import torch._dynamo\nfrom hydra._internal.utils import get_args_parser\ntorch._dynamo.reset()",
        "type(made).__name__\ngetattr(made, '__len__')",
    ],
    ids=["function", "class", "libraries", "imports of libraries", "dunder"],
)
def test_what_is_its_own_or_public_or_of_a_library_is_fine(text: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(text)
    assert violations(tmp_path) == []
