"""Files of features: found again by weights and images, and never believed once they are damaged."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from cl_lightning.core.errors import UserError
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.concat import ConcatSource
from cl_lightning.data.sources.decoding import Scaling
from cl_lightning.learning.feature_files import FeatureFiles
from tests.learning.a_phase import CLEAN, LABELS, PIXELS

SOURCE = ArraySource("toy", PIXELS, LABELS, tuple("abcde"))
ROWS = torch.tensor([3, 8, 13])
VECTORS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path / "made" / "here")
    path = files.path("w", SOURCE, CLEAN, ROWS)
    assert files.read(path) is None
    files.write(path, VECTORS)
    found = files.read(path)
    assert found is not None
    assert torch.equal(found, VECTORS)


def test_the_name_depends_on_all_that_the_content_depends_on(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path)
    changed = PIXELS.clone()
    changed[8, 0, 0, 0] += 1
    other = ArraySource("toy", changed, LABELS, tuple("abcde"))
    again = ArraySource("another name", PIXELS.clone(), LABELS, tuple("abcde"))
    paths = [
        files.path("w", SOURCE, CLEAN, ROWS),
        files.path("v", SOURCE, CLEAN, ROWS),
        files.path("w", SOURCE, Pipeline(8, (0.4,), (0.5,), None), ROWS),
        files.path("w", SOURCE, replace(CLEAN, resize=Resize(16, 16, "bicubic")), ROWS),
        files.path("w", SOURCE, replace(CLEAN, resize=Resize(16, 16, "bilinear")), ROWS),
        files.path("w", SOURCE, replace(CLEAN, scaling=Scaling(whole=True)), ROWS),
        files.path("w", SOURCE, CLEAN, ROWS.flip(0)),
        files.path("w", SOURCE, CLEAN, ROWS[:2]),
        files.path("w", other, CLEAN, ROWS),
    ]
    assert len(set(paths)) == len(paths)
    assert files.path("w", again, CLEAN, ROWS) == paths[0], "the pixels count, not where they lie"


def test_the_name_depends_on_how_files_and_originals_become_pixels(tmp_path: Path) -> None:
    """Digests of images are of files, or of originals of another size."""
    files, shots = FeatureFiles(tmp_path / "kept"), tmp_path / "shots" / "a"
    shots.mkdir(parents=True)
    Image.new("RGB", (9, 8)).save(shots / "1.png")
    lying = FolderSource.scan(shots.parent, "shots")
    small = ArraySource("toy", PIXELS[:, :, ::2, ::2].contiguous(), LABELS, tuple("abcde"), digests=SOURCE.contents)
    first = torch.tensor([0])
    paths = [
        files.path("w", lying, CLEAN, first),
        files.path("w", replace(lying, upright=True), CLEAN, first),
        files.path("w", ConcatSource("both", (lying, SOURCE)), CLEAN, first),
        files.path("w", ConcatSource("both", (replace(lying, upright=True), SOURCE)), CLEAN, first),
        files.path("w", SOURCE, CLEAN, first),
        files.path("w", small, CLEAN, first),
    ]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other"])
def test_a_damaged_file_is_not_believed(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    files = FeatureFiles(tmp_path)
    path = files.path("w", SOURCE, CLEAN, ROWS)
    files.write(path, VECTORS)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    of_kind = {"cut": bytes(content[:-9]), "flipped": bytes(content), "emptied": b"", "other": b"no tensors" * 9}
    path.write_bytes(of_kind[damage])
    with caplog.at_level(logging.WARNING):
        assert files.read(path) is None
    assert "computed anew" in caplog.text
    files.write(path, VECTORS)
    assert files.read(path) is not None


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"trainer\.features_dir=.*/file/below cannot be made .* or null"):
        FeatureFiles(tmp_path / "file" / "below")


def test_a_run_goes_on_where_nothing_can_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = FeatureFiles(tmp_path / "gone")
    path = files.path("w", SOURCE, CLEAN, ROWS)
    (tmp_path / "gone").rmdir()
    with caplog.at_level(logging.WARNING):
        files.write(path, VECTORS)
    assert "the run goes on without it" in caplog.text
