"""The site is built strictly, and asks nothing of the network."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, links


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--nitpicky", "--keep-going", "--quiet", "--doctree-dir", str(folder / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Loaded(HTMLParser):
    """Return all that a browser loads without being asked to: scripts, styles, fonts, images, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.anchors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster") or (tag == "link" and name == "href"):
                self.found.append(value or "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_built_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.found
        for address in loaded.found:
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"
            if not address.startswith(("data:", "#")):
                assert (page.parent / address.partition("?")[0]).exists(), f"{page.name} lacks {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text()), style.name
    has_a_search_that_works_offline_and_what_is_generated(site)


def has_a_search_that_works_offline_and_what_is_generated(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for page in ("tutorial/own_pictures", "guide/runs", "reference/api", "results/index", "adr/index"):
        assert f'"{page}"' in index
        assert (site / f"{page}.html").exists()
    api = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in ("deploy.exported.load_exported", "methods.base.Method", "models.network.Network.grow"):
        assert f'id="cl_lightning.{name}"' in api
    commands = (site / "reference" / "command_lines.html").read_text(encoding="utf-8")
    assert "usage: python -m cl_lightning.predict" in commands
    assert str(ROOT) not in commands, "nothing of the machine it was built on"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=lambda page: page.name)
def test_links_out_of_pages_that_are_not_built_lead_somewhere(page: Path) -> None:
    for target in links(page):
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_the_readme_is_short_and_its_lines_too() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    written = re.sub(r"<!-- comparison -->.*<!-- /comparison -->", "", text, flags=re.DOTALL).splitlines()
    assert len(written) <= 150, "but for the table of all systems"
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
    assert len(blocks("\n".join(lines), "sh")) >= 3
