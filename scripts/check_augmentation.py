"""Measure our RandAugment against timm's on Pillow images: `python scripts/check_augmentation.py [--images FOLDER]`.

The published runs augmented with timm and Pillow, image by image; we do it in batch. Printed is, for each operation,
how far the two are apart in grey levels at fixed magnitudes on real images, then whether operations and strengths are
drawn alike. Exit status: 0 all within bounds, 1 something is not, 2 wrong input. Crops and flips have no counterpart
to measure against: tests/data/test_augment.py compares them with loops and tests that they are drawn fairly.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest import mock

import numpy as np
import torch
from PIL import Image
from PIL import __version__ as pillow_version
from scipy import stats

from cl_lightning.core.errors import UnreadableImageError, UserError
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation import operations, randaugment
from cl_lightning.data.augmentation.operations import Operation
from cl_lightning.data.augmentation.randaugment import RandAugment
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.class_folders import kind_of
from cl_lightning.data.sources.image_formats import FORMATS

TIMM_POLICY = "rand-m9-mstd0.5-inc1"
TIMM_NAMES = {
    Operation.AUTO_CONTRAST: "AutoContrast",
    Operation.EQUALISE: "Equalize",
    Operation.INVERT: "Invert",
    Operation.POSTERISE: "PosterizeIncreasing",
    Operation.SOLARISE: "SolarizeIncreasing",
    Operation.SOLARISE_ADD: "SolarizeAdd",
    Operation.BRIGHTNESS: "BrightnessIncreasing",
    Operation.CONTRAST: "ContrastIncreasing",
    Operation.COLOUR: "ColorIncreasing",
    Operation.SHARPNESS: "SharpnessIncreasing",
    Operation.SHEAR_X: "ShearX",
    Operation.TRANSLATE_X: "TranslateXRel",
    Operation.SHEAR_Y: "ShearY",
    Operation.TRANSLATE_Y: "TranslateYRel",
    Operation.ROTATE: "Rotate",
}
GEOMETRIC = [operation for operation in Operation if operation >= Operation.SHEAR_X]
"""Operations that interpolate."""
PHOTOMETRIC = [operation for operation in Operation if operation not in GEOMETRIC]
FILL = (124, 116, 104)
GREY_FILL = Image.new("RGB", (1, 1), FILL).convert("L").tobytes()[0]

MAGNITUDES = (0.0, 2.5, 5.0, 9.0, 10.0)
LARGEST = 2
"""Grey levels that one value of one pixel may differ by without interpolation; we measure 0."""
MEAN = 0.01
"""Grey levels that values may differ by on average with interpolation.

Ours is in single precision, Pillow's in double, and both cut: where the exact result is whole, a level may be lost.
Measured on photographs of 32 to 224 pixels: at most 1 level, less than 1e-3 on average. A turn by 0.1 degrees too
much gives 0.2, a translation by a 10,000th of the width 0.018.
"""
BATCH = 16
"""Images at a time, so that the taps of a rotation fit into memory at any size."""
DRAWS = 20_000
"""Images, of two operations each, that the draws are compared over."""
ALPHA = 0.01
"""Probability that any test of the draws fails by chance, over all of them: Bonferroni's correction."""
FEW = 10
"""Arguments of at most so many values (bits) are compared by counts: ties make a Kolmogorov-Smirnov test blind."""
PHOTO_SIDE = 427
"""Pixels of the short side of scikit-learn's photographs: a crop cannot be larger."""


@dataclass(frozen=True)
class Comparison:
    """The difference of our version of an operation from timm's, over all images, magnitudes and signs."""

    operation: str
    interpolates: bool
    magnitudes: str
    images: int
    """Number of images, each compared in colour and in grey, at each magnitude."""
    largest: int
    """Grey levels."""
    mean: float
    """Grey levels, over all values of all pixels."""
    differing: float
    """Share of the pixels of which a value differs, 0 to 1."""
    bound: str
    passed: bool


@dataclass(frozen=True)
class DrawComparison:
    """The frequency and arguments of an operation, in our draws and in timm's."""

    operation: str
    """Name, or ``any``: that an operation which was drawn is applied at all."""
    share: float
    """Share of the operations applied; of those drawn for ``any``. 0 to 1."""
    timm_share: float
    share_p: float
    """Probability of shares at least this far apart in two samples of one distribution."""
    test: str
    """Test of the arguments: ``Kolmogorov-Smirnov``, ``chi-square``, or ``none`` where there is no argument."""
    argument_p: float | None
    passed: bool


def crop_photo(photo: np.ndarray, height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Return a random crop of a photograph (H, W, 3), shrunk to ``height`` x ``width``, at most five times."""
    zoom = max(1, min(5, min(photo.shape[:2]) // max(height, width)))
    top = generator.integers(0, photo.shape[0] - height * zoom + 1)
    left = generator.integers(0, photo.shape[1] - width * zoom + 1)
    crop = Image.fromarray(photo[top : top + height * zoom, left : left + width * zoom])
    return np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC))


def grey(images: np.ndarray) -> np.ndarray:
    """Convert images (n, H, W, 3) to grey, (n, H, W), as Pillow does."""
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])


def timm_arguments(operation: Operation, magnitude: float) -> list[float]:
    """Return the arguments that timm may make of a magnitude, sorted: one, or one of each sign; 0 for none at all."""
    from timm.data import auto_augment

    level = auto_augment.LEVEL_TO_ARG[TIMM_NAMES[operation]]
    found: set[float] = set()
    for sign in (-1, 1):
        with mock.patch.object(auto_augment, "_randomly_negate", lambda value, sign=sign: sign * value):
            found.update((0.0,) if level is None else level(magnitude, {}))
    return sorted(found)


def our_arguments(operation: Operation, magnitude: float) -> list[float]:
    """Return the arguments that our policy draws for a magnitude."""
    policy = RandAugment(magnitude=magnitude, magnitude_std=0.0, probability=1.0)
    choices = randaugment.draw(policy, Key(0), torch.arange(500))
    return sorted(set(choices.arguments[choices.operations == operation].tolist()))


def timm_result(operation: Operation, image: np.ndarray, argument: float) -> np.ndarray:
    """Apply timm's operation to one image (H, W, 3) or (H, W); ``argument`` is passed on where it takes one."""
    from timm.data import auto_augment

    function: Any = auto_augment.NAME_TO_OP[TIMM_NAMES[operation]]
    arguments = () if auto_augment.LEVEL_TO_ARG[TIMM_NAMES[operation]] is None else (argument,)
    options = {"fillcolor": FILL if image.ndim == 3 else GREY_FILL, "resample": Image.Resampling.BICUBIC}
    return np.asarray(function(Image.fromarray(image), *arguments, **options))


def our_result(operation: Operation, images: np.ndarray, argument: float) -> np.ndarray:
    """Apply our operation to images (n, H, W, 3) or (n, H, W), all with the same argument."""
    tensor = torch.from_numpy(images.copy())
    tensor = tensor.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else tensor[:, None]
    which = torch.full((len(images),), int(operation))
    numbers = torch.full((len(images),), float(argument), dtype=torch.float64)
    result = operations.apply(tensor, which, numbers, RandAugment().fill)
    assert result.dtype == torch.uint8
    return (result.permute(0, 2, 3, 1) if images.ndim == 4 else result[:, 0]).numpy()


def differences(operation: Operation, images: np.ndarray, theirs: float, ours: float | None = None) -> np.ndarray:
    """Return grey levels between timm's operation with the argument ``theirs`` and ours with ``ours``; None: the same.

    ``images`` is (n, H, W, 3) or (n, H, W) uint8, and so is the result, int64.
    """
    expected = np.stack([timm_result(operation, image, theirs) for image in images])
    return np.abs(our_result(operation, images, theirs if ours is None else ours).astype(np.int64) - expected)


def is_black(operation: Operation, argument: float) -> bool:
    """Return whether this is posterising to 0 bits, which Pillow refuses now; it once gave a black image."""
    return operation == Operation.POSTERISE and argument == 0


def compare(operation: Operation, images: np.ndarray) -> Comparison:
    """Compare an operation on images (n, H, W, 3) and on their grey versions, at all magnitudes that it tells apart."""
    batches = [kind[i : i + BATCH] for kind in (images, grey(images)) for i in range(0, len(images), BATCH)]
    matters = timm_arguments(operation, MAGNITUDES[0]) != timm_arguments(operation, MAGNITUDES[-1])
    magnitudes, found = [], []
    for magnitude in MAGNITUDES if matters else MAGNITUDES[:1]:
        theirs, ours = timm_arguments(operation, magnitude), our_arguments(operation, magnitude)
        if is_black(operation, theirs[0]):
            continue  # see `posterised_to_nothing`
        magnitudes.append(("±" if len(theirs) > 1 else "") + f"{magnitude:g}")
        # The lowest and the highest argument: both signs, or the same one twice.
        for pair in sorted({(theirs[0], ours[0]), (theirs[-1], ours[-1])}):
            found += [_summary(differences(operation, batch, *pair)) for batch in batches]
    largest, levels, values, differing, pixels = zip(*found, strict=True)
    worst, mean, share = max(largest), sum(levels) / sum(values), sum(differing) / sum(pixels)
    geometric, shown = operation in GEOMETRIC, " ".join(magnitudes) if matters else "none"
    bound, passed = (f"mean {MEAN:g}", mean <= MEAN) if geometric else (f"largest {LARGEST}", worst <= LARGEST)
    return Comparison(operation.name.lower(), geometric, shown, len(images), worst, mean, share, bound, passed)


def _summary(found: np.ndarray) -> tuple[int, int, int, int, int]:
    """Return the largest difference, sum of the differences, values, pixels that differ, pixels."""
    pixels = found.reshape(*found.shape[:3], -1).any(-1)
    return int(found.max()), int(found.sum()), found.size, int(pixels.sum()), pixels.size


def posterised_to_nothing(image: np.ndarray) -> tuple[bool, str]:
    """Return whether our highest magnitude gives black, as timm's policy means it, and Pillow's result for 0 bits."""
    (bits,) = our_arguments(Operation.POSTERISE, randaugment.MAX_MAGNITUDE)
    black = not our_result(Operation.POSTERISE, image[None], bits).any()
    try:
        theirs = timm_result(Operation.POSTERISE, image, 0)
    except ValueError as error:
        return black, f"raises ValueError: {error}"
    return black, "gives something else" if theirs.any() else "gives black"


def timm_draws(count: int) -> dict[str, list[float]]:
    """Draw the arguments of the operations that timm's policy, as built for DyTox, applies to ``count`` images.

    They are only recorded, not applied: no image is needed, and 0 bits do no harm. No global random state is touched.
    """
    from timm.data import auto_augment

    hparams = {"translate_const": 14, "img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    transform = auto_augment.rand_augment_transform(TIMM_POLICY, hparams)
    seen: dict[str, list[float]] = defaultdict(list)
    for op in transform.ops:
        op.aug_fn = lambda _, argument=0.0, name=op.name, **__: seen[name].append(argument)
    choice = SimpleNamespace(random=np.random.default_rng(0))
    with mock.patch.multiple(auto_augment, random=random.Random(0), np=choice):
        for _ in range(count):
            transform(None)
    return seen


def compare_draws(count: int) -> tuple[list[DrawComparison], float]:
    """Compare two operations for each of ``count`` images, drawn by us and by timm.

    A row for each operation, one for ``any``, and the p-value that none of them may be below.
    """
    choices = randaugment.draw(RandAugment(), Key(0), torch.arange(count))
    ours, theirs = {o: choices.arguments[choices.operations == o].tolist() for o in Operation}, timm_draws(count)
    pairs = {operation.name.lower(): (ours[operation], theirs[name]) for operation, name in TIMM_NAMES.items()}
    totals = tuple(sum(map(len, arguments)) for arguments in zip(*pairs.values(), strict=True))
    rounds = choices.operations.numel(), 2 * count
    compared = [
        (name, *_shares((len(pair[0]), len(pair[1])), totals), *_argument_test(*pair)) for name, pair in pairs.items()
    ]
    compared.append(("any", *_shares(totals, rounds), "none", None))
    allowed = ALPHA / sum(1 if row[-1] is None else 2 for row in compared)
    enough = [all(p is None or p >= allowed for p in (share_p, argument_p)) for *_, share_p, _, argument_p in compared]
    return [DrawComparison(*row, passed) for row, passed in zip(compared, enough, strict=True)], allowed


def _shares(counts: tuple[int, ...], totals: tuple[int, ...]) -> tuple[float, float, float]:
    rest = [total - count for count, total in zip(counts, totals, strict=True)]
    p = stats.chi2_contingency([counts, rest], correction=False).pvalue
    return counts[0] / totals[0], counts[1] / totals[1], float(p)


def _argument_test(ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, float | None]:
    """Return name and p-value of a test that two samples are of one distribution.

    Rounded first: timm stops the factors at 0.1, where 1 - 0.9 is the last bit less, and equal draws must be ties.
    With ties, such as those of clipped magnitudes, the Kolmogorov-Smirnov p-value is at worst too large.
    """
    samples = [np.round(sample, 9).tolist() for sample in (ours, theirs)]
    values = sorted({*samples[0], *samples[1]})
    if len(values) == 1:
        return "none", None
    if not all(samples):
        return "Kolmogorov-Smirnov", 0.0
    if len(values) > FEW:
        return "Kolmogorov-Smirnov", float(stats.ks_2samp(*samples, method="asymp").pvalue)
    counts = [Counter(sample) for sample in samples]
    # The last column holds all values that are too rare for one of their own.
    rare = {value for value in values if sum(count[value] for count in counts) < FEW}
    cells = [[*(count[v] for v in values if v not in rare), sum(count[v] for v in rare)] for count in counts]
    table = cells if rare else [row[:-1] for row in cells]
    return "chi-square", float(stats.chi2_contingency(table, correction=False).pvalue)


def photo_crops(size: int, count: int) -> np.ndarray:
    """Return crops (count, size, size, 3) of scikit-learn's two photographs in turn; the same ones each time."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photos = load_sample_images().images
    return np.stack([crop_photo(photos[i % len(photos)], size, size, generator) for i in range(count)])


def folder_images(folder: Path, size: int, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return centres (n, size, size, 3) of at most ``count`` pictures below a folder, and a line for each other one.

    The draw is the same each time. Raises ``UserError`` if there is no folder or no picture that can be read.
    """
    if not folder.is_dir():
        raise UserError(f"--images {folder} is no folder: name one with pictures in it, or leave --images out")
    below = sorted(path.relative_to(folder) for path in folder.rglob("*") if kind_of(path) is None)
    paths = tuple(path.as_posix() for path in below if not any(part.startswith(".") for part in path.parts))
    source = FolderSource("pictures", folder, paths, torch.zeros(len(paths), dtype=torch.int64), ("picture",))
    found: list[np.ndarray] = []
    skipped: list[str] = []
    for row in np.random.default_rng(0).permutation(len(paths)).tolist():
        if len(found) == count:
            break
        try:
            found.append(source.load_test(row, size).permute(1, 2, 0).numpy())
        except UnreadableImageError as error:
            skipped.append(f"skipped: {error}")
    if not found:
        raise UserError(f"--images {folder} holds no readable picture ({', '.join(FORMATS)}): add some")
    return np.stack(found), tuple(skipped)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: type {self.prog} --help")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="check_augmentation.py", description=(__doc__ or "").partition("\n")[0].partition(":")[0])
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="your own pictures; default: crops of two photos")
    parser.add_argument("--size", type=int, default=32, help=f"pixels of a side, 1 to {PHOTO_SIDE}; default: 32")
    parser.add_argument("--count", type=int, default=64, help="pictures, at least 1; default: 64")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    options = parser.parse_args(arguments)
    if not 1 <= options.size <= PHOTO_SIDE:
        raise UserError(f"--size {options.size} is not in 1 to {PHOTO_SIDE} pixels: type --size 32")
    if not 1 <= options.count <= 100_000:
        raise UserError(f"--count {options.count} must be 1 to 100000: type --count 64")
    if options.json is not None and (options.json.is_dir() or not options.json.parent.is_dir()):
        raise UserError(f"--json {options.json} cannot be written: name a file in a folder that exists")
    return options


def _table(rows: Sequence[Comparison] | Sequence[DrawComparison]) -> str:
    """Format the fields of the rows, each column as wide as needed."""
    lines = [[name.replace("_", " ") for name in vars(rows[0])], *([*map(_cell, vars(row).values())] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
    return str(value)


def _check(options: argparse.Namespace) -> bool:
    folder, size, count = options.images, options.size, options.count
    images, skipped = folder_images(folder, size, count) if folder else (photo_crops(size, count), ())
    sys.stderr.writelines(f"{line}\n" for line in skipped)
    whence = f"pictures below {folder}" if folder else "crops of scikit-learn's photographs"
    print(f"Ours against timm's on Pillow {pillow_version}: {len(images)} {whence}, {size} x {size}, in colour and in")
    print("grey. Largest and mean difference in grey levels; differing: share of the pixels.\n")
    compared = [compare(operation, images) for operation in Operation]
    print(_table(compared))
    drawn, allowed = compare_draws(DRAWS)
    print(f"\nTwo operations for each of {DRAWS} images, drawn by us and by timm's {TIMM_POLICY}. No p may be below")
    print(f"{allowed:.2g}: Bonferroni's correction of {ALPHA:g} for {ALPHA / allowed:.0f} tests.\n")
    print(_table(drawn))
    black, pillow = posterised_to_nothing(images[0])
    ours = "gives black" if black else "does not give black"
    print(f"\nPosterised to 0 bits (magnitude 10): ours {ours}, Pillow {pillow_version} {pillow}.")
    failed = [row.operation for row in compared if not row.passed] + ["0 bits"] * (not black)
    failed += [f"draws of {row.operation}" for row in drawn if not row.passed]
    print(f"Not within bounds: {', '.join(failed)}." if failed else "All within bounds.")
    if options.json is not None:
        report: dict[str, Any] = {"failed": failed, "pillow": pillow_version, "size": size, "skipped": skipped}
        report |= {"operations": [asdict(row) for row in compared], "draws": [asdict(row) for row in drawn]}
        report["posterised_to_0_bits"] = {"ours_is_black": black, "pillow": pillow}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return not failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables for the command line; the exit status is 0, or 1 if a bound does not hold, or 2."""
    try:
        return 0 if _check(_options(arguments)) else 1
    except (UserError, OSError) as error:
        print("check_augmentation.py:", *str(error).split(), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
