"""The rehearsal memory: the exemplars of each old class, best first.

It holds row numbers of the training source, never pixels. Lists are in herding order (iCaRL, Rebuffi et al. 2017), so
keeping fewer is cutting the tail. A memory is a value: :meth:`RehearsalMemory.update` returns another one, and a run
that is interrupted between the two still has the first.

Published runs stored a full budget on each process, up to W times too much (the erratum of DyTox). Here a budget is
a total: under the scope ``per_replica`` each of R replicas has lists of its own and 1/R of the budget.

A method may hold images out of training (BiC, Wu et al. 2019). They are a second list of each class, one for all
replicas, and a share of the budget: a class has as many images in the memory with it as without.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.types import Plain

KINDS = ("total", "per_class", "none")
SCOPES = ("global", "per_replica")

Rows = Int64[Tensor, " _rows"]
"""Row numbers of the training source, of any number."""


@dataclass(frozen=True)
class Budget:
    """Number of exemplars that may be stored, over all replicas together."""

    kind: str
    """``total``: ``size`` images, shared by the classes seen; ``per_class``: ``size`` images of each; ``none``."""
    size: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidSettingError("kind", self.kind, f"is not one of {', '.join(KINDS)}", "total")
        if self.size < 0:
            raise InvalidSettingError("size", self.size, "is negative", {"size": "0 or more", "kind": "none"})

    def quota(self, seen: int, replicas: int = 1, held_share: float = 0.0) -> Quota:
        """Return the images of each class that one of ``replicas`` lists may hold once ``seen`` classes are known.

        Of each class ``held_share`` of them, in [0, 1), are held out of training, rounded down.

        Raises:
            InvalidSettingError: a budget that leaves a class without exemplars, or without an image that is held out
                where there is such a share.
        """
        if self.kind == "none" or seen == 0:
            return Quota(0, 0)
        classes = seen if self.kind == "total" else 1
        images = Fraction(self.size // replicas, classes)
        share = Fraction(str(held_share))  # 0.1 as a float is a little more than a tenth
        least = math.ceil(1 / share) if share else 1
        if images < least:
            raise self._too_small(least, classes, replicas)
        if not share:
            return Quota(math.floor(images), 0)
        held = math.floor(share * images)
        # As BiC's authors round: at 80 classes and 2,000 images, 22 and 2 of 25.
        return Quota(min(math.ceil(images) - math.ceil(share * images), math.floor(images) - held), held)

    def _too_small(self, least: int, classes: int, replicas: int) -> InvalidSettingError:
        """Return the error of a budget below ``least`` images of each of the classes that share it."""
        wanted = f"the {classes} classes seen" if self.kind == "total" else "one exemplar a class"
        mends = {"size": f"{replicas * least * classes} or more", "kind": "none"}
        if least > 1:
            of = f" for each of the {classes} classes seen" if self.kind == "total" else " a class"
            wanted = f"{least} images{of}, one of them held out of training"
            del mends["kind"]  # without a memory there is nothing to hold out
        each = f" in each of {replicas} replicas" if replicas > 1 else ""
        return InvalidSettingError("size", self.size, f"is smaller than {wanted}{each}", mends)


@dataclass(frozen=True)
class Quota:
    """Numbers of images of one class, in one list."""

    exemplars: int
    held_out: int


@dataclass(frozen=True, eq=False)
class RehearsalMemory:
    """Lists of class -> ordered rows of the training source.

    Scope ``global``: one list, the same for every replica. Scope ``per_replica``: ``replicas`` lists, each
    seen by its own replica alone.
    """

    budget: Budget
    scope: str
    replicas: int
    lists: tuple[Mapping[int, Rows], ...] = ()
    """One mapping a list; rows are on the CPU, best first. Left empty: nothing stored yet."""
    held_share: float = 0.0
    """Share of each class's images that are held out of training, in [0, 1)."""
    held_out: Mapping[int, Rows] = field(default_factory=dict)
    """Label -> rows that are held out, for all replicas; those at the end are let go first."""

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InvalidSettingError("scope", self.scope, f"is not one of {', '.join(SCOPES)}", "global")
        if self.replicas < 1:
            raise InvalidSettingError("replicas", self.replicas, "is below 1", "1 or more")
        if not self.lists:
            object.__setattr__(self, "lists", tuple({} for _ in range(self.num_lists)))
        if len(self.lists) != self.num_lists:
            raise ValueError(f"scope={self.scope} keeps {self.num_lists} lists, not {len(self.lists)}")

    def _check_held_out(self) -> None:
        """Raise ``ValueError`` for an image that is held out and an exemplar too, or is held out twice."""
        if not 0 <= self.held_share < 1 or (self.held_out and not self.held_share):
            raise ValueError(f"a share of {self.held_share} cannot be held out")
        held = self.held_out_rows()
        if len(held) != len(held.unique()):
            raise ValueError("an image is held out of training twice")
        exemplars = [rows for each in self.lists for rows in each.values()] if len(held) else []
        if exemplars and bool(torch.isin(held, torch.cat(exemplars)).any()):
            raise ValueError("an image is held out of training and an exemplar too")

    @property
    def num_lists(self) -> int:
        """Number of lists; :meth:`update` takes one ranking for each."""
        return self.replicas if self.scope == "per_replica" else 1

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels with exemplars, ascending."""
        return tuple(sorted(self.lists[0]))

    def __len__(self) -> int:
        """Return the number of exemplars, over all lists; images that are held out are no exemplars."""
        return sum(len(rows) for exemplars in self.lists for rows in exemplars.values())

    def quota(self, seen: int) -> int:
        """Return a class's exemplars in each list once ``seen`` classes are known. Raises ``ValueError`` for none."""
        return self.budget.quota(seen, self.num_lists, self.held_share).exemplars

    def held_quota(self, seen: int) -> int:
        """Return a class's images that are held out once ``seen`` classes are known, for all lists together.

        Raises ``ValueError`` for none, where there is a share.
        """
        return self.num_lists * self.budget.quota(seen, self.num_lists, self.held_share).held_out

    def exemplars(self, replica: int = 0) -> dict[int, Rows]:
        """Return label -> rows, best first, as a replica sees them; labels ascending."""
        exemplars = self.lists[replica if self.scope == "per_replica" else 0]
        return {label: exemplars[label] for label in sorted(exemplars)}

    def rows(self, replica: int = 0, classes: Collection[int] | None = None) -> Rows:
        """Return the rows that a replica sees, of all classes or of some: classes ascending, each best first."""
        chosen = [rows for label, rows in self.exemplars(replica).items() if classes is None or label in classes]
        return torch.cat(chosen) if chosen else torch.empty(0, dtype=torch.int64)

    def update(self, new: Sequence[Mapping[int, Int[Tensor, " _rows"]]], seen: int, shares: int = 0) -> RehearsalMemory:
        """Return the memory after a task: old classes cut to the quota, the best of each new class added.

        Args:
            new: for each list (:attr:`num_lists`), new label -> ranked rows, best first. Rows beyond the quota are
                left out; a class with fewer keeps them all.
            seen: classes known, the new ones included.
            shares: classes that the quota is taken for, where it is not ``seen``.

        Raises:
            ValueError: a class that is in the memory already, lists that do not match, more classes than ``seen``, or
                a budget below one exemplar a class.
        """
        if len(new) != self.num_lists:
            raise ValueError(
                f"scope={self.scope} keeps {self.num_lists} lists but got {len(new)} rankings: pass one a list"
            )
        if any(ranking.keys() != new[0].keys() for ranking in new):
            raise ValueError("the replicas' rankings are of different classes: herd the same new classes in each")
        again = sorted(set(self.classes).intersection(*new))
        if again:
            raise ValueError(f"classes {again} are in the memory already: herd only the classes of the new task")
        quota, held = self.quota(shares or seen), self.held_quota(shares or seen)
        if quota == 0:
            return RehearsalMemory(self.budget, self.scope, self.replicas)
        held_out = {label: rows[:held].clone() for label, rows in self.held_out.items()}
        lists = tuple(_merge(old, added, quota) for old, added in zip(self.lists, new, strict=True))
        if any(len(exemplars) > seen for exemplars in lists):
            raise ValueError(f"the memory would hold more classes than the {seen} seen: count the new classes in")
        return replace(self, lists=lists, held_out=held_out)

    def hold_out(self, new: Mapping[int, Int[Tensor, " _rows"]], share: float) -> RehearsalMemory:
        """Return the memory with images of new classes that are held out, ``share`` of what it has of a class.

        Args:
            new: label -> rows, in the order in which they are kept.
            share: in (0, 1), the same for all tasks.

        Raises:
            ValueError: images of a class that are held out already, or that are exemplars.
        """
        again = sorted(set(new) & (set(self.held_out) | set(self.classes)))
        if again:
            raise ValueError(f"classes {again} are in the memory already: hold images out before they are learnt")
        added = {label: rows.to("cpu", torch.int64) for label, rows in new.items()}
        return replace(self, held_share=share, held_out={**self.held_out, **added})

    def held_out_rows(self) -> Rows:
        """Return all rows that are held out: classes ascending."""
        rows = [self.held_out[label] for label in sorted(self.held_out)]
        return torch.cat(rows) if rows else torch.empty(0, dtype=torch.int64)

    def without(self, classes: Collection[int]) -> RehearsalMemory:
        """Return the memory without these classes, which are to be herded anew."""
        lists = tuple({label: rows for label, rows in kept.items() if label not in classes} for kept in self.lists)
        return replace(self, lists=lists)

    def state(self) -> Plain:
        """Return everything as dicts, lists, numbers and strings, for a checkpoint."""
        lists = [
            {label: rows.tolist() for label, rows in self.exemplars(index).items()} for index in range(self.num_lists)
        ]
        state = {"budget": asdict(self.budget), "scope": self.scope, "replicas": self.replicas, "lists": lists}
        if self.held_share:
            held_out = {label: self.held_out[label].tolist() for label in sorted(self.held_out)}
            state |= {"held_share": self.held_share, "held_out": held_out}
        return state

    @staticmethod
    def from_state(state: Plain) -> RehearsalMemory:
        """Invert :meth:`state`; labels that JSON turned into strings are accepted.

        Raises ``ValueError`` where what is held out is not out of the exemplars.
        """
        memory = RehearsalMemory(
            Budget(**state["budget"]),
            state["scope"],
            state["replicas"],
            tuple(map(_of_labels, state["lists"])),
            state.get("held_share", 0.0),
            _of_labels(state.get("held_out", {})),
        )
        memory._check_held_out()
        return memory


def _of_labels(plain: Mapping[Plain, Sequence[int]]) -> dict[int, Rows]:
    return {int(label): torch.tensor(rows, dtype=torch.int64) for label, rows in plain.items()}


def _merge(old: Mapping[int, Rows], new: Mapping[int, Int[Tensor, " _rows"]], quota: int) -> dict[int, Rows]:
    merged = {**old, **{label: rows.to("cpu", torch.int64) for label, rows in new.items()}}
    # A clone lets go of the ranking that a prefix would keep alive.
    return {label: merged[label][:quota].clone() for label in merged}
