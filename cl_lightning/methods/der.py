"""DER: dynamically expandable representation.

Yan, Xie & He (CVPR 2021). What was learnt is never touched again: a task brings a whole feature extractor, and one
classifier reads them all (``models/extractor_network.py``). In a task:

1. **grow**: append an extractor that starts from the newest one's weights; enlarge the classifier (its block
   for old classes and features keeps its values);
2. **main phase** on the new images and the memory: L = CE over all classes + w CE of the auxiliary classifier, which
   reads the new extractor alone and takes all old classes for one (section 3.2; from the second task on). Old
   extractors are frozen, batch-norm statistics too;
3. **prune**, an option: the extractor loses channels for good (``models/prunable_resnet.py``), and the next one starts
   from a copy of what it was before. No public code prunes: the masks are the paper's formulae (section 3.3), with
   L + w L_S, the sparsity loss, in the main phase; thresholds, sharpness and weights are ours. Another rule removes the
   smallest batch-norm scales, and a short phase may fine-tune what is left: both are ours;
4. **second stage** (from the second task on; section 3.4): a new classifier on frozen extractors and class-balanced
   data, with softmax(z / T): the imbalance of the main phase is gone, and T = 5 keeps few images from being
   fitted too closely;
5. **herd** exemplars of the new classes, with the concatenated features.

The second stage comes before herding, as published: its balanced subset is drawn from the data of the main phase, where
the memory has not yet been shrunk to make room. The exemplars are the same in either order, because only the classifier
changes in between.

Distillation of the old scores in the main phase, another option, is not DER's (Simple-DER names it in its abstract).
The old extractors stand still, so that the old classifier is all there is to remember of a teacher.

Legend: B batch, C classes.
"""

from __future__ import annotations

import logging
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
    Progress,
    Readout,
    Task,
)
from cl_lightning.losses.classification import cross_entropy, group_old
from cl_lightning.losses.distillation import soft_cross_entropy
from cl_lightning.losses.sparsity import sparsity_loss
from cl_lightning.methods.base import Method
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.prunable_resnet import CHANNEL_MASKS
from cl_lightning.models.tensor_types import Images, Scales

RESET_CLASSIFIER = "reset_classifier"
PRUNE = "prune"
_RESET_KEY, _DENSE, _REMEMBERED = "reset_key", "dense/", "remembered"

Weights = dict[str, Tensor]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruning:
    """The rule by which an extractor loses channels behind its main phase."""

    share: float | None
    """Share of its parameters that is left, by batch norm's scales; None: what masks have closed goes."""
    sparsity: float
    """Weight of the sparsity loss of masks."""
    area: bool
    """True: that loss counts a kernel's area; False: its side."""
    fresh: bool
    """True: a task's extractor is drawn anew; False: it starts from the newest one as that was before it was pruned."""


@dataclass(frozen=True)
class DEROptions:
    """Options of DER; ``conf/method/der.yaml`` has what is published for CIFAR-100."""

    auxiliary_weight: float
    temperature: float
    """Temperature of the softmax in the second stage, > 0 (published for ImageNet-100: 1)."""
    rehearsal: bool
    """True if there is a memory: without one there is nothing to herd, and no balanced second stage."""
    pruning: Pruning | None
    """None: extractors stay as they are, as in the authors' code."""
    kd_weight: float
    """Weight of the distillation of old scores, times the share of old classes; 0: none."""
    kd_temperature: float


class DER(Method):
    """The method of an extractor a task."""

    cuda_graph_safe = True
    network: ExtractorNetwork

    def __init__(
        self,
        network: ExtractorNetwork,
        main: Phase,
        second: Phase,
        options: DEROptions,
        finetuning: Phase | None = None,
    ) -> None:
        """``second`` is the classifier's own phase, on ``View.BALANCED``; ``finetuning`` that of a pruned extractor.
        With ``options.pruning`` the extractors are prunable, and ``main`` trains their masks if they have any.
        """
        assert main.name != second.name
        super().__init__(network)
        self._main = main
        self._second = second
        self._finetuning = finetuning
        self._options = options
        self._reset_key: Key | None = None
        self._dense: Weights | None = None
        """Weights of the newest extractor before it was pruned, until another one has started from them."""

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, prune, learn a balanced classifier, herd, evaluate."""
        items: list[PlanItem] = [Grow(), Fit(self._main)]
        if self._options.pruning is not None:
            items.append(Act(PRUNE))
            items += [] if self._finetuning is None else [Fit(self._finetuning)]
        if self._options.rehearsal:
            if task.index > 0:
                items += [Act(RESET_CLASSIFIER), Fit(self._second)]
            items.append(Herd())
        return [*items, Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Append an extractor; store the key that the second stage's classifier is drawn from."""
        self._reset_key = key.fold(RESET_CLASSIFIER)
        if self._options.kd_weight > 0 and self.network.classifier is not None:
            (readout,) = self.readouts().values()  # its scores are fitted under that temperature
            self.network.remember(self.network.classifier.weight.detach() / readout.temperature)
        self.network.grow(task.num_new, key)
        newest = self.network.newest_prunable()
        if newest is not None and self._dense is not None:
            newest.load_dense(self._dense)
            self._dense = None

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
        if self._options.kd_weight > 0 and task.num_old > 0:
            terms["distillation"] = self._distillation(task, outputs)
        pruning, newest = self._options.pruning, self.network.newest_prunable()
        if pruning is not None and newest is not None and CHANNEL_MASKS in phase.trains:
            terms["sparsity"] = pruning.sparsity * sparsity_loss(newest.links(area=pruning.area))
        return terms

    def _distillation(self, task: Task, outputs: Outputs) -> Float[Tensor, ""]:
        """Return the distillation of the scores of before growth, weighted by the share of old classes (as WA's)."""
        remembered = self.network.remembered_logits(outputs.features)
        ours = outputs.logits[:, : task.num_old]
        distilled = soft_cross_entropy(ours, remembered, self._options.kd_temperature)
        return self._options.kd_weight * task.num_old / task.num_seen * distilled

    def after_step(self, progress: Progress) -> None:
        """Sharpen the masks for the next batch of the epoch; behind the last one, set them back for the next epoch."""
        newest = self.network.newest_prunable()
        if newest is not None:
            batches = progress.total_steps // progress.epochs
            newest.anneal(progress.step % batches, batches)

    def monitored_scalars(self) -> dict[str, Float[Tensor, ""]]:
        """Return the share of channels whose masks are open by now."""
        newest = self.network.newest_prunable()
        share = None if newest is None else newest.open_share()
        return {} if share is None else {"masks/open_channels": share}

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Prune the newest extractor, or draw the classifier anew."""
        match name:
            case "prune":
                self._prune(task)
            case "reset_classifier":
                assert self._reset_key is not None
                self.network.reset_classifier(self._reset_key)
            case _:
                super().act(name, task, look)

    def _prune(self, task: Task) -> None:
        pruning, newest = self._options.pruning, self.network.newest_prunable()
        assert pruning is not None
        assert newest is not None
        self._dense = None if pruning.fresh else newest.dense_weights()
        before = sum(p.numel() for p in newest.parts()["backbone"])
        newest.prune(pruning.share)
        left = sum(p.numel() for p in newest.parameters())
        _log.info("task %d: %d of its extractor's %d parameters are left", task.index + 1, left, before)

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: softmax, at the second stage's temperature once there has been one."""
        staged = self._options.rehearsal and len(self.network.extractors) > 1
        return {"linear": Readout("softmax", self._options.temperature if staged else 1.0)}

    def extra_state(self) -> dict[str, Plain]:
        """Return what an interruption must not lose: the key of the second stage's classifier, the weights that the
        next extractor starts from, and the classifier whose scores are distilled.
        """
        dense = {f"{_DENSE}{name}": value for name, value in (self._dense or {}).items()}
        remembered = {} if self.network.remembered is None else {_REMEMBERED: self.network.remembered.cpu()}
        return {_RESET_KEY: None if self._reset_key is None else self._reset_key.value, **dense, **remembered}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore the state. Raises ``ValueError`` for anything else than a value of :meth:`extra_state`."""
        value, remembered = state.get(_RESET_KEY), state.get(_REMEMBERED)
        dense = {name.removeprefix(_DENSE): each for name, each in state.items() if name.startswith(_DENSE)}
        known = {_RESET_KEY, _REMEMBERED, *(f"{_DENSE}{name}" for name in dense)}
        fits = _RESET_KEY in state and set(state) <= known and (value is None or isinstance(value, int))
        if not fits or not self._fits(dense) or not self._remembers(remembered):
            given = ", ".join(state)[:80] or "nothing"
            reason = f"holds {given}, not a reset_key and what its options need"
            raise InvalidFileError("the state", reason, "resume a run of method=der")
        self._reset_key = None if value is None else Key(value)
        self._dense = dense or None
        self.network.remember(remembered)

    def _fits(self, dense: dict[str, Plain]) -> bool:
        """Return whether these are weights of a dense extractor, or none."""
        newest, pruning = self.network.newest_prunable(), self._options.pruning
        starts = newest is not None and newest.pruned and pruning is not None and not pruning.fresh
        if not starts or newest is None:
            return not dense
        return all(isinstance(each, Tensor) for each in dense.values()) and newest.fits(dense)

    def _remembers(self, classifier: Plain) -> bool:
        """Return whether this is a classifier of before the newest task, or None where there is none."""
        *before, _ = self.network.structure()["classes"] or [0]
        if self._options.kd_weight == 0 or not before:
            return classifier is None
        return isinstance(classifier, Tensor) and classifier.shape == (sum(before), self.network.dim * len(before))


MAIN_PARTS = ("new_extractor", "classifier", "auxiliary")
"""Parts that the main phase trains: in the first task there is no auxiliary classifier."""
SECOND_PARTS = ("classifier",)
"""Parts that the second stage trains, on frozen extractors."""
FINETUNING_PARTS = MAIN_PARTS
"""Parts that fine-tuning trains behind pruning."""
