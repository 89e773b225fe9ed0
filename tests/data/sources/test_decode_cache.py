"""The scan for broken images: what it finds and what it remembers."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image

from cl_lightning.data.sources import decode_cache, decode_result
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.decode_cache import Manifest, scan
from cl_lightning.data.sources.decode_result import DecodeResult, decode_file
from tests.data.scanned import UNKNOWN, broken, cache, cut, kept, looked_at, many, parts, root, save

__all__ = ["cache", "looked_at", "root"]  # fixtures that work by being here


class TestFinding:
    @pytest.mark.parametrize("threads", [1, 4, None])
    def test_broken_files_are_found_and_say_why(self, root: Path, threads: int | None) -> None:
        found = broken(root, threads)
        assert sorted(found) == ["train/a/2.jpg", "train/b/2.tif", "val/a/1.png"]
        assert "truncated" in found["train/a/2.jpg"]
        assert found["train/b/2.tif"].startswith("pixels of mode F have no fixed range")
        assert found["val/a/1.png"] == UNKNOWN, "without the path, which is told anyway"

    def test_sources_may_lie_in_the_root_itself_and_share_a_folder(self, root: Path, looked_at: list[str]) -> None:
        whole = FolderSource.scan(root / "train", "all")
        even, odd = (whole.select(torch.tensor(rows), f"from {rows[0]}") for rows in ([0, 2], [1, 3]))
        first, second = (one.broken for one in scan(root / "train", [even, odd]))
        assert (list(first), list(second)) == ([], [0, 1])
        assert len(looked_at) == 4
        assert [one.broken for one in scan(root / "train", [even, odd])] == [first, second]
        assert len(looked_at) == 4

    def test_all_formats_are_known_before_threads_start(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "_initialized", 0)
        states: list[int] = []

        def decode(_bytes: object, **_limit: int) -> Image.Image:
            states.append(Image._initialized)
            return Image.new("RGB", (1, 1))

        monkeypatch.setattr(decode_result, "decode", decode)
        broken(root)
        assert states == [2] * 6

    @pytest.mark.parametrize("threads", [1, 3])
    def test_images_are_dropped_once_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
    ) -> None:
        images: list[weakref.ref[Image.Image]] = []
        alive: list[int] = []
        decode = decode_result.decode

        def watched(content: io.BytesIO, **limit: int) -> Image.Image:
            image = decode(content, **limit)
            images.append(weakref.ref(image))
            alive.append(sum(image() is not None for image in images))
            return image

        monkeypatch.setattr(decode_result, "decode", watched)
        scan(tmp_path / "m", [many(tmp_path / "m", 300)], threads)
        assert len(alive) == 300
        assert 1 <= max(alive) <= threads

    def test_no_memory_is_no_broken_file(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_bytes: io.BytesIO, **_limit: int) -> None:
            raise MemoryError

        monkeypatch.setattr(decode_result, "decode", full)
        with pytest.raises(MemoryError):
            broken(root)


class TestDigests:
    """What is in a file is known by its bytes, and a later start reads none of them."""

    @staticmethod
    def taken(root: Path) -> list[list[str]]:
        return [[bytes(row.tolist()).hex() for row in one.digests] for one in scan(root, parts(root))]

    def test_they_are_of_the_bytes_of_every_file(self, root: Path, looked_at: list[str]) -> None:
        expected = [
            [hashlib.blake2b((s.root / path).read_bytes(), digest_size=16).hexdigest() for path in s.paths]
            for s in parts(root)
        ]
        assert self.taken(root) == expected, "of broken ones too"
        assert len(looked_at) == 6
        assert self.taken(root) == expected
        assert len(looked_at) == 6, "the second time they are remembered"

    def test_another_picture_of_equal_size_and_time_is_another(self, root: Path, looked_at: list[str]) -> None:
        """As ``cp -p`` and ``rsync -t`` leave it, or somebody with ``touch -d``."""
        before = self.taken(root)
        file = root / "train/a/1.png"
        content, status = file.read_bytes(), os.stat(file)
        while os.stat(file).st_ctime_ns == status.st_ctime_ns:  # until the clock of the file system has moved on
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert os.stat(file).st_mtime_ns == status.st_mtime_ns
        looked_at.clear()
        after = self.taken(root)
        assert looked_at == ["train/a/1.png"]
        changed = [
            one != other for old, new in zip(before, after, strict=True) for one, other in zip(old, new, strict=True)
        ]
        assert changed == [True, *[False] * 5]

    def test_a_file_that_was_only_touched_is_read_and_not_decoded(
        self, root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, reasons = self.taken(root), broken(root)
        looked_at.clear()
        for path in ("train/a/1.png", "val/a/1.png"):
            (root / path).chmod(0o600)
        monkeypatch.setattr(decode_result, "decode", lambda _bytes: pytest.fail("it was decoded"))
        assert self.taken(root) == before
        assert looked_at == ["train/a/1.png", "val/a/1.png"]
        assert broken(root) == reasons

    def test_a_file_that_cannot_be_read_has_none(self, root: Path) -> None:
        source = parts(root)[0]
        (root / "train/a/1.png").unlink()
        (found,) = scan(root, [source])
        assert found.digests[0].tolist() == [0] * 16
        assert found.broken[0] == "No such file or directory"


class TestRemembering:
    def test_nothing_unchanged_is_decoded_again(self, root: Path, looked_at: list[str]) -> None:
        first = broken(root)
        assert sorted(looked_at) == sorted(f"{s.name}/{path}" for s in parts(root) for path in s.paths)
        looked_at.clear()
        assert broken(root) == first
        assert looked_at == []

    def test_new_changed_and_repaired_files_are(self, root: Path, looked_at: list[str]) -> None:
        broken(root)
        looked_at.clear()
        save(root / "train/a/2.jpg")
        save(root / "train/a/3.png")
        cut(root / "train/b/1.png")
        os.utime(root / "val/b/1.webp", ns=(1, 1))
        assert set(broken(root)) == {"train/b/1.png", "train/b/2.tif", "val/a/1.png"}
        assert sorted(looked_at) == ["train/a/2.jpg", "train/a/3.png", "train/b/1.png", "val/b/1.webp"]
        looked_at.clear()
        broken(root)
        assert looked_at == []

    def test_a_run_without_a_part_forgets_nothing_of_it(self, root: Path, looked_at: list[str]) -> None:
        broken(root)
        save(root / "train/a/9.png")
        looked_at.clear()
        scan(root, parts(root)[:1])
        broken(root)
        assert looked_at == ["train/a/9.png"]

    def test_files_that_are_gone_are_forgotten(self, root: Path, cache: Path) -> None:
        broken(root)
        assert '"2.jpg"' in kept(cache).read_text()
        (root / "train/a/2.jpg").unlink()
        save(root / "train/a/3.png")
        broken(root)
        assert '"2.jpg"' not in kept(cache).read_text()

    def test_what_may_be_mended_outside_of_the_file_is_looked_at_again(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(path))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", refused)
            assert set(broken(root).values()) == {"Permission denied"}
        assert len(broken(root)) == 3

    def test_another_pillow_tries_again_what_was_broken(
        self, root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = broken(root)
        looked_at.clear()
        monkeypatch.setattr("PIL.__version__", "99.0")
        assert broken(root) == first
        assert sorted(looked_at) == sorted(first)
        looked_at.clear()
        broken(root)
        assert looked_at == []

    def test_a_root_is_the_same_by_every_way(
        self, root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken(root)
        looked_at.clear()
        (root.parent / "link").symlink_to(root)
        monkeypatch.chdir(root.parent)
        for way in (Path("pictures"), root.parent / "link", root / "../pictures"):
            assert len(broken(way)) == 3
        assert looked_at == []

    def test_an_interrupted_scan_is_resumed(
        self, tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = many(tmp_path / "m", 100)

        def interrupted(file: str, before: DecodeResult | None, max_pixels: int) -> DecodeResult:
            if file.endswith("0049.pgm"):
                raise KeyboardInterrupt
            return decode_file(file, before, max_pixels)

        with monkeypatch.context() as patch:
            patch.setattr(decode_cache, "decode_file", interrupted)
            with pytest.raises(KeyboardInterrupt):
                scan(source.root, [source], threads=1)
        looked_at.clear()
        assert [one.broken for one in scan(source.root, [source])] == [{}]
        assert sorted(looked_at) == [f"m/a/{index:04d}.pgm" for index in range(49, 100)]

    def test_a_killed_scan_loses_little(self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = many(tmp_path / "m", 100)
        monkeypatch.setattr(decode_cache, "SAVE_EVERY", 0.0)
        seen: list[int] = []

        def watched(file: str, before: DecodeResult | None, max_pixels: int) -> DecodeResult:
            if file.endswith("0099.pgm"):
                seen.append(len(Manifest(source.root).known("a")))
            return decode_file(file, before, max_pixels)

        monkeypatch.setattr(decode_cache, "decode_file", watched)
        scan(source.root, [source], threads=1)
        assert seen == [96], "three times 32"

    def test_a_long_scan_is_announced_once(
        self, root: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(decode_cache, "MANY_FILES", 5)
        broken(root)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            f"reading 6 images of {root} once, to know what is in them; what is found is kept in {kept(cache)}"
        ]
        caplog.clear()
        broken(root)
        monkeypatch.setattr(decode_cache, "MANY_FILES", 6)
        kept(cache).unlink()
        broken(root)
        assert not caplog.records
