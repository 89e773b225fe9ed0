"""The site's own extensions: formulae, links to Markdown outside of docs/, help of commands, notes of attributes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

CONFIGURATION = f"""
import sys
sys.path[:0] = [{str(ROOT / "docs" / "_ext")!r}, {str(ROOT)!r}]
extensions = ["myst_parser", "mathml", "command_help", "outside_links"]
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
html_theme = "basic"
"""


def built(folder: Path, text: str) -> tuple[str, str]:
    """A page that Sphinx makes of ``text``, and what it warns of."""
    (folder / "conf.py").write_text(CONFIGURATION)
    (folder / "index.md").write_text(text)
    command = [sys.executable, "-m", "sphinx", "-q", str(folder), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (folder / "html" / "index.html").read_text(), done.stderr


@pytest.mark.slow
def test_formulae_are_mathml_and_help_is_the_commands_own(tmp_path: Path) -> None:
    text = "# A\n\nLet $\\alpha$ be\n\n$$\n\\frac{a}{b} = \\sum_i x_i\n$$ (named)\n\n```{command-help} report\n```\n"
    page, warnings = built(tmp_path, text)
    assert page.count("<math") == 2
    assert "<mfrac>" in page
    assert 'id="equation-named"' in page
    assert "MathJax" not in page
    assert "usage: python -m cl_lightning.report" in page
    assert warnings == ""


@pytest.mark.slow
def test_a_formula_that_cannot_be_made_is_a_warning_with_its_place(tmp_path: Path) -> None:
    page, warnings = built(tmp_path, "# A\n\nHere is $\\nonsense{x}$.\n")
    assert "index.md:3: WARNING: no MathML for" in warnings
    assert "Here is" in page


def test_links_to_files_that_the_site_includes_lead_to_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    from outside_links import PAGES, redirected  # type: ignore[import-not-found]

    docs = ROOT / "docs"
    text = "[a](../../SECURITY.md#b) [c](runs.md) [d](https://e.org/f.md) [g](#h) ![i](../report.png)"
    page = docs / "guide" / "deploy.md"
    assert redirected(text, page, page) == text.replace("../../SECURITY.md", "../reference/security.md")
    included = docs / "reference" / "changelog.md"
    text = "[a](docs/guide/runs.md) [b](SECURITY.md)"
    assert redirected(text, ROOT / "CHANGELOG.md", included) == "[a](../guide/runs.md) [b](security.md)"
    for file, page_of_it in PAGES.items():
        assert (ROOT / file).exists()
        assert file in (docs / page_of_it).read_text()
