"""DyTox and DAFormer once more, slow and literal: tensors in a dict, a loop over tasks, all attention written out.

Shares nothing with the package. It computes all entries of a golden file from parameters, images and labels, so that
it can be held against the published numbers, and it can then make files of any sizes. By the formulae of the papers:
ConViT (ICML 2021), DyTox (CVPR 2022), AdamW (ICLR 2019), ASAM (ICML 2021).

Legend: B batch, N patches, D width, H heads, E = D / H.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
SMALL: dict[str, Any] = {
    "embed_dim": 6, "num_heads": 3, "num_sab": 1, "image_size": 4, "patch_size": 2, "increments": [2, 1],
    "batch": 4, "lr": 1e-3, "weight_decay": 1e-6, "adam_betas": [0.9, 0.999], "adam_eps": 1e-8,
    "sam_rho": 3.0, "sam_adaptive": True, "mixup_lambda": 0.3, "label_smoothing": 0.1, "head_div_weight": 0.1,
    "distillation_tau": 1.0, "layernorm_eps": 1e-5, "encoder_layernorm_eps": 1e-5, "steps": 10,
}  # fmt: skip


# ---- forward ---------------------------------------------------------------------------------------------------------


def norm(p: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p: State, name: str, x: Tensor) -> Tensor:
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def mlp(p: State, name: str, x: Tensor) -> Tensor:
    h = linear(p, f"{name}.fc1", x)
    return linear(p, f"{name}.fc2", 0.5 * h * (1 + torch.erf(h / math.sqrt(2))))


def softmax(scores: Tensor) -> Tensor:
    powers = (scores - scores.max(-1, keepdim=True).values).exp()
    return powers / powers.sum(-1, keepdim=True)


def patches(p: State, x: Tensor) -> Tensor:
    """(B, N, D): each square of pixels times each filter, row by row."""
    weight = p["patch_embed.weight"]
    size = weight.shape[-1]
    tokens = []
    for top in range(0, x.shape[2], size):
        for left in range(0, x.shape[3], size):
            square = x[:, :, top : top + size, left : left + size].flatten(1)
            tokens.append(square @ weight.flatten(1).T + p["patch_embed.bias"])
    return torch.stack(tokens, dim=1) + p["pos_embed"]


@lru_cache
def relative(count: int) -> Tensor:
    side = round(count**0.5)
    features = torch.zeros(count, count, 3)
    for n in range(count):
        for m in range(count):
            dx, dy = m % side - n % side, m // side - n // side
            features[n, m] = torch.tensor([dx, dy, dx * dx + dy * dy])
    return features


def gated_attention(p: State, name: str, z: Tensor, heads: int) -> Tensor:
    """Both maps for every image and head; mixed, then divided by their row sums."""
    count, dim = z.shape[1:]
    width = dim // heads
    qk, v = linear(p, f"{name}.qk", z), linear(p, f"{name}.v", z)
    images = []
    for b in range(len(z)):
        position = p[f"{name}.pos_proj.weight"] @ relative(count).reshape(-1, 3).T  # (H, N * N)
        position = (position + p[f"{name}.pos_proj.bias"][:, None]).reshape(heads, count, count)
        parts = []
        for h in range(heads):
            cut = slice(h * width, (h + 1) * width)
            q, k = qk[b, :, :dim][:, cut], qk[b, :, dim:][:, cut]
            gate = 1 / (1 + (-p[f"{name}.gating_param"][h]).exp())
            attention = (1 - gate) * softmax(q @ k.T / math.sqrt(width)) + gate * softmax(position[h])
            parts.append((attention / attention.sum(-1, keepdim=True)) @ v[b][:, cut])
        images.append(torch.cat(parts, dim=-1))
    return linear(p, f"{name}.proj", torch.stack(images))


def encode(p: State, x: Tensor) -> Tensor:
    x = patches(p, x)
    k = 0
    while f"encoder.{k}.norm1.weight" in p:
        name = f"encoder.{k}"
        heads = len(p[f"{name}.attn.gating_param"])
        x = x + gated_attention(p, f"{name}.attn", norm(p, f"{name}.norm1", x), heads)
        x = x + mlp(p, f"{name}.mlp", norm(p, f"{name}.norm2", x))
        k += 1
    return x


def ask(p: State, token: Tensor, x: Tensor, heads: int) -> Tensor:
    """One task's embedding (B, D): the token put before the patches, attending to itself and to them."""
    e = token.expand(len(x), 1, -1)
    z = norm(p, "decoder.norm1", torch.cat([e, x], dim=1))
    width = z.shape[-1] // heads
    parts = []
    for h in range(heads):
        cut = slice(h * width, (h + 1) * width)
        q, k, v = (linear(p, f"decoder.attn.{n}", z)[..., cut] for n in "qkv")
        parts.append(softmax(q[:, :1] * width**-0.5 @ k.transpose(1, 2)) @ v)
    e = e + linear(p, "decoder.attn.proj", torch.cat(parts, dim=-1))
    return (e + mlp(p, "decoder.mlp", norm(p, "decoder.norm2", e)))[:, 0]


def look_up(p: State, bank: str, x: Tensor, heads: int) -> Tensor:
    """DAFormer's embedding of a task (B, D): patches attend to each other and to a bank of keys, and are averaged."""
    z = norm(p, "decoder.norm1", x)
    width = z.shape[-1] // heads
    parts = []
    for h in range(heads):
        cut = slice(h * width, (h + 1) * width)
        q, k, v = (linear(p, f"decoder.attn.to_{n}", z)[..., cut] for n in "qkv")
        q = q * width**-0.5
        keys = q @ p[f"{bank}.weight"][:, :, 0, 0].T + p[f"{bank}.bias"]
        parts.append(softmax(q @ k.transpose(1, 2)) @ v + softmax(keys) @ v)
    x = x + torch.cat(parts, dim=-1)
    return (x + mlp(p, "decoder.mlp", norm(p, "decoder.norm2", x))).mean(1)


def forward(p: State, x: Tensor) -> State:
    heads = len(p["encoder.0.attn.gating_param"])
    out = {"tokens": encode(p, x)}
    embeddings: list[Tensor] = []
    while f"task_tokens.{len(embeddings)}" in p:
        embeddings.append(ask(p, p[f"task_tokens.{len(embeddings)}"], out["tokens"], heads))
    while f"key_banks.{len(embeddings)}.bias" in p:
        embeddings.append(look_up(p, f"key_banks.{len(embeddings)}", out["tokens"], heads))
    logits: list[Tensor] = []
    while f"head.{len(logits)}.head.weight" in p:
        i = len(logits)
        e = embeddings[i if len(embeddings) > 1 else 0]  # one serves all heads
        logits.append(linear(p, f"head.{i}.head", norm(p, f"head.{i}.norm", e)))
    out |= {"embeddings": torch.stack(embeddings, dim=1), "logits": torch.cat(logits, dim=1)}
    if "head_div.head.weight" in p:
        out["divergence_logits"] = linear(p, "head_div.head", norm(p, "head_div.norm", embeddings[-1]))
    return out


# ---- losses ----------------------------------------------------------------------------------------------------------


def sigmoid_loss(z: Tensor, y: Tensor) -> Tensor:
    """-y log s(z) - (1 - y) log s(-z), meaned over everything; log s(z) = min(z, 0) - log(1 + exp(-|z|))."""
    tail = (1 + (-z.abs()).exp()).log()
    return -(y * (z.clamp(max=0) - tail) + (1 - y) * ((-z).clamp(max=0) - tail)).mean()


def losses(p: State, teacher: State | None, x: Tensor, targets: Tensor, meta: dict[str, Any]) -> State:
    out = forward(p, x)
    logits = out["logits"]
    if teacher is None:
        return {"classification": sigmoid_loss(logits, targets)}
    with torch.no_grad():
        old = forward(teacher, x)["logits"]
    count, tau = old.shape[1], meta["distillation_tau"]
    share = count / logits.shape[1]
    wanted, given = softmax(old / tau), softmax(logits[:, :count] / tau)
    distilled = tau**2 * (wanted * (wanted.log() - given.log())).mean()
    terms = {"classification": (1 - share) * sigmoid_loss(logits, targets), "distillation": share * distilled}
    if "divergence_logits" in out:
        grouped = torch.cat([targets[:, :count].sum(1, keepdim=True), targets[:, count:]], dim=1)
        terms["divergence"] = meta["head_div_weight"] * sigmoid_loss(out["divergence_logits"], grouped)
    return terms


# ---- steps -----------------------------------------------------------------------------------------------------------


def trained(p: State) -> list[str]:
    """All but old tokens or banks, old heads, and the projection that DAFormer never calls."""
    heads = sum(name.startswith("head.") and name.endswith(".head.bias") for name in p)
    grown = sum(name.startswith("task_tokens.") or bool(re.fullmatch(r"key_banks\.\d+\.bias", name)) for name in p)
    old = [f"head.{i}" for i in range(heads - 1)]
    old += [f"{part}.{i}" for part in ("task_tokens", "key_banks") for i in range(grown - 1)]
    old += ["decoder.attn.proj"] if "key_banks.0.bias" in p else []
    return [name for name in p if not any(name == o or name.startswith(f"{o}.") for o in old)]


class Problem:
    """A task: total loss and gradients at given parameters."""

    def __init__(self, teacher: State | None, x: Tensor, targets: Tensor, meta: dict[str, Any]) -> None:
        self.teacher, self.x, self.targets, self.meta = teacher, x, targets, meta

    def gradients(self, p: State) -> tuple[float, State]:
        names = trained(p)
        leaves = {name: p[name].clone().requires_grad_(name in names) for name in p}
        loss = torch.stack(list(losses(leaves, self.teacher, self.x, self.targets, self.meta).values())).sum()
        grads = torch.autograd.grad(loss, [leaves[name] for name in names])
        return loss.item(), dict(zip(names, grads, strict=True))

    def adamw(self, p: State, grads: State, moments: dict[str, tuple[Tensor, Tensor]], step: int) -> State:
        """One step; weight decay on tensors of two or more dimensions, decoupled, before the step."""
        meta, moved = self.meta, dict(p)
        b1, b2 = meta["adam_betas"]
        for name, g in grads.items():
            m, v = moments.get(name, (torch.zeros_like(g), torch.zeros_like(g)))
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            moments[name] = m, v
            w = p[name] * (1 - meta["lr"] * meta["weight_decay"]) if g.ndim > 1 else p[name]
            denominator = v.sqrt() / math.sqrt(1 - b2**step) + meta["adam_eps"]
            moved[name] = w - meta["lr"] / (1 - b1**step) * m / denominator
        return moved

    def climb(self, p: State, grads: State) -> State:
        """rho s^2 g / |s g| with s = |w| (adaptive) or 1."""
        sizes = {name: p[name].abs() if self.meta["sam_adaptive"] else torch.ones_like(p[name]) for name in grads}
        norm = math.sqrt(sum(((sizes[name] * g).double() ** 2).sum().item() for name, g in grads.items()))
        radius = self.meta["sam_rho"] / (norm + 1e-12)
        return p | {name: p[name] + radius * sizes[name] ** 2 * g for name, g in grads.items()}


# ---- files -----------------------------------------------------------------------------------------------------------


def one_hot(labels: Tensor, classes: int, smoothing: float = 0.0) -> Tensor:
    targets = torch.full((len(labels), classes), smoothing / classes)
    for row, label in enumerate(labels.tolist()):
        targets[row, label] += 1 - smoothing
    return targets


def task_entries(p: State, teacher: State | None, x: Tensor, y: Tensor, meta: dict[str, Any]) -> State:
    """All that a golden file says of a task, computed from its parameters."""
    classes = sum(p[name].shape[0] for name in p if name.startswith("head.") and name.endswith(".head.weight"))
    out: State = {**{f"params/{name}": value for name, value in p.items()}, "y": y, **forward(p, x)}
    problem = Problem(teacher, x, one_hot(y, classes), meta)
    terms = losses(p, teacher, x, problem.targets, meta)
    out |= {f"loss/{name}": value for name, value in terms.items()}
    out["loss/total"] = torch.stack(list(terms.values())).sum()
    loss, grads = problem.gradients(p)
    out |= {f"grads/{name}": grads.get(name, torch.empty(0)) for name in p}

    share, smooth = meta["mixup_lambda"], one_hot(y, classes, meta["label_smoothing"])
    out["mixup/targets"] = share * smooth + (1 - share) * smooth.flip(0)
    mixed = losses(p, teacher, share * x + (1 - share) * x.flip(0), out["mixup/targets"], meta)
    out |= {f"mixup/loss/{name}": value for name, value in mixed.items()}

    there = problem.climb(p, grads)
    worse, steep = problem.gradients(there)
    out |= {f"asam/perturbed/{name}": value for name, value in there.items()}
    out["asam/losses"] = torch.tensor([loss, worse], dtype=torch.float64)
    out |= {f"asam/params/{name}": value for name, value in problem.adamw(p, steep, {}, 1).items()}

    on_the_way, now, moments = [], p, {}
    for step in range(1, meta["steps"] + 1):
        loss, grads = problem.gradients(now)
        on_the_way.append(loss)
        now = problem.adamw(now, grads, moments, step)
    out["adamw/losses"] = torch.tensor(on_the_way, dtype=torch.float64)
    return out | {f"adamw/params/{name}": value for name, value in now.items()}


def draw(meta: dict[str, Any], hidden: int, channels: int, seed: int) -> tuple[Tensor, list[Tensor], list[State]]:
    """Images, labels and parameters of each task; between tasks, what goes on training moves a little."""
    g = torch.Generator().manual_seed(seed)
    dim, heads, patch = meta["embed_dim"], meta["num_heads"], meta["patch_size"]

    def normal(*shape: int, std: float = 0.3, mean: float = 0.0) -> Tensor:
        return mean + std * torch.randn(*shape, generator=g)

    def affine(name: str, size_out: int, size_in: int, bias: bool = True) -> State:
        made = {f"{name}.weight": normal(size_out, size_in, std=size_in**-0.5)}
        return made | ({f"{name}.bias": normal(size_out)} if bias else {})

    def layer_norm(name: str) -> State:
        return {f"{name}.weight": normal(dim, mean=1.0), f"{name}.bias": normal(dim)}

    def block(name: str) -> State:
        mlp = affine(f"{name}.mlp.fc1", hidden, dim) | affine(f"{name}.mlp.fc2", dim, hidden)
        return layer_norm(f"{name}.norm1") | layer_norm(f"{name}.norm2") | affine(f"{name}.attn.proj", dim, dim) | mlp

    def head(name: str, classes: int) -> State:
        return affine(f"{name}.head", classes, dim) | layer_norm(f"{name}.norm")

    variant = meta.get("variant")  # of DAFormer: M, a bank for each task, or S, one bank
    projections = "qkv" if variant is None else ("to_q", "to_k", "to_v")

    def brought(task: int) -> State:
        if variant is None:
            return {f"task_tokens.{task}": normal(1, 1, dim)}
        if variant == "S" and task > 0:
            return {}
        keys = (meta["image_size"] // patch) ** 2
        bank = {f"key_banks.{task}.weight": normal(keys, dim // heads, 1, 1), f"key_banks.{task}.bias": normal(keys)}
        return bank if task == 0 else {name: value * 0.1 for name, value in bank.items()}

    p: State = {
        "pos_embed": normal(1, (meta["image_size"] // patch) ** 2, dim),
        "patch_embed.weight": normal(dim, channels, patch, patch),
        "patch_embed.bias": normal(dim),
        **block("decoder"),
        **{f"decoder.attn.{n}.weight": normal(dim, dim, std=dim**-0.5) for n in projections},
    }
    for k in range(meta["num_sab"]):
        attention = f"encoder.{k}.attn"
        p |= block(f"encoder.{k}") | affine(f"{attention}.qk", 2 * dim, dim, bias=False)
        p |= affine(f"{attention}.v", dim, dim, bias=False) | {f"{attention}.gating_param": normal(heads, mean=0.5)}
        p |= {f"{attention}.pos_proj.weight": normal(heads, 3), f"{attention}.pos_proj.bias": normal(heads)}
    x = normal(meta["batch"], channels, meta["image_size"], meta["image_size"], std=1.0)
    labels, states = [], []
    for task, new in enumerate(meta["increments"]):
        p = {name: value + normal(*value.shape, std=0.02) for name, value in p.items()}
        p |= brought(task) | head(f"head.{task}", new)
        if task > 0 and meta["head_div_weight"] > 0:
            p = {n: v for n, v in p.items() if not n.startswith("head_div.")} | head("head_div", new + 1)
        labels.append(torch.randint(sum(meta["increments"][: task + 1]), (meta["batch"],), generator=g))
        states.append(p)
    return x, labels, states


def entries(meta: dict[str, Any], x: Tensor, labels: list[Tensor], states: list[State]) -> dict[str, np.ndarray]:
    """The arrays of a golden file."""
    made = {"meta.json": np.array(json.dumps(meta)), "x": x.numpy()}
    for task, (y, p) in enumerate(zip(labels, states, strict=True)):
        teacher = states[task - 1] if task else None
        computed = task_entries(p, teacher, x, y, meta)
        made |= {f"task{task}/{name}": value.detach().numpy() for name, value in computed.items()}
    return made


def generate(hidden: int = 15, channels: int = 3, seed: int = 0, **changed: Any) -> dict[str, np.ndarray]:
    """A file of random parameters, images and labels; ``changed`` is what ``meta.json`` has other than ``SMALL``."""
    meta = SMALL | changed
    return entries(meta, *draw(meta, hidden, channels, seed))


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path
