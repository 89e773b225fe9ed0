"""DER: dynamically expandable representation, without pruning.

Yan, Xie & He (CVPR 2021). What was learnt is never touched again: a task brings a whole feature extractor, and one
classifier reads them all (``models/extractor_network.py``). In a task:

1. **grow**: append an extractor that starts from the newest one's weights; enlarge the classifier (its block
   for old classes and features keeps its values);
2. **main phase** on the new images and the memory: L = CE over all classes + w CE of the auxiliary classifier, which
   reads the new extractor alone and takes all old classes for one (section 3.2; from the second task on). Old
   extractors are frozen, batch-norm statistics too;
3. **second stage** (from the second task on; section 3.4): a new classifier on frozen extractors and class-balanced
   data, with softmax(z / T): the imbalance of the main phase is gone, and T = 5 keeps few images from being
   fitted too closely;
4. **herd** exemplars of the new classes, with the concatenated features.

The second stage comes before herding, as published: its balanced subset is drawn from the data of the main phase, where
the memory has not yet been shrunk to make room. The exemplars are the same in either order, because only the classifier
changes in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Outputs,
    Phase,
    Plain,
    PlanItem,
    Readout,
    Task,
)
from cl_lightning.losses.classification import cross_entropy, group_old
from cl_lightning.methods.base import Method
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.tensor_types import Images, Scales

RESET_CLASSIFIER = "reset_classifier"
_RESET_KEY = "reset_key"


@dataclass(frozen=True)
class DEROptions:
    """Options of DER; ``conf/method/der.yaml`` has what is published for CIFAR-100."""

    auxiliary_weight: float
    temperature: float
    """Temperature of the softmax in the second stage, > 0 (published for ImageNet-100: 1)."""
    rehearsal: bool
    """True if there is a memory: without one there is nothing to herd, and no balanced second stage."""


class DER(Method):
    """The method of an extractor a task."""

    cuda_graph_safe = True
    network: ExtractorNetwork

    def __init__(self, network: ExtractorNetwork, main: Phase, second: Phase, options: DEROptions) -> None:
        """``second`` is the classifier's own phase, on ``View.BALANCED``."""
        assert main.name != second.name
        super().__init__(network)
        self._main = main
        self._second = second
        self._options = options
        self._reset_key: Key | None = None

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, learn a balanced classifier, herd, evaluate."""
        items: list[PlanItem] = [Grow(), Fit(self._main)]
        if self._options.rehearsal:
            if task.index > 0:
                items += [Act(RESET_CLASSIFIER), Fit(self._second)]
            items.append(Herd())
        return [*items, Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Append an extractor; store the key that the second stage's classifier is drawn from."""
        self._reset_key = key.fold(RESET_CLASSIFIER)
        self.network.grow(task.num_new, key)

    def train_mode(self, phase: Phase) -> None:
        """Set extractors that ``phase`` does not train to evaluation: their batch-norm statistics stay."""
        self.network.train()
        for extractor in self.network.extractors[:-1]:
            extractor.eval()
        if "new_extractor" not in phase.trains:
            self.network.extractors[-1].eval()

    def outputs(self, phase: Phase, images: Images, scales: Scales | None) -> Outputs:
        """Return the scores, and the auxiliary classifier's while it is trained."""
        features = self.network(images, scales)
        auxiliary = self.network.auxiliary(features) if "auxiliary" in phase.trains else None
        return Outputs(self.network.logits(features), features, auxiliary)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the terms of section 3.2; in the second stage, classification at a temperature (section 3.4)."""
        if phase.name == self._second.name:
            return {
                "classification": cross_entropy(
                    outputs.logits / self._options.temperature, batch.targets, batch.weights
                )
            }
        terms = {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}
        if outputs.auxiliary is not None:
            grouped = group_old(batch.targets, task.num_old)
            terms["auxiliary"] = self._options.auxiliary_weight * cross_entropy(
                outputs.auxiliary, grouped, batch.weights
            )
        return terms

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Draw the classifier anew."""
        if name != RESET_CLASSIFIER:
            return super().act(name, task, look)
        assert self._reset_key is not None
        self.network.reset_classifier(self._reset_key)
        return None

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: softmax, at the second stage's temperature once there has been one."""
        staged = self._options.rehearsal and len(self.network.extractors) > 1
        return {"linear": Readout("softmax", self._options.temperature if staged else 1.0)}

    def extra_state(self) -> dict[str, Plain]:
        """Return the key of the second stage's classifier: a run may be interrupted between growth and reset."""
        return {_RESET_KEY: None if self._reset_key is None else self._reset_key.value}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore the key. Raises ``ValueError`` for anything else than a value of :meth:`extra_state`."""
        value = state.get(_RESET_KEY)
        if set(state) != {_RESET_KEY} or not (value is None or isinstance(value, int)):
            given = ", ".join(state) or "nothing"
            raise InvalidFileError("the state", f"holds {given}, not a reset_key", "resume a run of method=der")
        self._reset_key = None if value is None else Key(value)


MAIN_PARTS = ("new_extractor", "classifier", "auxiliary")
"""Parts that the main phase trains: in the first task there is no auxiliary classifier."""
SECOND_PARTS = ("classifier",)
"""Parts that the second stage trains, on frozen extractors."""
