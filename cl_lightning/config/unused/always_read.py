"""The options that every run reads that has them; those that only some read are in ``used_by.py``."""

from __future__ import annotations

_NAMES = """
seed run_dir if_exists verbose evaluate_phases extends batch batch.size batch.replicas batch.evaluation
method method.name method.origin method.rehearsal
method.divergence_weight method.independent_heads method.token_expansion method.bank_expansion method.out_proj
method.decoder_mlp method.decoder_bias method.similarity_weight method.head method.reconstruction
method.reconstruction.weight
method.distillation method.mixup method.mixup.alpha method.sam method.sam.rho
method.neighbours method.neighbours.form method.clip method.auxiliary_weight
method.pruning method.pruning.rule method.kd_weight
method.proxies method.nca method.pod_flat method.pod_spatial method.gradient_clamp method.less_forget_weight
method.imprint method.finetune method.pairs method.held_out method.offset_weight method.decay_by_task
method.correction_batch_norm method.modules method.path_every method.candidates method.growth
method.reference_parity method.copies method.gradient_noise method.decay
method.weight method.classify method.softmax method.old_rows
method.projection method.ridge method.adapt
method.s_max method.compensation method.usage_weight method.gradient_norm method.embedding_limit
method.backbone_task method.backbone_file method.token_masks method.ffn_masks method.readouts
early_stopping early_stopping.patience
data data.name data.order data.classes data.initial data.increment data.validation
data.preprocess data.preprocess.size data.preprocess.normalise
data.balance data.orientation data.suggests data.suggests.models data.suggests.lr_scale
data.sets data.sets.name data.sets.order data.sets.classes data.sets.select data.sets.increment
data.sets.augmentation
model model.name model.kind model.patch_size model.dim model.num_heads model.depth model.mlp_ratio model.locality
model.shortcut model.hidden model.dropout
model.drop_path model.general_token model.pretrained model.weights_file model.frozen model.width model.stem
recipe recipe.name recipe.date recipe.repeated_augmentation recipe.order_ignores_seed
trainer trainer.accelerator trainer.devices trainer.strategy trainer.precision trainer.workers trainer.threads
trainer.deterministic trainer.compile trainer.cuda_graphs trainer.kernels trainer.keep_memory trainer.log_every
trainer.progress trainer.stop_after_task trainer.checkpoint_steps trainer.checkpoint_minutes
logger logger.csv logger.wandb logger.tensorboard report report.page
"""
ALWAYS = frozenset(_NAMES.split())
"""Options, and groups of them, that are read by every run that has them."""
