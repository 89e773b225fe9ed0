"""The settings of the short runs: methods and their overrides.

Runs are small but not empty: three tasks of unequal sizes, warm-up, stochastic depth, a memory that shrinks, masks that
move, and rates large enough for something to be learnt. Whoever changes them here makes files that cannot be compared
with older ones. Only overrides that commit 93a97df knows may be used: older commits are run with them too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

COMMON = (
    "data=digits",
    "data.classes=7",
    "data.increment=[3,2,2]",
    "seed=0",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.precision=32-true",
    "trainer.progress=none",
    "trainer.log_every=1",
    "logger=csv",
    "verbose=0",
)
_SHORT = ("epochs_scale=0.01", "method.main.warmup_epochs=100")
_CONVIT = ("model=convit_tiny", "model.drop_path=0.1", *_SHORT, "method.main.warmup_lr=0.002")
_EPOCHS = "method.main.epochs=300"
_BALANCED = "balanced_epochs_scale=0.1"
"""Override for methods with a phase on balanced data alone: an option that nothing reads is refused."""


@dataclass(frozen=True)
class Group:
    """Runs that share their overrides, and so a process."""

    methods: tuple[str, ...]
    overrides: tuple[str, ...]
    suffix: str = ""
    """Suffix of the runs' names, where a method is run in more than one way."""

    def name(self, method: str) -> str:
        """Return the name of a method's run."""
        return method + self.suffix


GROUPS = (
    Group(
        ("dytox", "dytox_plus", "dytox_plusplus", "daformer_m", "daformer_s"),
        (*COMMON, *_CONVIT, _EPOCHS, _BALANCED, "recipe=clean", "lr_scale=4"),
    ),
    Group(
        ("dkt",),
        (
            *COMMON, "model=conv_vit_tiny", "model.drop_path=0.1", *_SHORT, "method.main.warmup_lr=0.002", _EPOCHS,
            _BALANCED, "recipe=clean", "lr_scale=4",
        ),
    ),
    Group(("finetune", "joint"), (*COMMON, *_CONVIT, _EPOCHS, "recipe=clean", "lr_scale=4")),
    Group(
        ("meat", "piggyback", "classifier_only", "individual"),
        (
            *COMMON, "model=vit_tiny", "model.drop_path=0.1", "recipe=meat", "recipe.lr_follows_batch=false",
            "lr_scale=8", "epochs_scale=0.02", "method.main.epochs=200", "method.main.warmup_epochs=50",
        ),
    ),
    Group(
        ("hat",),
        (*COMMON, "method.main.epochs=8", "epochs_scale=1", "model=resnet8", "recipe=clean", "method.s_max=50"),
    ),
    Group(("lwf", "icarl", "ucir", "podnet", "wa"), (*COMMON, *_SHORT, _EPOCHS, "model=resnet8", "recipe=clean")),
    Group(("bic", "e2e", "der"), (*COMMON, *_SHORT, _EPOCHS, _BALANCED, "model=resnet8", "recipe=clean")),
    Group(
        ("rpsnet",),
        (
            *COMMON, *_SHORT, _EPOCHS, "model=path_net_tiny", "recipe=clean", "method.candidates=2",
            "data.augmentation=rotation",
        ),
    ),
    Group(
        ("simplecil", "ranpac"),
        (*COMMON, "epochs_scale=0.02", "method.backbone.epochs=300", "model=resnet8", "recipe=clean"),
    ),
    Group(
        ("dytox", "dytox_plusplus"),
        (
            *COMMON, *_CONVIT, "method.main.epochs=900", _BALANCED, "recipe=erratum_2022_06",
            "memory.scope=per_replica", "lr_scale=32",
        ),
        suffix="-erratum",
    ),
)  # fmt: skip
"""Each method once, and DyTox as it was published: two virtual replicas with memories of their own."""


def names(groups: Sequence[Group]) -> list[str]:
    """Return the names of all runs, in order."""
    return [group.name(method) for group in groups for method in group.methods]


def chosen(groups: Sequence[Group], only: Collection[str], further: Sequence[str] = ()) -> list[Group]:
    """Return the groups with the runs named in ``only`` (all, if it is empty); ``further`` overrides replace those
    with the same key.

    Raises:
        ValueError: no run has that name.
    """
    for name in only:
        if name not in names(groups):
            raise ValueError(f"--only {name} is no run: type --only with some of {','.join(names(groups))}")
    keys = {override.partition("=")[0] for override in further}
    picked = [
        replace(
            group,
            methods=tuple(method for method in group.methods if not only or group.name(method) in only),
            overrides=(*(one for one in group.overrides if one.partition("=")[0] not in keys), *further),
        )
        for group in groups
    ]
    return [group for group in picked if group.methods]
