"""Classifiers that grow with the classes.

Legend: B batch, T tasks, D width, C classes, c classes of one task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Plain
from cl_lightning.models.layers import trunc_normal_linear

Embeddings = Float[Tensor, "B T D"]


def task_head(dim: int, num_new: int, key: Key, task: int) -> nn.Linear:
    """Draw a linear head for ``task`` on the CPU from the growth's ``key``.

    It is the same in every network that has one a task, so that a first task that trains a transformer with its head
    starts alike in all of them.
    """
    head = nn.Linear(dim, num_new)
    with rng.torch_seeded(key.fold("masked network", task)):
        trunc_normal_linear(head)
    return head


def only_newest(scores_Bc: Float[Tensor, "B c"], num_old: int) -> Float[Tensor, "B {num_old}+c"]:
    """Prepend minus infinity for each old class: their scores were not computed."""
    return F.pad(scores_Bc, (num_old, 0), value=-torch.inf)


class Head(nn.Module):
    """A classifier of LayerNorm and a linear map: one task's in DyTox."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B c"]:
        """Classify each embedding."""
        return self.head(self.norm(e_BD))


class TaskClassifier(nn.Module, ABC):
    """The interface of classifiers of a network of tokens: embeddings of an image to scores, grown task by task."""

    @abstractmethod
    def grow(self, num_new: int) -> None:
        """Add ``num_new`` classes; draws from torch's current stream."""

    @abstractmethod
    def sizes(self) -> list[int]:
        """Return the number of classes of each task."""

    @abstractmethod
    def forward(self, e_BTD: Embeddings) -> Float[Tensor, "B C"]:
        """Score all classes seen."""

    @abstractmethod
    def old_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that belong to earlier tasks alone."""

    @abstractmethod
    def new_parameters(self) -> list[nn.Parameter]:
        """Return the others: those that learning the newest task has to train."""

    @abstractmethod
    def structure(self) -> dict[str, Plain]:
        """Return a plain mapping with the ``kind`` and the options, beside width and classes."""


def _together(of_heads: Sequence[Float[Tensor, " _classes *rest"]]) -> Float[Tensor, "T c *rest"]:
    """Stack the tensors of all heads; heads with fewer classes are padded with zeros."""
    same = all(tensor.shape == of_heads[0].shape for tensor in of_heads)
    return torch.stack(list(of_heads)) if same else nn.utils.rnn.pad_sequence(list(of_heads), batch_first=True)


class IndependentHeads(TaskClassifier):
    """Heads of which head i reads embedding i; scores are concatenated in order of arrival (DyTox's "1-1"). Where there
    is one embedding (T = 1), all heads read it.

    All heads are applied at once: the embeddings are standardised together, each head's LayerNorm scale and shift are
    folded into its linear map, and the maps run as one batched product (padded to the largest task), so that fifty
    heads cost one kernel, not a hundred.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.heads = nn.ModuleList()

    def grow(self, num_new: int) -> None:
        """Append a head for ``num_new`` classes; draws from torch's current stream."""
        self.heads.append(Head(self.dim, num_new))

    def sizes(self) -> list[int]:
        """Return the number of classes of each head."""
        return [head.head.out_features for head in self.heads]  # type: ignore[union-attr,misc]

    def forward(self, e_BTD: Embeddings) -> Float[Tensor, "B C"]:
        """Score all classes seen, in one batched product."""
        sizes = self.sizes()
        linear, norm = [head.head for head in self._heads()], [head.norm for head in self._heads()]
        weight_TcD, bias_Tc = _together([each.weight for each in linear]), _together([each.bias for each in linear])
        gain_T1D, shift_T1D = (_together(of)[:, None] for of in ([n.weight for n in norm], [n.bias for n in norm]))
        bias_Tc = bias_Tc + (weight_TcD * shift_T1D).sum(-1)
        weight_TDc = (weight_TcD * gain_T1D).transpose(1, 2)
        standard_TBD = F.layer_norm(e_BTD, (self.dim,)).transpose(0, 1).expand(len(sizes), -1, -1)
        scores_TBc = torch.baddbmm(bias_Tc[:, None, :], standard_TBD.to(weight_TDc.dtype), weight_TDc)
        if min(sizes) == max(sizes):
            return scores_TBc.transpose(0, 1).flatten(1)
        return torch.cat([scores_TBc[t, :, :size] for t, size in enumerate(sizes)], dim=-1)

    def _heads(self) -> list[Head]:
        return list(self.heads)  # type: ignore[arg-type]

    def old_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all heads but the newest."""
        return [p for head in list(self.heads)[:-1] for p in head.parameters()]

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the newest head."""
        return [p for head in list(self.heads)[-1:] for p in head.parameters()]

    def structure(self) -> dict[str, Plain]:
        """Return its kind."""
        return {"kind": "independent"}


class JointHead(TaskClassifier):
    """A head on all embeddings at once: LayerNorm and a linear map from T D numbers to all classes seen.

    The classifier of DyTox's ablation without independent heads. Where a task brings an embedding, the input grows and
    the head is made anew, as in the published code (its mode ``''``). Where there is one embedding for all tasks, the
    input stays: then the norm and the rows of old classes keep their values and only the new rows are drawn. The second
    half is our reading: nothing public says what the ablation's rows without token expansion did.
    """

    def __init__(self, dim: int, *, input_grows: bool) -> None:
        """``dim`` is the width D of an embedding; ``input_grows``: a task brings one, else there is always one."""
        super().__init__()
        self.dim = dim
        self.input_grows = input_grows
        self.joint: Head | None = None
        self._sizes: list[int] = []

    def grow(self, num_new: int) -> None:
        """Make the head for all classes seen; draws from torch's current stream."""
        self._sizes.append(num_new)
        old, embeddings = self.joint, len(self._sizes) if self.input_grows else 1
        self.joint = Head(embeddings * self.dim, sum(self._sizes))
        if old is not None and not self.input_grows:
            _keep_rows(old, self.joint)

    def sizes(self) -> list[int]:
        """Return the number of classes of each task."""
        return list(self._sizes)

    def forward(self, e_BTD: Embeddings) -> Float[Tensor, "B C"]:
        """Score all classes from the concatenated embeddings."""
        assert self.joint is not None, "no class yet: grow first"
        return self.joint(e_BTD.flatten(1))

    def old_parameters(self) -> list[nn.Parameter]:
        """Return none: all classes share the head."""
        return []

    def new_parameters(self) -> list[nn.Parameter]:
        """Return all parameters of the head."""
        return list(self.parameters())

    def structure(self) -> dict[str, Plain]:
        """Return its kind; the decoder says whether its input grows."""
        return {"kind": "joint"}


@torch.no_grad()
def _keep_rows(old: Head, new: Head) -> None:
    """Copy the norm of ``old`` and its rows into ``new``."""
    new.norm.load_state_dict(old.norm.state_dict())
    new.head.weight[: old.head.out_features] = old.head.weight.to(new.head.weight)
    new.head.bias[: old.head.out_features] = old.head.bias.to(new.head.bias)


class GrowingClassifier(nn.Module, ABC):
    """The interface of classifiers of one embedding, to which the classes of a task are added."""

    @abstractmethod
    def grow(self, num_new: int) -> None:
        """Add ``num_new`` classes; draws from torch's current stream."""

    @abstractmethod
    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Score all classes seen."""

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return all parameters in the groups in which phases train and freeze them."""

    @abstractmethod
    def structure(self) -> dict[str, Plain]:
        """Return what tells how it is built, beside width and classes."""

    def reads_frozen_features(self) -> bool:
        """Return True once no phase will train what it reads."""
        return False


class GrowingLinear(GrowingClassifier):
    """A linear classifier to which rows are added: the head of methods that expand nothing else."""

    def __init__(self, dim: int, bias: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(0, dim))
        self.bias = nn.Parameter(torch.empty(0)) if bias else None

    def grow(self, num_new: int) -> None:
        """Add rows drawn as ``nn.Linear`` draws its own; the old rows keep their values."""
        new = nn.Linear(self.dim, num_new, bias=self.bias is not None)
        self.weight = nn.Parameter(torch.cat([self.weight.data, new.weight.data.to(self.weight)]))
        if self.bias is not None:
            self.bias = nn.Parameter(torch.cat([self.bias.data, new.bias.data.to(self.bias)]))

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Classify each embedding."""
        return F.linear(e_BD, self.weight, self.bias)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return one part: all rows."""
        return {"classifier": list(self.parameters())}

    def structure(self) -> dict[str, Plain]:
        """Return whether it has biases."""
        return {"bias": self.bias is not None}


class LinearByTask(GrowingClassifier):
    """The same classifier with a tensor for the rows of each task, so that old rows can be frozen."""

    def __init__(self, dim: int, bias: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.bias = bias
        self.tasks = nn.ModuleList()

    def grow(self, num_new: int) -> None:
        """Add rows drawn as ``nn.Linear`` draws its own."""
        self.tasks.append(nn.Linear(self.dim, num_new, bias=self.bias))

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Classify each embedding; the scores of the tasks stand in order of arrival."""
        return torch.cat([task(e_BD) for task in self.tasks], dim=-1)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the rows of all tasks but the newest, and of the newest."""
        old, new = list(self.tasks)[:-1], list(self.tasks)[-1:]
        return {
            "old_classes": [p for task in old for p in task.parameters()],
            "new_classes": [p for task in new for p in task.parameters()],
        }

    def structure(self) -> dict[str, Plain]:
        """Return its kind, and whether it has biases."""
        return {"head": "linear_by_task", "bias": self.bias}


class CosineByTask(GrowingClassifier):
    """Cosines of the embedding and a row for each class, times one learnt scale (Hou et al., UCIR, CVPR 2019, equation
    2).

    There is no bias, and one scale for all classes, which starts at 1. The rows of a task are a tensor of their own, so
    that old ones can be frozen.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.tasks = nn.ParameterList()
        self.scale = nn.Parameter(torch.ones(1))

    def grow(self, num_new: int) -> None:
        """Add rows drawn from U(-1 / sqrt(D), 1 / sqrt(D))."""
        bound = self.dim**-0.5
        self.tasks.append(nn.Parameter(torch.empty(num_new, self.dim).uniform_(-bound, bound)))

    def cosines(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return the cosine of each embedding with each class's row, in [-1, 1], in float32 or float64."""
        with torch.autocast(e_BD.device.type, enabled=False):  # differences of cosines near one are what is learnt
            rows_CD = torch.cat(list(self.tasks))
            return F.normalize(e_BD.to(rows_CD.dtype), dim=-1) @ F.normalize(rows_CD, dim=-1).T

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return the scaled cosines."""
        return self.scale * self.cosines(e_BD)

    def old_rows(self) -> Float[Tensor, "old D"]:
        """Return the rows of all tasks but the newest."""
        return torch.cat([self.tasks[0][:0], *list(self.tasks)[:-1]])

    def new_rows(self) -> nn.Parameter:
        """Return the rows of the newest task."""
        return self.tasks[-1]

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the rows of all tasks but the newest, those of the newest, and the scale."""
        rows = list(self.tasks)
        return {"old_classes": rows[:-1], "new_classes": rows[-1:], "scale": [self.scale]}

    def structure(self) -> dict[str, Plain]:
        """Return its kind."""
        return {"head": "cosine_by_task"}
