"""Files that are not read: counted by kind, named in the log, told in one line."""

from __future__ import annotations

import logging

import pytest

from cl_lightning.data.sources import skipped_files
from cl_lightning.data.sources.skipped_files import SYSTEM, Aside, LeftOut, in_words


def test_kinds_are_counted_with_their_first_path_the_most_frequent_first() -> None:
    aside = Aside()
    for kind, path in [("b files", "1"), (".txt files", "x\ny"), ("a files", "2"), (".txt files", "z"), (SYSTEM, "s")]:
        aside.add(kind, path)
    assert aside.kinds() == (
        LeftOut(".txt files", 2, r"x\ny"), LeftOut("a files", 1, "2"), LeftOut("b files", 1, "1")
    )  # fmt: skip


def test_collections_of_several_folders_add_up() -> None:
    one, two = Aside(), Aside()
    one.add("a files", "1")
    two.add("a files", "2")
    two.add("links", "3")
    one.merge(two)
    assert one.kinds() == (LeftOut("a files", 2, "1"), LeftOut("links", 1, "3"))


def test_the_log_names_each_up_to_a_number(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(skipped_files, "LISTED", 2)
    one, two = Aside(), Aside()
    for name in "abc":
        one.add(".txt files", name)
    two.add(".txt files", "d")
    one.merge(two)
    one.add(SYSTEM, ".DS_Store")
    with caplog.at_level(logging.INFO):
        one.log("root")
    assert caplog.messages == [
        "left out of root: 4 .txt files: a, b and 2 more",
        f"left out of root: 1 {SYSTEM}: .DS_Store",
    ]


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (LeftOut(".txt files", 3, "cat/a.txt"), "3 .txt files such as cat/a.txt"),
        (LeftOut(".txt files", 1, "cat/a.txt"), "1 .txt file, cat/a.txt"),
        (LeftOut("folders below classes", 1, "cat/more"), "1 folder below classes, cat/more"),
        (LeftOut("links to folders", 1, "cat/l"), "1 link to folders, cat/l"),
    ],
)
def test_a_kind_in_words(left_out: LeftOut, words: str) -> None:
    assert left_out.words() == words


def test_many_kinds_are_told_in_one_short_line() -> None:
    kinds = [LeftOut(f".{name} files", 9 - place, name) for place, name in enumerate("abcdefgh")]
    assert in_words(kinds[:1]) == "9 .a files such as a"
    assert "others" not in in_words(kinds[:7])
    assert in_words(kinds).endswith("; 4 .f files such as f; 5 others, of 2 kinds")
