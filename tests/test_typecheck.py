"""Shapes in annotations are checked in tests, and nowhere else."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from jaxtyping import TypeCheckError

from cl_lightning.losses.classification import cross_entropy, group_old
from cl_lightning.metrics.confusion import Answers
from tests import typecheck

checked = pytest.mark.skipif(os.environ.get("CL_LIGHTNING_TYPECHECK") == "0", reason="the checks are switched off")


@checked
def test_batches_of_two_sizes_are_refused() -> None:
    """Torch would broadcast the one target to all images."""
    with pytest.raises(TypeCheckError, match="targets_BC"):
        cross_entropy(torch.zeros(3, 4), torch.zeros(1, 4))


@checked
def test_numbers_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeCheckError, match="confusion"):
        Answers(torch.zeros(2, 2), torch.zeros(2, 10, 3, dtype=torch.int64))


@checked
def test_a_shape_may_depend_on_an_argument() -> None:
    assert group_old(torch.eye(4), 3).shape == (4, 2)


@checked
def test_a_pause_ends() -> None:
    with typecheck.paused():
        cross_entropy(torch.zeros(3, 4), torch.zeros(1, 4))
    with pytest.raises(TypeCheckError):
        cross_entropy(torch.zeros(3, 4), torch.zeros(1, 4))


@pytest.mark.slow
def test_a_program_checks_nothing() -> None:
    program = (
        "import sys, torch; from cl_lightning.losses.classification import cross_entropy;"
        "cross_entropy(torch.zeros(3, 4), torch.zeros(1, 4)); assert 'beartype' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", typecheck.modules(typecheck.CHECKED))
def test_annotations_name_what_there_is(name: str) -> None:
    """A name that is not defined would be taken for anything."""
    module = import_module(name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.FunctionDef):
            hints = [argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)]
            for hint in filter(None, [*hints, node.returns]):
                if "Tensor" in (text := ast.unparse(hint)):
                    eval(text, vars(module))
