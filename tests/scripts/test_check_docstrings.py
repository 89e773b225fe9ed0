"""The rule of how docstrings begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_docstrings import violations

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["cl_lightning", "scripts"])
def test_docstrings_of_ours_begin_with_a_verb_or_a_noun(folder: str) -> None:
    assert violations(ROOT / folder) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""What this module is for."""\n', 1),
        ('class Run:\n    """Of one run."""\n', 2),
        ('class Run:\n    """One run."""\n\n    name: str\n    """Whose run it is."""\n', 5),
        ('def empty() -> bool:\n    """Whether it is empty."""\n', 2),
        ('async def empty() -> bool:\n    """\n    If it is empty.\n    """\n', 2),
    ],
    ids=["module", "class", "attribute", "function", "coroutine"],
)
def test_a_clause_is_named_with_its_line(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "job.py"
    file.write_text(text)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:{line}: begins with ")


def test_sentences_nouns_formulas_and_other_strings_pass(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        '"""Runs."""\n\nNAME = "What"\n"""Offsets of runs."""\n\n\n'
        'def loss():\n    """-sum_i t_i log p_i, whichever t is."""\n    return "How", print("Which")\n'
    )
    assert violations(tmp_path) == []
