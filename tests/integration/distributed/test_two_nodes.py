"""Two machines, as two torchrun agents of one process each, in folders of their own, on the loopback interface."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.checkpoint import files as checkpoint_files
from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.run.train import execute
from tests.core.test_serialization import same
from tests.integration.distributed.test_launching import RUN, SMOKE, files, finished, ranks_of

pytestmark = pytest.mark.long
OPTIONS = [*SMOKE, "method=icarl"]


def agents(folder: Path, form: str, typed: list[str]) -> list[subprocess.Popen[str]]:
    """Two agents, each started in a folder of its own, as on machines with no disk in common but the run's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {
        "static": ["--master-addr=127.0.0.1", f"--master-port={port}"],
        "c10d": ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=ours"],
    }[form]
    started = []
    for node in range(2):
        (folder / f"node_{node}").mkdir(parents=True)
        agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", *address]
        command = [*agent, "--nproc-per-node=1", "-m", "cl_lightning", *typed, "trainer.devices=1"]
        cwd, pipe = folder / f"node_{node}", subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=cwd, text=True, stdout=pipe, stderr=pipe))
    return started


def together(folder: Path, form: str, typed: list[str]) -> list[str]:
    """What each of two agents that end well has printed."""
    both = agents(folder, form, typed)
    said = [agent.communicate(timeout=280) for agent in both]
    assert [agent.returncode for agent in both] == [0, 0], said
    return [out for out, _ in said]


def learnt(run_dir: Path) -> dict[str, Any]:
    """The last checkpoint, but for what depends on the clock."""
    payload = load_checkpoint(list_checkpoints(run_dir / "checkpoints")[-1])
    return {name: payload[name] for name in ("network", "extra", "teacher", "memory", "matrices", "answers")}


@pytest.mark.parametrize("form", ["static", "c10d"])
def test_two_nodes_make_the_run_that_two_processes_of_one_machine_make(form: str, tmp_path: Path) -> None:
    finished([sys.executable, "-m", "cl_lightning", *OPTIONS, "trainer=ddp_cpu", "run_dir=here"], tmp_path)
    out = together(tmp_path, form, [*OPTIONS, "trainer=ddp_cpu"])
    assert [said.count("Accuracy in % after task (row)") for said in out] == [1, 0]
    (run_dir,) = (tmp_path / "node_0" / "outputs" / "icarl_digits").iterdir()
    assert files(run_dir) == {*RUN, ".hydra"}
    assert not list((tmp_path / "node_1").rglob("*")), "the first process alone writes"
    assert same(learnt(run_dir), learnt(tmp_path / "here"))


def test_from_equal_weights_two_nodes_keep_and_count_what_one_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_files, "KEPT_WITHIN_TASK", 99)
    one = tmp_path / "one"
    execute(compose_one_of_many([*OPTIONS, f"run_dir={one}", "trainer.stop_after_task=0"])[0])
    again = tmp_path / "again"
    (again / "checkpoints").mkdir(parents=True)
    shutil.copy(one / "checkpoints" / "task_000_item_02.pt", again / "checkpoints")  # grown and trained
    shutil.copy(one / "config.yaml", again)
    together(tmp_path, "static", [f"resume={again}", "trainer=ddp_cpu", "trainer.stop_after_task=0"])
    expected, found = learnt(one), learnt(again)
    assert same([found[name] for name in ("network", "memory")], [expected[name] for name in ("network", "memory")])
    assert found["matrices"] == expected["matrices"]


@pytest.mark.parametrize("node", [0, 1])
def test_where_one_agent_is_killed_the_other_one_says_so_and_ends(node: int, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    both = agents(tmp_path, "static", [*OPTIONS, "trainer=ddp_cpu", "epochs_scale=3", f"run_dir={run_dir}"])
    deadline = time.monotonic() + 200
    while not any(run_dir.glob("checkpoints/*.pt")) and time.monotonic() < deadline:
        assert [agent.poll() for agent in both] == [None, None]
        time.sleep(0.05)
    time.sleep(2)  # both learn by now
    (orphan,) = ranks_of(both[node].pid)
    os.kill(both[node].pid, signal.SIGKILL)
    _, told = both[1 - node].communicate(timeout=60)
    assert f"error: rank {1 - node} lost another process of the run" in told
    assert f"type resume={run_dir} to go on" in told
    assert both[1 - node].returncode == 1
    both[node].communicate(timeout=60)  # its pipes are closed: the rank that it had started is gone as well
    with pytest.raises(ProcessLookupError):
        os.kill(orphan, 0)
    assert list_checkpoints(run_dir / "checkpoints")
