"""Reasons why a run's numbers mean less than they seem to, as far as its configuration and data show them beforehand.

One line each, with what to type: reported at the start, and saved beside the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from cl_lightning.config.early_stopping import stops_early
from cl_lightning.config.schedule_scales import epochs_of, scale_name, trained_phases
from cl_lightning.config.schema import Config, DERConfig, JointConfig, RPSNetConfig
from cl_lightning.config.unused.conditions import has_no_split
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.run.protocol import own_pictures

_NEARLY_ALL = 0.9
"""Share of the old training images that a memory may hold before a run is hardly continual any more."""
_A_TENTH = 0.1
_PUBLISHED_PATHS = 8
"""Candidates that RPS-Net's authors try."""
_FEW = 20
"""Images of a task to evaluate on, up to which one of them is five points of its accuracy."""


def caveats(config: Config, scenario: Scenario) -> list[str]:
    """Return a line for each caveat, the most serious first."""
    return [line for check in _CHECKS for line in check(config, scenario)]


def _remembers_all(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report a memory that holds nearly all old images; how many a run before ``learn=`` had is not known."""
    if config.memory.budget == "none" or config.extends is not None or len(scenario.tasks) < 2:
        return
    lists = config.batch.replicas if config.memory.scope == "per_replica" else 1
    old = scenario.tasks[-1].num_old
    counts = scenario.train_labels[scenario.train_labels >= 0].bincount(minlength=len(scenario.class_names)).tolist()
    size = config.memory.size
    per_list = size // lists // old if config.memory.budget == "total" else size // lists
    images, stored = sum(counts[:old]), sum(min(count, per_list * lists) for count in counts[:old])
    if stored < _NEARLY_ALL * images:
        return
    smaller = max(lists * len(counts), round(_A_TENTH * sum(counts)))
    if config.memory.budget == "per_class":
        smaller = max(lists, smaller // len(counts))
    share = "all" if stored == images else str(stored)
    if own_pictures(config):
        yield (
            f"memory.size={size} keeps {share} of the {images} training images of earlier tasks: good for use, no test "
            f"of continual learning; for one type memory.size={smaller}, for example"
        )
        return
    yield (
        f"memory.size={size} keeps {share} of the {images} training images of earlier tasks: this is close to joint "
        f"training; type memory.size={smaller}, for example, or memory=none"
    )


def _single_task(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report a run of one task that is not meant as joint training: for somebody's own pictures a plain classifier is
    a fine thing to want.
    """
    if len(scenario.tasks) > 1 or isinstance(config.method, JointConfig):
        return
    if own_pictures(config):
        yield "all classes are learnt at once, as by any classifier; to add more later, type learn=RUN_DIR data.new=DIR"
        return
    yield (
        "all classes come in a single task: this is joint training, and nothing can be forgotten; type "
        "data.increment=N with fewer classes a task"
    )


def _single_classes(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report tasks with a single class: where the task of an image is given, so is its class."""
    alone = [task.index + 1 for task in scenario.tasks if task.num_new == 1]
    if not alone or len(scenario.tasks) == 1:
        return
    every = len(alone) == len(scenario.tasks)
    which = "each task has" if every else f"task {alone[0]} has" if len(alone) == 1 else f"{len(alone)} tasks have"
    mend = "teach it more classes at a time" if config.extends is not None else "type data.increment=2 or more"
    yield (
        f"{which} a single class, so that task-incremental accuracy is 100 % there whatever was learnt: look at "
        f"class-incremental accuracy alone, or {mend}"
    )


def _few_images(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report the task with the fewest images to evaluate on, if they are very few."""
    evaluated = [task for task in scenario.tasks if len(task.test)]
    if not evaluated:
        return
    fewest = min(evaluated, key=lambda task: len(task.test))
    number = len(fewest.test)
    if number > _FEW:
        return
    data = config.data
    draws = scenario.evaluates_on == "test" and own_pictures(config) and has_no_split(data.root)
    on_share = data.validation > 0 and scenario.evaluates_on == "validation"
    share = "data.validation" if on_share else "data.test_share" if draws else None
    mend = f"type a larger {share} than {getattr(data, share.removeprefix('data.')):g}, or " if share else ""
    yield (
        f"task {fewest.index + 1} is evaluated on {number} image{'s' if number > 1 else ''}, each of which is "
        f"{100 / number:.3g} points of its accuracy: {mend}add images"
    )


def _few_to_stop_by(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report the task with the fewest images to decide when to stop, if they are very few."""
    newest = scenario.tasks if scenario.newest is None else scenario.tasks[-1:]
    if not stops_early(config) or not newest:
        return
    number, task = min((len(scenario.validation_rows(task.classes)), task.index) for task in newest)
    if number <= _FEW:
        yield (
            f"early stopping judges task {task + 1} by {number} image{'s' if number > 1 else ''}, mostly by chance: "
            f"type a larger data.validation than {config.data.validation:g}, early_stopping.monitor=loss, or leave "
            "early stopping out"
        )


def _one_epoch(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report schedules that were shortened to one epoch, as ``debug=smoke`` does, and phases with another scale."""
    trained = trained_phases(config)
    short = {name: phase for name, phase in trained.items() if epochs_of(name, phase, config) == 1 < phase.epochs}
    if not short:
        return
    left = ", ".join(f"{name} (of {phase.epochs})" for name, phase in short.items())
    scales = list(dict.fromkeys(scale_name(config.method, name) for name in short))
    others = [
        f"; {name} has {epochs_of(name, phase, config)} of {phase.epochs} epochs by {scale}"
        for name, phase in trained.items()
        if phase.epochs_scale is None and (scale := scale_name(config.method, name)) not in scales
    ]
    yield (
        f"a single epoch is left of {left}: its numbers mean little, type a larger {' and '.join(scales)}"
        f"{''.join(others)}"
    )


def _own_pruning(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report extractors that are pruned: no public code does, and no paper's text has all that it takes."""
    method = config.method
    if not isinstance(method, DERConfig) or method.pruning is None:
        return
    if method.pruning.rule == "masks":
        yield (
            "DER's pruning is rebuilt from formulae of the paper, its hyper-parameters are ours: type the "
            "method.pruning.sparsity that python scripts/calibrate_pruning.py target=N finds for a number of parameters"
        )
        return
    yield (
        "extractors cut by their scales are an adaptation from Simple-DER's abstract, from which the paper's method "
        "cannot be rebuilt: compare with nothing published, or type method.pruning.rule=masks"
    )


def _few_paths(config: Config, scenario: Scenario) -> Iterator[str]:
    """Report that fewer paths are tried than in the published runs of RPS-Net, where any is drawn."""
    method = config.method
    if not isinstance(method, RPSNetConfig) or len(scenario.tasks) <= method.path_every:
        return
    if method.candidates < _PUBLISHED_PATHS:
        yield (
            f"method.candidates={method.candidates} is fewer than the {_PUBLISHED_PATHS} paths that the published runs "
            "try for each new one; type method.candidates=8"
        )


_CHECKS = (
    *(_remembers_all, _single_task, _single_classes, _few_images, _few_to_stop_by, _one_epoch),
    *(_own_pruning, _few_paths),
)
"""From the most serious on."""
