"""The file of a bundle: everything is checked before anything is written, and no name leads elsewhere."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from cl_lightning.bundle.archive import CONTENTS, Item, opened, pack


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "picture").write_bytes(bytes(range(256)) * 9000)
    items = [Item("config.yaml", b"seed: 0\n"), Item("exemplars/files/000001.png", tmp_path / "picture")]
    assert pack(tmp_path / "run.bundle", items) == (tmp_path / "run.bundle").stat().st_size
    return tmp_path / "run.bundle"


def test_what_was_packed_comes_back(bundle: Path, tmp_path: Path) -> None:
    with opened(bundle) as archive:
        assert archive.names == ["config.yaml", "exemplars/files/000001.png"]
        assert archive.read("config.yaml") == b"seed: 0\n"
        archive.unpack("exemplars/files/000001.png", tmp_path / "out")
        with pytest.raises(ValueError, match=r"it has no results\.json"):
            archive.read("results.json")
    written = tmp_path / "out" / "exemplars" / "files" / "000001.png"
    assert written.read_bytes() == (tmp_path / "picture").read_bytes()


def test_equal_contents_make_equal_files(bundle: Path, tmp_path: Path) -> None:
    items = [Item("config.yaml", b"seed: 0\n"), Item("exemplars/files/000001.png", tmp_path / "picture")]
    pack(tmp_path / "again.bundle", items)
    assert (tmp_path / "again.bundle").read_bytes() == bundle.read_bytes()


def refused(file: Path) -> str:
    with pytest.raises(ValueError) as told, opened(file):
        pass
    return str(told.value)


@pytest.mark.parametrize("left", [0, 10, 30_000, -1, -40])
def test_a_truncated_file_is_refused(bundle: Path, left: int) -> None:
    bundle.write_bytes(bundle.read_bytes()[:left])
    assert "truncated, or no bundle" in refused(bundle)


def test_a_changed_byte_is_found(bundle: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[content.index(b"seed: 0") + 6] = ord("1")
    bundle.write_bytes(content)
    assert "config.yaml" in refused(bundle)


def rewritten(file: Path, **changes: bytes) -> Path:
    """The bundle with some of its files replaced, as somebody would who knows how a zip archive is made."""
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**contents, **changes}.items():
            archive.writestr(name, content)
    return file


def test_contents_that_do_not_agree_with_the_checksum_are_refused(bundle: Path) -> None:
    assert "checksum of config.yaml" in refused(rewritten(bundle, **{"config.yaml": b"seed: 1\n"}))


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "/tmp/escaped",
        "exemplars/files/../../../x.png",
        "exemplars\\files\\1.png",
        "checkpoints/task_000.pt",
    ],
)
def test_no_other_name_is_accepted(bundle: Path, name: str) -> None:
    assert "no part of a bundle" in refused(rewritten(bundle, **{name: b"x"}))


def test_a_file_that_is_not_listed_is_refused(bundle: Path) -> None:
    assert "list of contents" in refused(rewritten(bundle, **{"results.json": b"{}"}))


@pytest.mark.parametrize(
    "contents",
    [b"", b"[]", b"{}", json.dumps({"kind": "cl_lightning run", "format": 2, "sha256": {}}).encode(),
     json.dumps({"kind": "photos", "format": 1, "sha256": {}}).encode()],
)  # fmt: skip
def test_another_list_of_contents_is_refused(bundle: Path, contents: bytes) -> None:
    told = refused(rewritten(bundle, **{CONTENTS: contents}))
    assert "it is no bundle" in told or "this program reads format 1" in told


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    assert "it has no bundle.json" in refused(tmp_path / "photos.zip")
    (tmp_path / "text").write_text("hello")
    assert "truncated, or no bundle" in refused(tmp_path / "text")


def test_a_small_file_cannot_become_a_large_one(bundle: Path) -> None:
    with zipfile.ZipFile(bundle, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", b"0" * 1_000_000)
    assert "compressed" in refused(bundle)
