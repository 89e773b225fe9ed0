"""Cases that every method's contract is asked of: each file of ``conf/method``, and forms that options make of it."""

from __future__ import annotations

from cl_lightning.config.yaml_files import load_option, options


def encoder_of(method: str) -> str:
    return str(load_option("method", method).get("encoder"))


MODELS = {
    "transformer": [
        "model=convit_tiny", "model.dim=16", "model.num_heads=4", "model.depth=2", "model.patch_size=4",
        "model.drop_path=0.2",
    ],
    "conv_transformer": [
        "model=conv_vit_tiny", "model.dim=16", "model.num_heads=4", "model.depth=2", "model.patch_size=4",
        "model.drop_path=0.2",
    ],
    "cnn": ["model=resnet8"],
    "paths": ["model=path_net_tiny", "model.width=2", "method.modules=3", "method.held_out=0.5"],
    "vit": ["model=vit_tiny", "model.dim=16", "model.depth=2", "model.patch_size=4", "model.drop_path=0.2"],
}  # fmt: skip
SMALL = {"ranpac": ["method.projection=64"], "rpsnet": ["method.candidates=3", "method.path_every=1"]}
CASES = {
    name: [f"method={name}", *MODELS.get(encoder_of(name), []), *SMALL.get(name, [])] for name in options("method")
} | {
    "dytox without memory": ["method=dytox", "memory=none", *MODELS["transformer"]],
    "dytox without divergence": ["method=dytox", "method.divergence_weight=0", *MODELS["transformer"]],
    "dytox with one token": ["method=dytox", "method.token_expansion=false", *MODELS["transformer"]],
    "dytox with one head": ["method=dytox", "method.independent_heads=false", *MODELS["transformer"]],
    "dytox with one token and one head": [
        "method=dytox",
        "method.token_expansion=false",
        "method.independent_heads=false",
        *MODELS["transformer"],
    ],
    "dytox with nothing of its own": [
        "method=dytox",
        "method.distillation=false",
        "method.finetuning=null",
        "method.token_expansion=false",
        "method.divergence_weight=0",
        "method.independent_heads=false",
        *MODELS["transformer"],
    ],
    "dytox, all switches of losses and herding": [
        "method=dytox_plus",
        "recipe=paper_2022_03",
        "recipe.distillation_class_mean=false",
        "recipe.herd_distinct=true",
        "recipe.herd_after_finetuning=true",
        *MODELS["transformer"],
    ],
    "dytox with reconstruction": ["method=dytox", "method.reconstruction.weight=0.5", *MODELS["transformer"]],
    "daformer-s with reconstruction, mixed and sharpness-aware": [
        "method=daformer_s",
        "method.reconstruction.weight=1",
        "method.reconstruction.reduction=sum",
        *MODELS["transformer"],
    ],
    "dytox, published recipe": ["method=dytox_plusplus", "recipe=erratum_2022_06", *MODELS["transformer"]],
    "daformer, neighbours": ["method=daformer_m", "method.neighbours.form=similarity", *MODELS["transformer"]],
    "daformer with one head": ["method=daformer_m", "method.independent_heads=false", *MODELS["transformer"]],
    "daformer, published recipe": ["method=daformer_m", "recipe=daformer", *MODELS["transformer"]],
    "dkt, published recipe": ["method=dkt", "recipe=dkt_2023_06", *MODELS["conv_transformer"]],
    "dkt on dytox's encoder, separate heads": ["method=dkt", "recipe.merge=separate", *MODELS["transformer"]],
    "dkt with one head": ["method=dkt", "method.head=linear", "recipe=clean", *MODELS["conv_transformer"]],
    "dkt without its parts": [
        "method=dkt",
        "method.head=linear",
        "method.similarity_weight=0",
        "data.cutout=0",
        "recipe=clean",
        *MODELS["transformer"],
    ],
    "fine-tuning of a plain transformer": ["method=finetune", *MODELS["vit"]],
    "dytox on dkt's encoder": ["method=dytox", *MODELS["conv_transformer"]],
    "daformer on dkt's encoder": ["method=daformer_m", *MODELS["conv_transformer"]],
    "daformer-s on dkt's encoder": ["method=daformer_s", *MODELS["conv_transformer"]],
    "meat, one block's tokens alone, main by entropy": [
        "method=meat",
        "method.ffn_masks=false",
        "method.token_mask_blocks=[1]",
        "method.readouts=[entropy,linear]",
        *MODELS["vit"],
    ],
    "hat on its own network": ["method=hat", "model=alexnet_tiny", "method.compensation=exact"],
    "hat on a transformer, main by entropy": ["method=hat", "method.readouts=[entropy,linear]", *MODELS["vit"]],
    "lwf with frozen rows": ["method=lwf", "method.old_rows=frozen", "method.classify=all", *MODELS["cnn"]],
    "lwf with a memory": ["method=lwf", "method.rehearsal=true", "method.softmax=per_task", *MODELS["cnn"]],
    "ucir with fine-tuning": ["method=ucir", "method.finetune=true", *MODELS["cnn"]],
    "ucir without a memory": ["method=ucir", "memory=none", "method.imprint=false", *MODELS["cnn"]],
    "podnet in evaluation mode": [
        "method=podnet",
        "method.finetuning_batch_norm=evaluation",
        "method.nca=public",
        *MODELS["cnn"],
    ],
    "podnet without a memory": ["method=podnet", "memory=none", "method.nca=no_hinge", *MODELS["cnn"]],
    "simplecil with a transformer": ["method=simplecil", *MODELS["transformer"]],
    "simplecil with a class token": ["method=simplecil", *MODELS["vit"]],
    "ranpac, all tasks choose lambda": ["method=ranpac", "method.projection=7", "method.ridge=all", *MODELS["cnn"]],
    "ranpac without a projection": ["method=ranpac", "method.projection=0", *MODELS["cnn"]],
    "bic": ["method=bic", "method.held_out=0.5", *MODELS["cnn"]],
    "bic with every pair": ["method=bic", "method.held_out=0.5", "method.pairs=all", *MODELS["cnn"]],
    "bic in training mode": [
        "method=bic",
        "method.held_out=0.5",
        "method.decay_by_task=true",
        "method.correction_batch_norm=training",
        *MODELS["transformer"],
    ],
    "rpsnet as published": [
        "method=rpsnet",
        "method.reference_parity=true",
        "method.candidates=2",
        *MODELS["paths"],
    ],
    "rpsnet with one candidate": ["method=rpsnet", "method.candidates=1", *MODELS["paths"]],
    "finetune on a path": ["method=finetune", "model=path_net_tiny", "model.width=2"],
    "e2e, fresh variants, plain decay": [
        "method=e2e",
        "method.variants=fresh",
        "method.decay=plain",
        "method.first=null",
        *MODELS["transformer"],
    ],
    "finetune with a resnet": ["method=finetune", *MODELS["cnn"]],
    "icarl with a transformer": ["method=icarl", *MODELS["transformer"]],
    "wa with a transformer": ["method=wa", *MODELS["transformer"]],
    "der with a transformer": ["method=der", *MODELS["transformer"]],
    "der pruned by masks": ["method=der", "method.pruning.rule=masks", *MODELS["cnn"]],
    "der pruned by scales, fine-tuned, with distillation": [
        "method=der",
        "method.pruning.rule=scales",
        "method.pruning.start=fresh",
        "method.finetune_pruned=true",
        "method.kd_weight=1",
        *MODELS["cnn"],
    ],
}
QUICK = {*options("method"), "dytox, published recipe", "daformer, neighbours"}
"""Those of `make test-fast`; `make test` has all."""
MOVES_OLD_SCORES = {
    "der",
    "der with a transformer",
    "der pruned by masks",
    "der pruned by scales, fine-tuned, with distillation",
    "dytox with one head",
    "daformer with one head",
    "dkt",
    "dkt, published recipe",
    "dkt on dytox's encoder, separate heads",
    "dkt with one head",
    "dkt without its parts",
    "bic",
    "bic in training mode",
    "rpsnet",
    "rpsnet as published",
    "rpsnet with one candidate",
}
"""A new extractor, token or path is read for old classes too; a correction is only of the newest classes."""
TRAINS_ONCE = {case for case in CASES if case.startswith(("simplecil", "ranpac"))}
"""Their features are learnt in the first task, and no later one has a phase."""
