"""Nothing wrong with what a scan remembers stops a run: where it is kept, by several at once, and damaged."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cl_lightning.data.sources import decode_cache
from cl_lightning.data.sources.decode_cache import Manifest
from cl_lightning.data.sources.decode_result import DecodeResult, Stamp
from tests.data.scanned import broken, cache, kept, looked_at, root

__all__ = ["cache", "looked_at", "root"]  # fixtures that work by being here


class TestDamage:
    """Nothing that is wrong with what was kept changes what is found."""

    @staticmethod
    def check(root: Path, caplog: pytest.LogCaptureFixture, *, says: str, mended: bool = True) -> None:
        caplog.clear()
        assert sorted(broken(root)) == ["train/a/2.jpg", "train/b/2.tif", "val/a/1.png"]
        (told,) = [record.getMessage() for record in caplog.records]
        assert says in told
        caplog.clear()
        broken(root)
        assert bool(caplog.records) != mended

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda _text: "",
            lambda _text: "\x80\x04\x95",
            lambda _text: "[]",
            lambda _text: '{"format": 2}',
            lambda text: text.replace('"format": 2', '"format": 1'),
            lambda text: text.replace("pictures", "elsewhere"),
            lambda text: text.rpartition("\n")[0],
            lambda text: text + "\n",
        ],
    )
    def test_foreign_and_older_files(
        self, root: Path, cache: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[str], str]
    ) -> None:
        broken(root)
        kept(cache).write_text(spoil(kept(cache).read_text()), encoding="utf-8")
        self.check(root, caplog, says=f"{kept(cache)} is not whole, or of another version")

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "{}",
            "[1,2",
            "[]",
            '[["1.png"],[1],[1],[],"%s",{},""]' % (32 * "0"),
            '[["1.png"],[1],[1],[1],"00",{},""]',
            '[["1.png"],[1],[1],[1],"%s",{},""]' % (32 * "x"),
            '[[["1.png"]],[1],[1],[1],"%s",{},""]' % (32 * "0"),
            '["a","b","c","d","e","f",""]',
        ],
    )
    def test_damaged_folders(
        self, root: Path, cache: Path, caplog: pytest.LogCaptureFixture, looked_at: list[str], line: str
    ) -> None:
        broken(root)
        looked_at.clear()
        lines = [
            f'"train/a"\t{line}' if old.startswith('"train/a"') else old for old in kept(cache).read_text().split("\n")
        ]
        kept(cache).write_text("\n".join(lines))
        self.check(root, caplog, says=f"{kept(cache)} is damaged")
        assert sorted(looked_at) == ["train/a/1.png", "train/a/2.jpg"]

    def test_cut_off_anywhere(self, root: Path, cache: Path) -> None:
        first = broken(root)
        text = kept(cache).read_text()
        for length in range(0, len(text), 7):
            kept(cache).write_text(text[:length])
            assert broken(root) == first
            assert sorted(kept(cache).read_text().split("\n")) == sorted(text.split("\n"))

    def test_a_place_that_cannot_be_written(
        self, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("CL_LIGHTNING_CACHE", str(tmp_path / "file" / "folder"))
        monkeypatch.setattr(decode_cache, "SAVE_EVERY", 0.0)
        self.check(root, caplog, says="cannot be written (Not a directory): the next run", mended=False)

    def test_a_file_that_cannot_be_read(
        self, root: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken(root)
        file = kept(cache)
        file.unlink()
        file.mkdir()
        self.check(root, caplog, says=f"{file} cannot be read (Is a directory)", mended=False)
        assert list(cache.iterdir()) == [file], "nothing half-written is left"


def test_runs_may_write_at_once(root: Path, cache: Path) -> None:
    def write(index: int) -> None:
        mine = Manifest(root)
        for name in range(200):
            mine.learn("train/b", f"{name}.png", DecodeResult(Stamp(index, index, index), bytes(16), None))
            mine.learn("train/b", "1.png", DecodeResult(Stamp(index, index, index), bytes(16), None))
        mine.save()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    known = Manifest(root).known("train/b")
    assert list(known) == ["1.png"], "the only one that is there"
    assert known["1.png"].stamp.size in range(40)
    kept(cache)


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder() -> Path:
        file = Manifest(tmp_path).file
        assert file is not None
        assert file.name.startswith("images-")
        return file.parent

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("CL_LIGHTNING_CACHE", "~/own")
    assert folder() == tmp_path / "home/own"
    monkeypatch.delenv("CL_LIGHTNING_CACHE")
    assert folder() == tmp_path / "xdg/cl_lightning"
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert folder() == tmp_path / "home/.cache/cl_lightning"
    assert Manifest(tmp_path).file != Manifest(tmp_path / "..").file


def test_without_a_home_nothing_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CL_LIGHTNING_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert Manifest(root).file is None
    assert len(broken(root)) == 3
