"""The opening of a run: a few lines that say what begins, notes on what is unusual, and details for the log.

The lines are for somebody who sees the program for the first time. All that is needed to repeat the run is in the
details, in ``config.yaml`` and in ``results.json``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cl_lightning.config.fill_auto import unread_switches
from cl_lightning.config.origin import origin_of
from cl_lightning.config.preprocess import USUAL, preprocess_text, size_option
from cl_lightning.config.schedule_scales import epochs_of, trained_phases, uses_of
from cl_lightning.config.schema import Config, JointConfig
from cl_lightning.core.origins import caution
from cl_lightning.core.paths import display_path
from cl_lightning.core.quantities import count_text
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.skipped_files import in_words
from cl_lightning.learning.display import PhaseSpan
from cl_lightning.resources.parameters import count
from cl_lightning.run.build_engine import on_gpu
from cl_lightning.run.protocol import augmentation_text, epochs, memory_name, own_pictures

_UNEVEN = 2
"""Ratio of the largest class to the smallest one from which the opening says so."""
_BALANCED = {
    "none": "",
    "loss": ", classes weighted by data.balance=loss",
    "sampling": ", classes drawn evenly by data.balance=sampling",
}
_LARGE_SIDE, _SMALL_SIDE = 128, 32
"""Sides of pictures in pixels: from the first on they are for a GPU, the second one is for a CPU."""
_LARGE_NETWORK = 4_000_000
"""Number of parameters from which a network is for a GPU."""
_SMALL_NETWORKS = {
    "transformer": "convit_tiny",
    "conv_transformer": "conv_vit_tiny",
    "vit": "vit_tiny",
    "cnn": "resnet32",
    "paths": "path_net_tiny",
}
"""Network for a CPU, by the kind of encoder."""
_NONE_TRAINED = "none: the network has been trained, and stays as it is"
_MOST_NAMES = 8
_LABEL = 9
"""Width of the column of labels."""
INDENT = _LABEL + 1
"""Column at which the text of a line begins."""


@dataclass(frozen=True)
class Opening:
    """The text that a run begins with."""

    lines: tuple[str, ...]
    """At most six: data, method, network, memory, training, files."""
    notes: tuple[str, ...]
    """Lines on what is unusual."""
    details: tuple[str, ...]
    """Lines for the log alone, and for ``verbose=2``."""


def opening(
    config: Config,
    scenario: Scenario,
    run_dir: Path,
    *,
    spans: Sequence[PhaseSpan] = (),
    resumed_at: str | None = None,
    notes: Sequence[str] = (),
) -> Opening:
    """Return the opening of a run.

    Args:
        config: of the run.
        scenario: its tasks.
        run_dir: folder of the run's files.
        spans: phases ahead.
        resumed_at: position at which an interrupted run goes on; None for one that begins.
        notes: further notes, of what makes its numbers mean less or its steps slow.
    """
    lines = {
        "data": _data(config, scenario),
        "method": _method(config),
        "network": _network(config, scenario),
        "memory": _memory(config, single=len(scenario.tasks) == 1),
        "training": _training(config, spans, single=len(scenario.tasks) == 1),
        "files": str(display_path(run_dir)),
    }
    all_notes = [
        *([f"going on with {resumed_at}"] if resumed_at else []),
        *_extension_notes(config, scenario),
        *notes,
        *([] if resumed_at else _slow_notes(config, scenario)),
        *_data_notes(config, scenario),
    ]
    return Opening(
        tuple(f"{label:<{_LABEL}} {text}" for label, text in lines.items()),
        tuple(f"{'note':<{_LABEL}} {note}" for note in all_notes),
        tuple(_details(config, scenario)),
    )


# ---- the lines -----------------------------------------------------------------------------------------------------


def _data(config: Config, scenario: Scenario) -> str:
    """Return the numbers of images, classes and tasks; of a run that extends another one, those of the new task."""
    if config.extends is not None:
        task, folder = scenario.tasks[-1], display_path(Path(config.extends.folders[-1].folder))
        images = f"{len(task.train):,} images to train on, {len(task.test):,} to evaluate on{_folder(scenario)}"
        return f"learns {shortened(task.names)} from {folder} ({images}){_preprocessing(config)}"
    trained, evaluated = len(_trained(scenario)), sum(len(task.test) for task in scenario.tasks)
    return (
        f"{_data_name(config)}: {trained:,} training and {evaluated:,} {scenario.evaluates_on} images"
        f"{_folder(scenario)}{_set_aside(scenario)}, {_classes(scenario)}{_preprocessing(config)}"
    )


def _preprocessing(config: Config) -> str:
    """Return how images are brought to the network, where that is unusual."""
    text = preprocess_text(config.data)
    return "" if text == USUAL else f"; preprocessing: {text}"


def _set_aside(scenario: Scenario) -> str:
    """Return the number of images that decide when to stop, where they are not those that are evaluated on."""
    count = 0 if scenario.evaluates_on != "test" else len(scenario.validation_rows(range(len(scenario.class_names))))
    return f" ({_number(count, 'image')} set aside to decide when to stop)" if count else ""


def _data_name(config: Config) -> str:
    data = config.data
    if own_pictures(config):
        return str(display_path(Path(data.root)))
    return ", then ".join(entry.name for entry in data.sets) or data.name


def _classes(scenario: Scenario) -> str:
    """Return the classes and how tasks bring them: ``10 classes in 5 tasks of 2``."""
    sizes, number = [task.num_new for task in scenario.tasks], len(scenario.class_names)
    classes = f"{number} class{'es' if number > 1 else ''}"
    if len(sizes) == 1:
        return f"{classes} in a single task"
    first, *rest = sizes
    if len(set(sizes)) == 1:
        how = f"of {first}"
    elif len(rest) > 1 and len(set(rest)) == 1:
        how = f"({first}, then {rest[0]} each)"
    else:
        shown = ", ".join(map(str, sizes[:_MOST_NAMES]))
        how = f"({shown}{', ...' if len(sizes) > _MOST_NAMES else ''})"
    return f"{classes} in {len(sizes)} tasks {how}"


def _method(config: Config) -> str:
    recipe = "" if config.recipe.name == "clean" else f", recipe {config.recipe.name}"
    return f"{config.method.name}{caution(origin_of(config))}{recipe}, seed {config.seed}"


def _network(config: Config, scenario: Scenario) -> str:
    counts = count(config, scenario.image_size, scenario.channels)
    more = f", and {count_text(counts.training_only)} that only training has" if counts.training_only else ""
    return (
        f"{config.model.name}, {count_text(counts.weights)} parameters in the first task{more}"
        f"{', pretrained' if _pretrained(config) else ''}, on {_device(config)}"
    )


def _pretrained(config: Config) -> bool:
    model = config.model
    given = getattr(model, "pretrained", False) or getattr(model, "weights_file", None)
    return bool(given or getattr(config.method, "backbone_file", None))


def _device(config: Config) -> str:
    trainer = config.trainer
    name = f"the GPU ({torch.cuda.get_device_name()})" if on_gpu(trainer) else "the CPU"
    if trainer.devices > 1:
        name = f"{trainer.devices} {'GPUs' if on_gpu(trainer) else 'processes of the CPU'}"
    return name if trainer.precision == "32-true" else f"{name} in {trainer.precision}"


def _memory(config: Config, *, single: bool) -> str:
    """Return how many images of earlier classes are kept."""
    memory = config.memory
    if single:
        return f"none needed: a single task{_for_later(config)}"
    if isinstance(config.method, JointConfig):
        return "none needed: every task trains on all images so far"
    if not config.method.rehearsal:
        return f"none: {config.method.name} keeps no images"
    if memory.budget == "none":
        return "none: no image of an earlier class is kept"
    each = "of each earlier class" if memory.budget == "per_class" else "of all earlier classes together"
    lists = f", by each of {config.batch.replicas} replicas" if memory.scope == "per_replica" else ""
    return f"{memory.size:,} training images {each} (exemplars){_held_out(config)}{lists}"


def _held_out(config: Config) -> str:
    """Return the share of them that is held out of training."""
    share = getattr(config.method, "held_out", 0.0)
    return f", {100 * share:g} % of them held out of training" if share else ""


def _for_later(config: Config) -> str:
    """Return what a run of one task keeps for the tasks that ``learn=`` may add."""
    if not config.method.rehearsal or config.memory.budget == "none":
        return ""
    each = " of each class" if config.memory.budget == "per_class" else ""
    return f"; up to {config.memory.size:,} images{each} (exemplars{_held_out(config)}) are kept for learn="


def _training(config: Config, spans: Sequence[PhaseSpan], *, single: bool) -> str:
    """Return the epochs of a task, and the steps that are ahead."""
    steps, images = sum(span.epochs * span.steps_per_epoch for span in spans), config.batch.size * config.batch.replicas
    length = f", {_number(steps, 'step')} of {_number(images, 'image')}" if steps else ""
    at_most = "at most " if config.early_stopping.patience is not None else ""
    only = {span.phase for span in spans} if single else set()
    if not trained_phases(config) or (config.extends is not None and not spans):
        return _NONE_TRAINED
    return f"{at_most}{_epochs(config, only)}{length}{_BALANCED[config.data.balance]}"


def _epochs(config: Config, only: Collection[str]) -> str:
    """Return the epochs of each phase: ``500 + 20 epochs a task (main + finetuning)``.

    Args:
        config: of the run.
        only: phases of its single task; empty for a run of several.
    """
    lengths = {name: epochs_of(name, phase, config) for name, phase in trained_phases(config).items()}
    if only:
        return _sum_of_epochs(lengths, [name for name in lengths if name in only])
    first = [name for name in lengths if uses_of(config.method)[name].first_task_if]
    later = [name for name in lengths if name not in first]
    if not first:
        return f"{_sum_of_epochs(lengths, later)} a task"
    in_later = f"{_sum_of_epochs(lengths, later)} in each later one" if later else "none in later ones"
    return f"{_sum_of_epochs(lengths, first)} in the first task, {in_later}"


def _sum_of_epochs(lengths: Mapping[str, int], names: Sequence[str]) -> str:
    if len(names) == 1:
        return _number(lengths[names[0]], "epoch")
    return f"{' + '.join(str(lengths[name]) for name in names)} epochs ({' + '.join(names)})"


def _number(number: int, of: str) -> str:
    return f"{number:,} {of}{'s' * (number != 1)}"


# ---- notes and details ---------------------------------------------------------------------------------------------


def _slow_notes(config: Config, scenario: Scenario) -> Iterator[str]:
    """Yield a note on a network that is meant for a GPU where there is none, with the options of a small one.

    Large are pictures of 128 pixels, whatever the network, and networks of some millions of parameters on pictures
    that are not tiny. A run that extends another one has its network already.
    """
    size = scenario.image_size
    weights = count(config, size, scenario.channels).weights
    large = size >= _LARGE_SIDE or (size >= _SMALL_SIDE and weights >= _LARGE_NETWORK)
    if not large or on_gpu(config.trainer) or config.extends is not None:
        return
    known = config.method.encoder in _SMALL_NETWORKS and not _pretrained(config)
    smaller = ", or type " + " ".join(_small_network(config, size)) if known else ""
    yield (f"{config.model.name} at {size} pixels is meant for a GPU, and learns slowly on a CPU: use a GPU{smaller}")


def _small_network(config: Config, size: int) -> Iterator[str]:
    """Yield the options of a network for a CPU, as far as they are not those of the run."""
    model = _SMALL_NETWORKS[config.method.encoder]
    if size > _SMALL_SIDE:
        yield f"{size_option(config.data)}={_SMALL_SIDE}"
    if config.model.name != model:
        yield f"model={model}"
    if size > _SMALL_SIDE and config.method.encoder != "cnn":
        yield "model.patch_size=8"


def _data_notes(config: Config, scenario: Scenario) -> Iterator[str]:
    """Yield notes on uneven classes, a folder that is not read, and files that were left out."""
    if not scenario.fingerprints:
        few, many = _extremes(scenario)
        if many[1] >= _UNEVEN * few[1]:
            mend = "; to weigh them alike, type data.balance=loss" if config.data.balance == "none" else ""
            yield f"uneven classes: {few[1]:,} training images of {few[0]} to {many[1]:,} of {many[0]}{mend}"
    if scenario.unused_folder:
        yield f"{scenario.unused_folder}/ is not used"
    if scenario.left_out:
        yield f"left out: {in_words(scenario.left_out)} (run.log names all)"


def _extension_notes(config: Config, scenario: Scenario) -> Iterator[str]:
    """Yield notes on the run that is extended, and on tasks that cannot be evaluated."""
    if config.extends is None:
        return
    old = scenario.tasks[-1].num_old
    yield f"goes on with {display_path(Path(config.extends.run))}, which has learnt {old} class{'es' * (old > 1)}"
    without = [str(task.index + 1) for task in scenario.tasks if len(task.test) == 0]
    if without:
        yield f"not evaluated, for want of test images: tasks {', '.join(without)}"


def _details(config: Config, scenario: Scenario) -> Iterator[str]:
    """Yield the protocol of the run in lines: setting, recipe, lengths, numbers of images."""
    unread = unread_switches(config.method)
    recipe = {
        k: v
        for k, v in dataclasses.asdict(config.recipe).items()
        if k not in ("name", "date", "replicas", "precision", *unread)
    }
    yield (
        f"{config.method.name} with {config.model.name} on {config.data.name}: {len(scenario.tasks)} tasks, "
        f"{len(scenario.class_names)} classes, memory {memory_name(config)}"
        f"{'' if config.method.rehearsal else f' ({config.method.name} keeps none)'}, "
        f"augmentation {augmentation_text(config.data)}, seed {config.seed}"
    )
    yield f"recipe {config.recipe.name} ({config.recipe.date}): " + ", ".join(f"{k}={v}" for k, v in recipe.items())
    yield f"batch {config.batch.replicas} x {config.batch.size}, {config.trainer.precision}, epochs {epochs(config)}"
    if not scenario.fingerprints:  # of earlier tasks only exemplars are at hand
        few, many = _extremes(scenario)
        each = f"{few[1]} each" if few[1] == many[1] else f"{few[1]} of {few[0]} to {many[1]} of {many[0]}"
        evaluated = sum(len(task.test) for task in scenario.tasks)
        unused = f"; {scenario.unused_folder}/ is not used" if scenario.unused_folder else ""
        yield (
            f"{len(_trained(scenario))} training images of {len(scenario.class_names)} classes ({each}), {evaluated} "
            f"{scenario.evaluates_on} images{_folder(scenario)}{unused}"
        )


def _trained(scenario: Scenario) -> torch.Tensor:
    """Return the labels of all images that are trained on."""
    return scenario.train_labels[scenario.train_labels >= 0]


def _extremes(scenario: Scenario) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the classes with the fewest and with the most training images, and these numbers."""
    counts = _trained(scenario).bincount(minlength=len(scenario.class_names)).tolist()
    few, many = counts.index(min(counts)), counts.index(max(counts))
    return (scenario.class_names[few], counts[few]), (scenario.class_names[many], counts[many])


def _folder(scenario: Scenario) -> str:
    return f" in {scenario.evaluation_folder}/" if scenario.evaluation_folder else ""


def shortened(names: Sequence[str]) -> str:
    """Return the names in a row, the first eight and the number of the others where there are many.

    >>> shortened(["cat", "dog"])
    'cat, dog'
    """
    if len(names) <= _MOST_NAMES + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} others"
