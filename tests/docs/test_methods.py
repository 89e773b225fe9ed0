"""Pages of the methods: one for each, alike in their headings, with links and numbers that hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cl_lightning.config.yaml_files import load_option, options
from cl_lightning.core.origins import ORIGINS

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "methods"
METHODS = options("method")
HEADINGS = ["The formula", "Parts", "Options", "Protocol", "Results", "Ours", "Defects of public code"]
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    return text_of(name).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_method_has_a_page_and_every_page_a_method() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md")) == sorted([*METHODS, "index"])
    index = text_of("index")
    tree = index.partition("{toctree}")[2].partition("```")[0].split()
    assert sorted(tree[1:]) == METHODS
    assert [name for name in METHODS if f"`method={name}`" not in index or f"({name}.md)" not in index] == []


@pytest.mark.parametrize("name", METHODS)
def test_headings_are_the_same_and_in_order(name: str) -> None:
    found = re.findall(r"^(#+) (.*)$", re.sub(r"```.*?```", "", text_of(name), flags=re.DOTALL), re.MULTILINE)
    assert [heading for level, heading in found if level == "##"] == HEADINGS
    assert [level for level, _ in found].count("#") == 1
    assert all(section(name, heading).strip() for heading in HEADINGS)


@pytest.mark.parametrize("name", METHODS)
def test_a_page_begins_with_five_sentences(name: str) -> None:
    opening = text_of(name).partition("\n## ")[0].partition("\n")[2].replace("et al.", "et al")
    assert len(re.findall(r"\.(?=\s+[A-Z]|\s*$)", opening)) == 5


@pytest.mark.parametrize("name", METHODS)
def test_parts_are_files_that_exist_under_the_names_that_are_shown(name: str) -> None:
    links = LINK.findall(section(name, "Parts"))
    assert f"conf/method/{name}.yaml" in [shown for shown, _ in links]
    for shown, target in links:
        if not target.startswith("../adr/"):
            assert target == f"../../{shown}"
            assert (ROOT / shown).is_file(), shown


@pytest.mark.parametrize("name", METHODS)
def test_options_are_those_of_the_method(name: str) -> None:
    assert re.findall(r"```\{options\} (\S+)\n```", text_of(name)) == [f"method/{name}"]


@pytest.mark.parametrize("name", METHODS)
def test_a_page_and_both_tables_say_what_the_method_is(name: str) -> None:
    label = load_option("method", name)["origin"]
    assert section(name, "Ours").lstrip().startswith(f"**Origin: {label}.** ")
    (row,) = re.findall(rf"^\| `method={name}` \|.*$", text_of("index"), re.MULTILINE)
    assert row.split("|")[-3].strip() == label
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `method={name}` \|.*$", readme, re.MULTILINE)
    assert row.split("|")[-2].strip() == label


def test_the_labels_are_explained_as_the_program_explains_them() -> None:
    told = text_of("index").partition("## What a method is")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z ]+)` \| (.*) \|$", told, re.MULTILINE))
    assert rows == ORIGINS


@pytest.mark.parametrize("name", METHODS)
def test_our_results_stand_in_the_tables_of_the_project(name: str) -> None:
    """Nothing is quoted that was not measured, and nothing stays when a table is made again."""
    known = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("REPRODUCIBILITY.md", "LOG.md"))
    results = section(name, "Results")
    quoted = re.findall(r"\d+\.\d+ ± \d+\.\d+(?: / \d+\.\d+ ± \d+\.\d+)?", results)
    quoted += re.findall(r"\(([+-]\d+\.\d+ to [+-]\d+\.\d+)", results)
    assert [number for number in quoted if number not in known] == []
    assert "not run" in results


@pytest.mark.parametrize("name", [*METHODS, "index"])
def test_links_lead_somewhere(name: str) -> None:
    for _, target in LINK.findall(re.sub(r"`[^`]*`", "", text_of(name))):
        path, _, anchor = target.partition("#")
        page = (PAGES / path).resolve() if path else PAGES / f"{name}.md"
        assert page.is_file(), target
        assert not anchor or anchor in anchors(page), target


def test_published_targets_stand_in_the_tables_of_the_project() -> None:
    known = (ROOT / "docs" / "REPRODUCIBILITY.md").read_text(encoding="utf-8")
    for name in METHODS:
        pairs = re.findall(r"\d+\.\d\d(?: ± \d+\.\d+)? / \d+\.\d\d", section(name, "Protocol"))
        assert [pair for pair in pairs if pair not in known] == []
