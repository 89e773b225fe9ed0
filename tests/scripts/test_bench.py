"""The benchmark measures what it says: the same numbers on both sides, and honest verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scripts.bench import __main__ as bench
from scripts.bench import measure, parts, program
from scripts.bench.measure import Pairs, Row
from scripts.bench.roofline import Count
from scripts.bench.steps import Setting, Step

TINY = Setting("cpu", 3, 1, encoder=bench.TINY)


def test_a_ratio_is_the_median_over_pairs() -> None:
    pairs = Pairs([4.0, 9.0, 100.0], [2.0, 3.0, 1.0])
    assert pairs.ratio == 3.0
    assert pairs.milliseconds() == "9000.0 / 2000.0 ms"


@pytest.mark.parametrize(
    ("row", "target", "verdict"),
    [
        (Row("a", 2.0, at_least=2.0), "at least 2", "met"),
        (Row("a", 1.99, at_least=2.0), "at least 2", "missed"),
        (Row("a", 1.15, at_most=1.15), "at most 1.15", "met"),
        (Row("a", 1.16, at_most=1.15), "at most 1.15", "missed"),
        (Row("a", None, at_most=1.15), "at most 1.15", "-"),
        (Row("a", 0.1), "", "-"),
        (Row("a", None, failed=True), "", "failed"),
    ],
)
def test_a_verdict_follows_from_value_and_target(row: Row, target: str, verdict: str) -> None:
    assert (row.target, row.verdict) == (target, verdict)


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_the_plain_formulation_has_our_scores_losses_and_gradients(tasks: int) -> None:
    step = Step(tasks, TINY)
    assert step.difference() < 1e-5
    step.optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
    found = []
    for formulation in (step.ours, step.plain):
        loss = formulation()
        gradients = [p.grad.clone() for p in step.network.parameters() if p.grad is not None]
        found.append((loss, gradients))
    (ours, our_gradients), (plain, plain_gradients) = found
    assert ours > 0
    torch.testing.assert_close(ours, plain)
    assert len(our_gradients) == len(plain_gradients) > 10
    for mine, other in zip(our_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-4)


def test_on_a_gpu_short_work_is_timed_many_times_between_two_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that the work moves, and a device that makes every wait cost something."""
    now, done = [0.0], []

    def work() -> None:
        done.append(now.__setitem__(0, now[0] + 0.004))

    monkeypatch.setattr(measure, "wait_for", lambda device: now.__setitem__(0, now[0] + 0.001))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    assert measure.seconds(work, "cpu") == pytest.approx(0.005)
    assert len(done) == 1
    assert measure.seconds(work, "cuda") == pytest.approx(0.0041)
    assert len(done) == 1 + 1 + 10


def test_herding_by_hand() -> None:
    """Four unit vectors: the mean points to the first; then the wish is for what it lacks."""
    rows = torch.tensor([[1.0, 0.2], [1.0, 1.0], [0.2, 1.0], [-1.0, 0.3]])
    expected = parts.herd_by_products(rows, 4)
    assert expected[0] == 2
    assert sorted(expected) == [0, 1, 2, 3]
    assert parts.herd_by_differences(rows, 4) == expected


def test_operations_and_bytes_are_counted() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    with Count(flops_a_second=1e3, bytes_a_second=1e9) as counted:
        (a @ b).t().relu()
    assert counted.flops == 2 * 3 * 5 * 7
    assert counted.bytes == 4 * (15 + 35 + 21) + 4 * (21 + 21)
    assert counted.floor == pytest.approx(0.21 + 168e-9), "the product is bound by arithmetic, the other by memory"


@pytest.mark.slow
def test_the_bare_loop_takes_the_engine_s_steps(tmp_path: Path) -> None:
    weights = []
    for name in ("engine", "bare"):
        loop = program.Loop(9, "cpu", tmp_path)
        getattr(loop, name)()
        weights.append([parameter.detach() for parameter in loop.network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert loop.idle() > 0


@pytest.mark.slow
def test_a_table_and_a_file_come_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "bench.json"
    quick = ["--quick", "--pairs", "1", "--out", str(out), "--only"]
    assert bench.main([*quick, "herding", "augmentation", "steps", "bf16", "meat", "roofline"]) == 0
    found = json.loads(out.read_text())
    assert [row["name"] for row in found["rows"][:2]] == [
        "herding, all differences / ours", "herding, a product a pick / ours"
    ]  # fmt: skip
    assert all(row["value"] is None or row["value"] > 0 for row in found["rows"])
    assert {"commit", "cores", "versions", "processor", "gpu"} <= set(found["machine"])
    assert found["sizes"]["quick"] is True
    told = capfd.readouterr().out
    assert "step, plain / ours, 50 tasks, eager" in told
    assert "stored for backward" in told.replace("\n", " ")
    assert str(out) in told


def test_a_missed_target_counts_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.PARTS, "start", lambda sizes: iter([Row("start", 4.0, at_most=3.0)]))
    only = ["--only", "start", "--out", str(tmp_path / "bench.json")]
    assert bench.main(only) == 0
    assert bench.main([*only, "--strict"]) == 1


def test_a_part_that_fails_takes_nothing_else_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"

    def fails(sizes: bench.Sizes) -> Iterator[Row]:
        yield Row("before", 1.0, at_least=1.0)
        raise RuntimeError("no memory")

    def looks(sizes: bench.Sizes) -> Iterator[Row]:
        assert [row["verdict"] for row in json.loads(out.read_text())["rows"]] == ["met", "failed"]
        yield Row("start", 2.0, at_most=3.0)

    monkeypatch.setitem(bench.PARTS, "steps", fails)
    monkeypatch.setitem(bench.PARTS, "start", looks)
    assert bench.main(["--only", "steps", "start", "--out", str(out)]) == 1
    found = json.loads(out.read_text())["rows"]
    assert [(row["name"], row["verdict"]) for row in found] == [
        ("before", "met"),
        ("steps", "failed"),
        ("start", "met"),
    ]
    assert found[1]["detail"] == "RuntimeError: no memory"
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--gpu"], "leave --gpu out"), (["--only", "speed"], "herding"), (["--pairs", "0"], "at least 1")],
)
def test_wrong_input_is_refused(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        bench.main(arguments)
    assert ended.value.code == 2
    assert told in capfd.readouterr().err
