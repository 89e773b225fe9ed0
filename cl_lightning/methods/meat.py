"""MEAT: meta-attention for continual learning with vision transformers.

Xue, Zhang, Song & Song, "Meta-attention for ViT-backed Continual Learning" (CVPR 2022). A transformer that has been
trained before is frozen. A task learns which of the patches attention may look at (a bit for each patch and block),
which weights of the MLPs it uses (a bit for each), and a head: only bits and head are stored, and nothing that was
learnt is ever changed. In a task:

1. **grow**: a head, and logits of masks that keep everything;
2. **main phase** on the new images: L = CE + alpha L_dc, the cross-entropy of the task's own classes and the control of
   how many tokens are dropped (``losses/drop_control.py``);
3. **pack**: logits become bits (``models/masked_network.py``);
4. **class means** in the features of the frozen, unmasked transformer, where a read-out asks for them.

Without a transformer from elsewhere the first task trains it, unmasked, with its head (our option, for lack of weights;
the paper starts from ImageNet's). Without token masks this is about Piggyback, without any masks a classifier on frozen
features: the paper's cheap baselines.

The paper gives the task of a test image: task-incremental accuracy, which is counted for every method, is its
protocol. Without it a task has to be inferred, which is ours. Read-outs:

- ``linear``: all heads' scores side by side, each through its own masks;
- ``entropy``: the task whose own answer is surest, by entropy over the logarithm of its number of classes;
- ``class_mean``: the task of the nearest class mean of unmasked features.

The last two score the classes of the inferred task above all others. A task can be inferred once it has been packed.

Legend: B batch, C classes seen, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    TASK_INCREMENTAL,
    Act,
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Outputs,
    Phase,
    Plain,
    PlanItem,
    Readout,
    Task,
)
from cl_lightning.losses.classification import own_cross_entropy
from cl_lightning.losses.drop_control import drop_control
from cl_lightning.methods.base import Method
from cl_lightning.methods.class_means import CLASS_MEANS, nearest_mean_scores
from cl_lightning.methods.task_inference import of_inferred, surest
from cl_lightning.models.masked_network import MaskedNetwork
from cl_lightning.models.plain_vit import Weights
from cl_lightning.models.tensor_types import Images, Noise, Vectors

PACK = "pack"
READOUTS = ("linear", "entropy", "class_mean")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MEATOptions:
    """Options of MEAT; ``conf/method/meat.yaml`` has the paper's values."""

    keep: float
    """Share of tokens to keep (lambda)."""
    drop_weight: float
    """Weight of the drop control (alpha)."""
    readouts: tuple[str, ...]
    """Names among those above; the first is the main one."""


class MEAT(Method):
    """The method of masks on a frozen transformer."""

    protocol = TASK_INCREMENTAL
    cuda_graph_safe = True
    network: MaskedNetwork

    def __init__(
        self,
        network: MaskedNetwork,
        main: Phase,
        backbone: Phase | None,
        options: MEATOptions,
        load: Callable[[], Weights] | None = None,
    ) -> None:
        """``backbone`` trains the transformer in the first task; without it ``load`` gives the transformer's weights,
        when the first task begins.
        """
        super().__init__(network)
        self._main = main
        self._backbone = backbone
        self._options = options
        self._load = load
        self.couples_batch = "token_masks" in main.trains  # the drop control looks at means over a batch
        self.learnt = 0
        """Number of tasks that have been packed, which can be inferred."""
        self.class_means = torch.empty(0, network.vit.dim)
        """Class means (C, D), float32 on the CPU, rows of length one: of classes whose task has been learnt."""

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, pack, average, evaluate."""
        phase = self._main if self._backbone is None or task.index > 0 else self._backbone
        means: list[PlanItem] = [Act(CLASS_MEANS)] if "class_mean" in self._options.readouts else []
        return [Grow(), Fit(phase), Act(PACK), *means, Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Grow the network; before the first task, load the transformer."""
        if task.index == 0 and self._load is not None:
            self.network.vit.load_state_dict(self._load(), strict=True)
        self.network.grow(task.num_new, key)

    def outputs(self, phase: Phase, images: Images | Vectors, scales: Noise | None) -> Outputs:
        """Return the newest task's scores; ``scales`` is the noise of masks and depth (``MaskedNetwork.noise``)."""
        features = self.network.newest(images, scales)
        return Outputs(self.network.newest_logits(features), features)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the cross-entropy of the task's own classes, and the control of its token masks if it has any."""
        own = slice(task.num_old, task.num_seen)
        terms = {"classification": own_cross_entropy(outputs.logits, batch.targets, own, batch.weights)}
        if outputs.features.maps:
            control = drop_control(outputs.features.maps, self._options.keep)
            terms["drop_control"] = self._options.drop_weight * control
        return terms

    def monitored_scalars(self) -> dict[str, Float[Tensor, ""]]:
        """Return the share of each kind of mask that drops something by now."""
        return {f"masks/dropped_{kind}": share for kind, share in self.network.dropped().items()}

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Pack the task's masks, or average its images' features."""
        match name:
            case "pack":
                self._pack(task)
            case "class_means":
                self.class_means = torch.cat([self.class_means[: task.num_old], self._means(task, look)])
            case _:
                super().act(name, task, look)

    def _pack(self, task: Task) -> None:
        self.learnt = task.index + 1
        shares = {kind: share.item() for kind, share in self.network.dropped().items()}
        self.network.pack()
        for kind, dropped in shares.items():
            _log.info("task %d: its masks drop %.4f %% of the %s", task.index + 1, 100 * dropped, kind)
            if dropped == 0:
                _log.warning(
                    "task %d: no mask of the %s has moved, they are as without masks: type a larger "
                    "method.%s_rate, epochs_scale or lr_scale",
                    task.index + 1, kind, {"tokens": "token", "weights": "ffn"}[kind],
                )  # fmt: skip

    def _means(self, task: Task, look: DataAccess) -> Float[Tensor, "C_new D"]:
        rows = [look.rows_of(label) for label in task.classes]
        embedded = F.normalize(look.embed(torch.cat(rows), self.network.plain), dim=-1)
        means = [of_class.mean(dim=0) for of_class in embedded.split([len(its_rows) for its_rows in rows])]
        return F.normalize(torch.stack(means), dim=-1)

    @torch.no_grad()
    def predict(self, images: Images | Vectors) -> dict[str, Float[Tensor, "B C"]]:
        """Score by each read-out."""
        linear, sizes = self.network.logits(self.network(images)), self.network.sizes()
        made = {
            "linear": lambda: linear,
            "entropy": lambda: of_inferred(linear, sizes, surest(linear, sizes, self.learnt)),
            "class_mean": lambda: of_inferred(linear, sizes, self._nearest(images)),
        }
        return {name: made[name]() for name in self._options.readouts}

    def _nearest(self, images: Images | Vectors) -> Int64[Tensor, " B"]:
        """Infer tasks; the first, until there are means."""
        means_CD = self.class_means.to(images.device)
        if len(means_CD) == 0:
            return torch.zeros(len(images), dtype=torch.int64, device=images.device)
        class_B = nearest_mean_scores(self.network.plain(images), means_CD).argmax(dim=1)
        ends = torch.tensor(self.network.sizes()).cumsum(0).to(images.device)
        return torch.bucketize(class_B, ends, right=True)

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: softmax of each; the method infers the task, so only ``linear`` can be exported."""
        return {name: Readout("softmax", by_network=name == "linear") for name in self._options.readouts}

    def pending_readouts(self) -> frozenset[str]:
        """Return those that infer the task, until the newest one can be inferred: packed, or with its class means."""
        sizes = self.network.sizes()
        known = {"entropy": self.learnt == len(sizes), "class_mean": len(self.class_means) == sum(sizes)}
        return frozenset(name for name, complete in known.items() if not complete and name in self._options.readouts)

    def extra_state(self) -> dict[str, Plain]:
        """Return the values that a task is inferred by."""
        return {"learnt": self.learnt, CLASS_MEANS: self.class_means}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore the state. Raises ``ValueError`` for anything else than a value of :meth:`extra_state`."""
        means: Plain = state.get(CLASS_MEANS)
        fits = isinstance(means, Tensor) and means.ndim == 2 and means.shape[1] == self.network.vit.dim
        if not fits or set(state) != {"learnt", CLASS_MEANS}:
            given = ", ".join(state) or "nothing"
            reason = f"is not class means of {self.network.vit.dim} features"
            raise InvalidFileError(f"state of {given}", reason, "resume a run of method=meat")
        self.learnt, self.class_means = int(state["learnt"]), means.float().cpu()


def main_parts(*, token_masks: bool, ffn_masks: bool) -> tuple[str, ...]:
    """Return the parts that the main phase trains."""
    masked = [name for name, wanted in (("token_masks", token_masks), ("ffn_masks", ffn_masks)) if wanted]
    return (*masked, "head")


BACKBONE_PARTS = ("backbone", "head")
"""Parts that the first task trains where it makes the transformer."""
