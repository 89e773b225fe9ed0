"""The labels that say what a method is beside the paper that it is named after, and the rule for a run of it.

A file of ``conf/method`` gives a method's label. A run shows the label of :func:`origin_of_run`: a method that runs on
another kind of network than its authors' is an adaptation, whatever its file says.
"""

from __future__ import annotations

PUBLISHED, ADAPTATION, REFERENCE = "published", "adaptation", "reference"
RECONSTRUCTION = "reconstruction"
ORIGINS = {
    PUBLISHED: "the authors' method; its defaults are their network and schedule, as far as these are known",
    "published recipe": "the authors' method and published recipe; how the papers' tables were made is not known",
    RECONSTRUCTION: "rebuilt from text or partial code: there is no complete source that runs",
    ADAPTATION: "the authors' idea in another network or setting than theirs",
    REFERENCE: "no paper's method: a bound or a control",
}
"""Label -> its meaning."""


def origin_of_run(of_method: str, encoder: str, model: str, *, rebuilt: bool = False) -> str:
    """Return the label of a run.

    Args:
        of_method: label of its method.
        encoder: kind of network that the method is for: ``transformer``, ``conv_transformer``, ``cnn``, ``paths`` or
            ``vit``.
        model: kind of the network that it runs on.
        rebuilt: True for a run with a part that was rebuilt from another paper's text.

    >>> origin_of_run("published recipe", "cnn", "transformer")
    'adaptation'
    """
    if of_method != REFERENCE and encoder != model:
        return ADAPTATION
    return RECONSTRUCTION if rebuilt else of_method


def caution(origin: str) -> str:
    """Return a label in brackets for behind the name of a run's method; nothing for ``published``.

    A run of a published method need not be what was published: its size, epochs and options are its own.

    >>> caution("adaptation")
    ' (adaptation)'
    """
    return "" if origin == PUBLISHED else f" ({origin})"
