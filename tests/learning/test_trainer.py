"""One Trainer for one call: without parts of Lightning's own that would meet ours."""

from __future__ import annotations

import logging
import signal
import warnings
from pathlib import Path

import pytest

from cl_lightning.learning.trainer import TrainerOptions, interruptible, make_trainer, quieten_lightning


@pytest.fixture
def options(tmp_path: Path) -> TrainerOptions:
    return TrainerOptions("cpu", "bf16-mixed", deterministic=False, run_dir=tmp_path)


def test_nothing_is_written_shown_or_sampled_by_lightning_itself(options: TrainerOptions) -> None:
    trainer = make_trainer(options)
    assert trainer.max_epochs == 1
    assert (trainer.logger, trainer.checkpoint_callback, trainer.progress_bar_callback) == (None, None, None)
    assert trainer.num_sanity_val_steps == 0
    assert trainer.default_root_dir == str(options.run_dir)
    assert list(options.run_dir.iterdir()) == []


def test_precision_is_the_run_s_unless_another_is_asked_for(options: TrainerOptions) -> None:
    assert make_trainer(options).precision == "bf16-mixed"
    assert make_trainer(options, precision="32-true").precision == "32-true"


def test_a_trainer_is_of_one_call(options: TrainerOptions) -> None:
    assert make_trainer(options) is not make_trainer(options)


def test_signals_stay_the_run_s(options: TrainerOptions) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer(options)
    trainer._signal_connector.register_signal_handlers()
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_is_itself_again(options: TrainerOptions) -> None:
    """Lightning ends an interrupted loop by ``exit``, and leaves the signal switched off."""
    trainer, before = make_trainer(options), signal.getsignal(signal.SIGINT)
    trainer.state.status = "interrupted"  # type: ignore[assignment]
    assert trainer.interrupted

    def leave() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(1)

    with pytest.raises(KeyboardInterrupt), interruptible(trainer):
        leave()
    assert signal.getsignal(signal.SIGINT) is before


def test_another_exit_passes(options: TrainerOptions) -> None:
    with pytest.raises(SystemExit), interruptible(make_trainer(options)):
        raise SystemExit(7)


def test_what_lightning_repeats_for_every_trainer_is_silent_and_its_warnings_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("pytorch_lightning")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quieten_lightning()
        warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck", stacklevel=1)
        warnings.warn("something new", stacklevel=1)
        logger.info("GPU available: False")
        logger.warning("this matters")
    assert [str(each.message) for each in told] == ["something new"]
    assert caplog.messages == ["this matters"]
