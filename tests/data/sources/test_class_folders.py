"""Which files of users' folders are images, and what is told of the rest."""

from __future__ import annotations

import logging
import os
import unicodedata
from pathlib import Path

import pytest

from cl_lightning.data.sources import class_folders as module
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.class_folders import class_folders, class_images
from cl_lightning.data.sources.datasets import load_sources
from cl_lightning.data.sources.skipped_files import Aside, LeftOut, in_words
from tests.data.folders import cache, refusal, touch
from tests.data.odd_folders import ODDITIES, PLAIN, Oddity, images_of, kinds_of, make_folder

__all__ = ["cache"]  # a fixture that works by being here


def read(root: Path, **options: str) -> tuple[FolderSource, FolderSource]:
    train, test = load_sources("image_folder", root, **options)  # type: ignore[arg-type]
    assert isinstance(train, FolderSource)
    assert isinstance(test, FolderSource)
    return train, test


@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.path)
def test_each_oddity_is_read_or_counted(tmp_path: Path, oddity: Oddity) -> None:
    aside = Aside()
    source = FolderSource.scan(make_folder(tmp_path, oddities=[oddity]), "odd", aside=aside)
    assert source.class_names == ("cat", "dog")
    assert source.labels.bincount().tolist() == [PLAIN + oddity.images, PLAIN]
    assert {each.kind: each.count for each in aside.kinds()} == kinds_of([oddity])
    for row in range(len(source)):
        assert source.load_test(row, 8).shape == (3, 8, 8)


def test_a_folder_with_every_oddity_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train, test = read(make_folder(tmp_path))
    assert len(train) + len(test) == 2 * PLAIN + images_of()
    assert {each.kind: each.count for each in train.scanned.left_out} == kinds_of()
    assert test.scanned.left_out == (), "it is told once"
    logged = {path for record in caplog.records for path in record.getMessage().rpartition(": ")[2].split(", ")}
    for oddity in ODDITIES:
        inside = oddity.path.replace("CLASS", "cat").split("/")
        told = logged & {"/".join(inside[:depth]) for depth in range(1, len(inside) + 1)}
        assert len(told) == (oddity.kind is not None), oddity.path


def test_of_26_files_six_were_read_before_and_all_are_now(tmp_path: Path) -> None:
    forms = [oddity for oddity in ODDITIES if oddity.path.startswith("CLASS/") and oddity.images]
    new = [oddity for oddity in forms if not oddity.path.endswith((".png", ".TIF")) or "more" in oddity.path][:10]
    twice = [Oddity(path.path.replace("CLASS/", f"CLASS/{n}"), path.make, 1) for n in "ab" for path in new]
    root = make_folder(tmp_path, ["cat"], twice, plain=6)
    assert len(FolderSource.scan(root, "now", files="any")) == 26
    aside = Aside()
    assert len(FolderSource.scan(root, "before", files="by_suffix", aside=aside)) == 6
    assert sum(each.count for each in aside.kinds()) == 20 - 2, "and a folder of two images counts as one folder"


def test_the_old_rule_reads_what_it_did(tmp_path: Path) -> None:
    source = FolderSource.scan(make_folder(tmp_path), "odd", ["cat", "dog"], files="by_suffix")
    assert source.paths == (
        "cat/0.png", "cat/1.png", "cat/cafe\u0301 2.png", "cat/caf\u00e9.png", "cat/here.png", "cat/scan.TIF",
        "dog/0.png", "dog/1.png",
    )  # fmt: skip
    assert source.keys is None, "and under the names that it had"


def test_known_names_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million files would be."""
    touch(tmp_path, ["cat/1.jpg", "cat/2.PNG", "cat/x.webp"], b"no image at all")
    monkeypatch.setattr(module, "is_image", lambda path: pytest.fail(f"{path} was opened"))
    assert class_images(tmp_path, "cat") == ["cat/1.jpg", "cat/2.PNG", "cat/x.webp"]


def test_a_broken_file_of_a_known_name_is_refused_and_not_left_out(tmp_path: Path) -> None:
    root = touch(make_folder(tmp_path, oddities=[]), ["cat/broken.gif"], b"GIF89a")
    assert "of which 1 cannot be decoded (cat/broken.gif (" in refusal("image_folder", root)
    train, test = read(root, on_broken="skip")
    assert len(train) + len(test) == 2 * PLAIN


def test_files_that_may_not_be_looked_into_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(make_folder(tmp_path, oddities=[]), ["cat/secret"])

    def forbidden(path: str) -> bool:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(module, "is_image", forbidden)
    aside = Aside()
    FolderSource.scan(root, "odd", aside=aside)
    assert aside.kinds() == (LeftOut("unreadable files", 1, "cat/secret"),)


def test_one_level_too_deep_names_the_folder_with_the_images(tmp_path: Path) -> None:
    make_folder(tmp_path / "pictures", oddities=[])
    assert refusal("image_folder", tmp_path) == (
        f"class folder {tmp_path}/pictures holds no image, but {tmp_path}/pictures/cat does: "
        f"move the images up, or pass root={tmp_path}/pictures if its folders are the classes"
    )


def test_a_class_of_other_files_says_what_they_are(tmp_path: Path) -> None:
    touch(make_folder(tmp_path, oddities=[]), ["owl/1.heic", "owl/2.HEIC"], b"no format of ours")
    assert (
        f"class folder {tmp_path}/owl holds no image (2 .heic files such as owl/1.heic): add some (JPEG, "
        in refusal("image_folder", tmp_path)
    )


class TestAccents:
    COMPOSED, APART = "caf\u00e9", "cafe\u0301"

    def test_a_folder_that_was_moved_between_systems_keeps_its_names_and_keys(self, tmp_path: Path) -> None:
        found = []
        for form, place in ((self.COMPOSED, "linux"), (self.APART, "mac")):
            names = [f"{form}/{letter}{unicodedata.normalize('NFD', 'é') if form == self.APART else 'é'}.png"
                     for letter in "abz"]  # fmt: skip
            source = FolderSource.scan(touch(tmp_path / place, [*names, "x/1.png"]), "moved")
            assert source.load_test(0, 4).shape == (3, 4, 4), "the file is found under the name that it has"
            found.append((source.class_names, source.fingerprint, source.row("caf\u00e9/z\u00e9.png")))
        assert found[0] == found[1]
        assert found[0][0] == ("caf\u00e9", "x")

    def test_parts_may_write_them_in_two_ways(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"train/{self.COMPOSED}/1.png", f"val/{self.APART}/2.png"])
        train, test = read(tmp_path)
        assert train.class_names == test.class_names == (self.COMPOSED,)
        assert test.key(0) == f"{self.COMPOSED}/2.png"

    def test_two_folders_of_one_name_are_refused(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{form}/{n}.png" for form in (self.COMPOSED, self.APART) for n in range(3)])
        assert r"class folders 'cafe\u0301' and 'caf\xe9', which are one name" in refusal("image_folder", tmp_path)

    def test_two_files_of_one_name_are_refused(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"a/{form}.png" for form in (self.COMPOSED, self.APART)])
        assert r"the files 'a/cafe\u0301.png' and 'a/caf\xe9.png' are one name" in refusal("image_folder", tmp_path)


def test_names_of_left_out_files_stay_on_one_line(tmp_path: Path) -> None:
    aside = Aside()
    (tmp_path / "a\nb.txt").touch()
    class_folders(tmp_path, aside=aside)
    assert aside.kinds() == (LeftOut(".txt files", 1, r"a\nb.txt"),)


def test_what_is_left_out_is_reported_in_one_line() -> None:
    assert LeftOut(".txt files", 1, "cat/a.txt").words() == "1 .txt file, cat/a.txt"
    assert LeftOut(".txt files", 3, "cat/a.txt").words() == "3 .txt files such as cat/a.txt"
    assert LeftOut("links to a folder above", 1, "cat/x").words() == "1 link to a folder above, cat/x"
    aside = Aside()
    for kind in range(9):
        for number in range(10 - kind):
            aside.add(f"{kind} files", f"{number}.x")
    told = in_words(aside.kinds())
    assert told.startswith("10 0 files such as 0.x; 9 1 files")
    assert told.endswith("; 5 5 files such as 0.x; 9 others, of 3 kinds")
    assert in_words(()) == ""


def test_a_link_to_a_class_is_a_class(tmp_path: Path) -> None:
    make_folder(tmp_path / "elsewhere", ["owl"], oddities=[])
    root = make_folder(tmp_path / "pets", oddities=[])
    os.symlink(tmp_path / "elsewhere" / "owl", root / "owl")
    assert FolderSource.scan(root, "pets").class_names == ("cat", "dog", "owl")
