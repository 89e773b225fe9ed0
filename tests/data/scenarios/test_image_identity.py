"""What images consist of: seen whatever they are called, and the same wherever they are."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cl_lightning.data.scenarios.image_identity import identity_of, joined_digest
from cl_lightning.data.scenarios.image_list import listing_of
from cl_lightning.data.scenarios.multi_dataset import DatasetTasks, concat_scenarios, of_classes
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.datasets import load_sources
from tests.data.scenarios.pets import cache, cut, made, root

__all__ = ["cache", "root"]  # fixtures that work by being here


def digests(scenario: Scenario) -> dict[str, str]:
    return {part: own["digest"] for part, own in identity_of(scenario).items()}


def test_order_tasks_place_and_classes_left_out_make_no_difference(root: Path) -> None:
    first = identity_of(cut(root))
    assert {part: own["images"] for part, own in first.items()} == {
        "train": {"cat": 4, "dog": 4, "owl": 4}, "test": {"cat": 4, "dog": 4, "owl": 4}
    }  # fmt: skip
    assert identity_of(cut(root, (2, 0, 1), 3)) == first
    assert identity_of(cut(root, (1,))) == first
    moved = shutil.move(root, root.parent / "elsewhere")
    assert identity_of(cut(moved)) == first


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\xff"),
        lambda file: file.rename(file.with_name("9.pgm")),
        lambda file: file.rename(file.parent.parent / "dog/9.pgm"),
        lambda file: file.unlink(),
        lambda file: shutil.copy(file, file.with_name("9.pgm")),
    ],
)
def test_any_change_of_one_image_is_one_of_its_part(root: Path, part: str, change: Callable[[Path], object]) -> None:
    before = digests(cut(root))
    change(root / ("val" if part == "test" else part) / "cat/1.pgm")
    after = digests(cut(root))
    assert [name for name in before if before[name] != after[name]] == [part]


def test_a_validation_share_is_a_part_of_its_own(root: Path) -> None:
    first = cut(root, validation=0.25)
    assert {part: own["images"] for part, own in identity_of(first).items()} == {
        "train": {"cat": 3, "dog": 3, "owl": 3}, "validation": {"cat": 1, "dog": 1, "owl": 1}
    }  # fmt: skip
    assert identity_of(cut(root, (2, 0), 2, validation=0.25)) == identity_of(first)
    assert set(listing_of(first)["train"]) | set(listing_of(first)["validation"]) == set(listing_of(cut(root))["train"])


def test_arrays_are_known_by_their_pixels() -> None:
    source = made(6, 0)
    pixels = source.pixels.clone()
    pixels[3, 0, 0, 0] += 1
    other = dataclasses.replace(source, pixels=pixels)
    changed = [i for i in range(6) if not torch.equal(source.contents[i], other.contents[i])]
    assert changed == [3]
    rows = torch.tensor([4, 1])
    assert torch.equal(source.select(rows, "part").contents, source.contents[rows])
    flat = dataclasses.replace(source, pixels=source.pixels.view(6, 1, 2, 8))
    assert not torch.equal(flat.contents[0], source.contents[0]), "the same bytes in another shape are another image"


def test_what_images_were_made_from_counts_and_not_their_size(root: Path) -> None:
    """A sequence of arrays and files, at two sizes and in two orders of the classes of one set."""
    folder, test = load_sources("image_folder", root)
    assert isinstance(folder, FolderSource)
    assert isinstance(test, FolderSource)

    def joined(size: int, order: list[int]) -> Scenario:
        arrays = DatasetTasks("made", of_classes(made(6, 0), [0, 1]), of_classes(made(4, 1), [0, 1]), (2,))
        files = DatasetTasks("pets", of_classes(folder, order), of_classes(test, order), (3,))
        return concat_scenarios("sequence", [arrays, files], image_size=size)

    assert digests(joined(8, [0, 1, 2])) == digests(joined(16, [2, 0, 1]))
    only = [DatasetTasks("made", made(6, 0), made(4, 1), (2,))]
    small, large = (concat_scenarios("sequence", only, image_size=size) for size in (4, 8))
    assert isinstance(large.train, ArraySource)
    assert digests(small) == digests(large)


def test_one_digest_for_several_places() -> None:
    assert joined_digest(["a"]) == "a"
    assert joined_digest([None]) is joined_digest(["a", None]) is None
    several = [
        joined_digest(["a", "b"]),
        joined_digest(["b", "a"]),
        joined_digest(["a", ""]),
        joined_digest(["a", "b", ""]),
    ]
    assert len(set(several)) == 4
