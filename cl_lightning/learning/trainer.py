"""One Trainer for one call: Lightning's loops are never re-used.

A Trainer that fits a second time trains nothing and does not warn, so a new one is made for every phase, evaluation and
feature extraction, without the parts that this package has of its own (display, checkpoints, loggers, samplers).
"""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from cl_lightning.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from cl_lightning.learning.strategy import distribution


@dataclass(frozen=True)
class TrainerOptions:
    """Device, precision and processes of a Trainer."""

    accelerator: str
    precision: str
    deterministic: bool
    run_dir: Path
    processes: ProcessGroup = SINGLE_PROCESS


def make_trainer(
    options: TrainerOptions, callbacks: Sequence[Callback] = (), *, precision: str | None = None
) -> pl.Trainer:
    """Return a Trainer for one call; the phase is one epoch of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator=options.accelerator,
            precision=precision or options.precision,  # type: ignore[arg-type]
            max_epochs=1,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            deterministic=options.deterministic,
            default_root_dir=options.run_dir,
            inference_mode=True,
            **distribution(options.processes),
        )
    _leave_signals_alone(trainer)
    return trainer


def _leave_signals_alone(trainer: pl.Trainer) -> None:
    """Keep SIGTERM for the run (``distributed/signals.py``).

    Lightning installs a handler of its own before ours, which in a run of several processes communicates with the
    others in the middle of their work, and ends the loop without a checkpoint of ours; for it, the processes exchange a
    tensor before every step, and each waits for its device.
    """
    connector, loop = trainer._signal_connector, trainer.fit_loop.epoch_loop
    assert hasattr(connector, "register_signal_handlers")
    assert hasattr(loop, "_broadcast_sigterm_tensor")
    connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` for Ctrl-C in ``trainer``'s work, instead of the exit that Lightning turns it
    into.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if trainer.interrupted:
            raise KeyboardInterrupt from end
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # Lightning switches it off while it stops


def quieten_lightning() -> None:
    """Let Lightning's log lines go through the root logger, and silence those that it repeats for every Trainer."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*in eval mode at the start of training.*",
        ".*GPU available but not used.*",
        ".*`training_step` returned `None`.*",
        ".*predict returned None.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*Checkpoint directory.*",
        ".*Experiment logs directory.*",
        ".*lr_scheduler.step.*",
        ".*Total length of `DataLoader` across ranks is zero.*",
        ".*Trying to infer the `batch_size`.*",
        ".*This DataLoader will create.*",  # reported in a line of ours
    ):
        warnings.filterwarnings("ignore", message=message)
