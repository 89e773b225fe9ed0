"""The comparison of any file of golden vectors with our code: its kind, and the verdict on each entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cl_lightning.core.errors import InvalidFileError
from scripts.reference import (
    bic_vectors,
    der_pruning_vectors,
    dkt_vectors,
    e2e_vectors,
    hat_vectors,
    lwf_vectors,
    model_vectors,
    podnet_vectors,
    ranpac_vectors,
    recipe_vectors,
    rpsnet_vectors,
    simplecil_vectors,
    ucir_vectors,
)
from scripts.reference.difference import Row, Verdict
from scripts.reference.vectors import META, VectorFile, is_daformer


@dataclass(frozen=True)
class Kind:
    """A format of golden files."""

    title: str
    matches: Callable[[VectorFile], bool]
    rows: Callable[[VectorFile], Iterable[Row]]
    is_input: Callable[[str], bool]
    """Predicate of entries that others are computed from, so that they need no comparison of their own."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of a file."""

    title: str
    rows: tuple[Row, ...]

    @property
    def counts(self) -> Counter[Verdict]:
        """Number of entries by verdict."""
        return Counter(row.verdict for row in self.rows)

    @property
    def passed(self) -> bool:
        """True if nothing differs and nothing is lacking."""
        return not any(row.verdict.failed for row in self.rows)


KINDS = {
    "daformer": Kind("DAFormer", is_daformer, model_vectors.rows, model_vectors.is_input),
    "lwf": Kind("LwF", lwf_vectors.matches, lwf_vectors.rows, lwf_vectors.is_input),
    "ucir": Kind("UCIR", ucir_vectors.matches, ucir_vectors.rows, ucir_vectors.is_input),
    "bic": Kind("BiC", bic_vectors.matches, bic_vectors.rows, bic_vectors.is_input),
    "der_pruning": Kind(
        "DER's pruning", der_pruning_vectors.matches, der_pruning_vectors.rows, der_pruning_vectors.is_input
    ),
    "rpsnet": Kind("RPS-Net", rpsnet_vectors.matches, rpsnet_vectors.rows, rpsnet_vectors.is_input),
    "e2e": Kind("End-to-End", e2e_vectors.matches, e2e_vectors.rows, e2e_vectors.is_input),
    "podnet": Kind("PODNet", podnet_vectors.matches, podnet_vectors.rows, podnet_vectors.is_input),
    "hat": Kind("HAT", hat_vectors.matches, hat_vectors.rows, hat_vectors.is_input),
    "ranpac": Kind("RanPAC", ranpac_vectors.matches, ranpac_vectors.rows, ranpac_vectors.is_input),
    "simplecil": Kind("SimpleCIL", simplecil_vectors.matches, simplecil_vectors.rows, simplecil_vectors.is_input),
    "dkt": Kind("DKT", dkt_vectors.matches, dkt_vectors.rows, dkt_vectors.is_input),
    "dytox": Kind("DyTox", lambda file: META in file, model_vectors.rows, model_vectors.is_input),
    "recipe": Kind("recipe of DyTox", recipe_vectors.matches, recipe_vectors.rows, recipe_vectors.is_input),
}
"""Kinds by name; a file is of the first kind that it matches."""


def kind_of(file: VectorFile) -> Kind:
    """Return the format of ``file``; ``ValueError`` where it is none that we know."""
    kind = next((kind for kind in KINDS.values() if kind.matches(file)), None)
    if kind is None:
        raise InvalidFileError(
            file.path,
            f"is no file of golden vectors: it has neither {META} nor herding*/, lr_used/ or "
            "repeated_augmentation/, nor settings.json of a recorded run",
        )
    return kind


def compare(file: VectorFile) -> Comparison:
    """Compare all that can be compared, and list what cannot.

    Raises:
        ValueError: no kind of file that we know, or one in which nothing can be checked.
    """
    kind = kind_of(file)
    rows = list(kind.rows(file))
    seen = {row.entry for row in rows}
    rows += [Row(n, Verdict.UNCHECKED) for n in file.names() if n not in seen and not kind.is_input(n)]
    if all(row.verdict in (Verdict.ABSENT, Verdict.UNCHECKED) for row in rows):
        raise InvalidFileError(file.path, "holds nothing that could be checked")
    return Comparison(kind.title, tuple(rows))
