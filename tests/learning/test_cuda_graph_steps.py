"""Phases whose steps are replayed: by a stand-in here, by CUDA graphs where there is a GPU."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Batch,
    Fit,
    Mixing,
    Optimiser,
    Outputs,
    Phase,
    PhaseCheckpoint,
    Sampling,
    Schedule,
    Sharpness,
    Task,
)
from cl_lightning.data import datamodule
from cl_lightning.learning import lightning_module
from cl_lightning.learning.cuda_graph import Work
from cl_lightning.learning.display import PhaseSpan
from cl_lightning.learning.lightning_module import Learner
from cl_lightning.learning.trainer import quieten_lightning
from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.methods.base import Method
from cl_lightning.methods.dytox import FINETUNING_PARTS, MAIN_PARTS, DyTox
from cl_lightning.models.build import build_network
from tests.learning.a_phase import (
    CONVIT,
    PHASE,
    TASKS,
    Bench,
    Toy,
    flat,
    toy,
)
from tests.learning.recorder import ByHand
from tests.methods.options import dytox_options

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def main_phase(method: Method) -> Phase:
    """The first phase of the second task."""
    return next(item.phase for item in method.plan(TASKS[1]) if isinstance(item, Fit))


# ---- replayed steps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_replayed_steps_are_the_steps(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, optimiser: str, sharp: bool
) -> None:
    """Noise, mixing, a rate that changes and differs between parts, and a last batch that is smaller."""
    schedule = Schedule("steps", milestones=(0.5,), gamma=0.5)
    phase = dataclasses.replace(
        PHASE, optimiser=Optimiser(optimiser, 0.125), schedule=schedule,
        mixing=Mixing(0.8), sharpness=Sharpness(0.05) if sharp else None, sampling=Sampling(drop_last=False),
        rates={"classifier": 2.0},
    )  # fmt: skip
    plain = toy(2, drop_path=0.5)
    _, draws = bench.fit(plain, TASKS[0], phase, batch=10)
    points, recorder = list(bench.curves.points), ByHand()
    bench.curves.points.clear()
    monkeypatch.setattr(Learner, "replayable", lambda self: True)
    monkeypatch.setattr(lightning_module, "CudaRecorder", lambda: recorder)
    replayed = toy(2, drop_path=0.5)
    bench.fit(replayed, TASKS[0], phase, batch=10)
    assert recorder.records == 1
    assert recorder.runs + recorder.replays == draws.total_steps
    assert recorder.runs > 3, "the smaller batches run"
    torch.testing.assert_close(flat(replayed.network), flat(plain.network), atol=1e-7, rtol=1e-6)
    assert [point["step"] for point in points] == [point["step"] for point in bench.curves.points]
    for ours, theirs in zip(bench.curves.points, points, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("wanted", [False, True])
def test_replaying_has_an_off_switch(bench: Bench, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    recorder = ByHand()
    monkeypatch.setattr(Learner, "replayable", lambda self: True)
    monkeypatch.setattr(lightning_module, "CudaRecorder", lambda: recorder)
    monkeypatch.setattr(bench.engine, "options", dataclasses.replace(bench.engine.options, cuda_graphs=wanted))
    bench.fit(toy(2), TASKS[0], PHASE)
    assert (recorder.replays > 0) is wanted


@pytest.mark.slow
def test_the_trunk_is_compiled_once_and_never_while_a_step_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of batches that lie otherwise in memory: the noise of several steps is drawn together."""
    found, trunk = [], CompileCounter()

    class Counts(ByHand):
        def record(self, work: Work, inputs: Sequence[Tensor]) -> tuple[Callable[[], object], Tensor]:
            found.append(trunk.frame_count)
            return super().record(work, inputs)

    quieten_lightning()
    monkeypatch.setattr(lightning_module, "CudaRecorder", Counts)
    monkeypatch.setitem(datamodule.LEVELS_TOGETHER, "cpu", 64 * 8)
    for replayed in (False, True):
        torch._dynamo.reset()
        trunk.clear()
        monkeypatch.setattr(Learner, "replayable", lambda self, yes=replayed: yes)
        method = dytox()
        Bench(tmp_path, trunks=TrunkCompiler(True, trunk)).fit(method, TASKS[1], main_phase(method))
        found.append(trunk.frame_count)
    assert found == [2, 2, 2], "student and teacher"


def test_what_is_left_of_replayed_steps_is_what_is_left_of_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[PhaseCheckpoint] = []

    class Keeps(NoCheckpoints):
        def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
            if steps == 6:
                kept.append(leave())

    monkeypatch.setattr(bench.engine, "observers", dataclasses.replace(bench.engine.observers, leaving=Keeps()))
    phase = dataclasses.replace(PHASE, optimiser=Optimiser("adamw", 0.125))
    bench.fit(toy(2), TASKS[0], phase)
    monkeypatch.setattr(Learner, "replayable", lambda self: True)
    monkeypatch.setattr(lightning_module, "CudaRecorder", ByHand)
    bench.fit(toy(2), TASKS[0], phase)
    plain, replayed = (left.optimiser["param_groups"] for left in kept)  # type: ignore[index,call-overload]
    assert plain == replayed


# ---- on a GPU ------------------------------------------------------------------------------------------------------


def dytox() -> DyTox:
    """At its second task: with a teacher, and something frozen."""
    encoder = {**CONVIT, "image_size": 8, "dim": 32, "drop_path": 0.5}
    structure = {
        "kind": "task_network", "encoder": encoder, "decoder": {"kind": "task_attention"}, "diverge": True,
        "independent_heads": True, "classes": [],
    }  # fmt: skip
    main = dataclasses.replace(PHASE, trains=MAIN_PARTS, epochs=8, optimiser=Optimiser("adamw", 0.01))
    method = DyTox(build_network(structure, Key(0)), main, None, dytox_options())  # type: ignore[arg-type]
    for task in TASKS[:2]:
        method.grow(task, Key(1), None)  # type: ignore[arg-type]
    return method


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_replayed_steps_are_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiled: bool
) -> None:
    """Main phase, then a phase with a frozen encoder and a rate that changes; bits and all."""
    quieten_lightning()
    weights, points = [], []
    for replayed in (False, True):
        with monkeypatch.context() as patch:
            if not replayed:
                patch.setattr(Learner, "replayable", lambda self: False)
            bench, method = Bench(tmp_path, on_gpu=True, trunks=TrunkCompiler(compiled)), dytox()
            bench.fit(method, TASKS[1], main_phase(method))
            schedule = Schedule("steps", milestones=(0.5,), gamma=0.5)
            second = dataclasses.replace(main_phase(method), name="second", trains=FINETUNING_PARTS, schedule=schedule)
            bench.fit(method, TASKS[1], second)
            weights.append(flat(method.network).cpu())
            points.append(bench.curves.points)
    assert not [record for record in caplog.records if record.name.startswith("cl_lightning")], "nothing was given up"
    assert weights[0].isfinite().all()
    torch.testing.assert_close(weights[1], weights[0], atol=1e-6, rtol=1e-5)
    assert len(points[0]) == len(points[1]) == 2 * 8 * 3
    for ours, theirs in zip(points[1], points[0], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_a_phase_goes_on_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quieten_lightning()
    left: list[tuple[PhaseCheckpoint, Method]] = []

    class Keeps(NoCheckpoints):
        def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
            if steps == 10:
                left.append((copy.deepcopy(leave()), copy.deepcopy(method)))

    bench, method = Bench(tmp_path, on_gpu=True), dytox()
    monkeypatch.setattr(bench.engine, "observers", dataclasses.replace(bench.engine.observers, leaving=Keeps()))
    _, draws = bench.fit(method, TASKS[1], main_phase(method))
    ((where, again),) = left
    monkeypatch.setattr(bench.engine, "observers", dataclasses.replace(bench.engine.observers, leaving=NoCheckpoints()))
    bench.display.start(PhaseSpan(1, 1, "main", 8, draws.steps_per_epoch, 0), 10)
    bench.engine.fit(again, TASKS[1], main_phase(method), draws, Key(0).fold(1, "main"), where)
    torch.testing.assert_close(flat(again.network), flat(method.network), atol=1e-6, rtol=1e-5)


@pytest.mark.gpu
def test_on_a_gpu_a_step_that_waits_runs_unrecorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quieten_lightning()

    class Waits(Toy):
        cuda_graph_safe = True

        def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
            terms = super().losses(task, phase, batch, outputs)
            assert terms["classification"].item() > 0
            return terms

    method = Waits(toy(2).network)
    fitted, draws = Bench(tmp_path, on_gpu=True).fit(method, TASKS[0], PHASE)
    assert fitted.steps == draws.total_steps
    assert flat(method.network).isfinite().all()
    assert any("trainer.cuda_graphs=false" in record.getMessage() for record in caplog.records)


@pytest.mark.gpu
def test_on_a_gpu_a_loss_that_is_no_number_ends_the_run_some_steps_later(tmp_path: Path) -> None:
    quieten_lightning()
    method = dytox()
    method.network.encoder.pos_embed.data[..., 0] = torch.nan  # type: ignore[union-attr,index,operator]
    with pytest.raises(FloatingPointError, match=r"classification loss is nan at task 2, phase main, step 1"):
        Bench(tmp_path, on_gpu=True).fit(method, TASKS[1], main_phase(method))
