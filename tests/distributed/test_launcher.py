"""One command starts the ranks, tells which of them was the cause, passes a wish to stop on, and leaves none behind."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.core.errors import UserError
from cl_lightning.core.exit_codes import PEER_GONE
from cl_lightning.distributed.launcher import supervise
from cl_lightning.distributed.rank import RankInfo, rank_from_environment
from cl_lightning.distributed.rendezvous import loopback
from cl_lightning.distributed.verdict import Patience

pytestmark = pytest.mark.slow

HURRIED = Patience(settle_after=0.2, kill_after=0.2)
"""For ranks that are not going to say anything more."""
PATIENCE = 30.0  # seconds for what takes milliseconds on an idle machine
RANK = """
import fcntl, json, os, signal, socket, sys, time
from pathlib import Path
signal.alarm(60)  # whatever goes wrong
rank = int(os.environ["RANK"])
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own way")


def python(script: str, prelude: str = RANK) -> list[str]:
    """The command of a rank; without ``site``, which takes longer to load than the rest."""
    return [sys.executable, "-S", "-c", prelude + script]


def by_rank(*scripts: str) -> list[str]:
    return python(f"exec({list(scripts)!r}[rank])")


def eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("threads", [None, "7"])
def test_a_rank_finds_what_torchrun_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str | None) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(9), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    for name in ("OMP_NUM_THREADS", "PYTHONUNBUFFERED"):
        monkeypatch.delenv(name, raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    keep = f"Path({str(tmp_path)!r}, str(rank)).write_text(json.dumps(dict(os.environ) | {{'parent': os.getppid()}}))"
    assert supervise(python(keep), 3, logs=tmp_path / "logs") == 0
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    assert [rank_from_environment(environment) for environment in found] == [
        RankInfo(index, 3, index, 3) for index in range(3)
    ]
    assert [environment.get("PYTHONUNBUFFERED") for environment in found] == [None, "1", "1"]
    same = {"LOCAL_WORLD_SIZE": "3", "CL_LIGHTNING_RANK": "1", "parent": os.getpid()}
    same |= {"OMP_NUM_THREADS": threads or "3", "PYTHONPATH": os.environ["PYTHONPATH"]}
    assert all(same.items() <= environment.items() for environment in found)


MEET = """
place = Path(os.environ["CL_LIGHTNING_MEET"])
assert oct(place.parent.stat().st_mode)[-3:] == "700", "others could join"
(place.parent / str(rank)).touch()
while len(list(place.parent.iterdir())) < 2:
    time.sleep(0.02)
"""


def test_two_runs_at_once_meet_in_private_folders_of_their_own(tmp_path: Path) -> None:
    keep = f"Path({str(tmp_path)!r}, os.environ['CL_LIGHTNING_MEET'].replace('/', '-')).touch()\n"
    with ThreadPoolExecutor(2) as both:  # also: it works outside of the main thread
        codes = list(both.map(lambda n: supervise(python(keep + MEET), 2, logs=tmp_path / f"logs{n}"), range(2)))
    assert codes == [0, 0]
    places = [Path(path.name.replace("-", "/")) for path in tmp_path.iterdir()]
    assert len(places) == 2, "two places, and no logs that nothing was written to"
    assert not any(place.parent.exists() for place in places)


@pytest.mark.parametrize("typed", [None, "eth7"])
def test_ranks_listen_on_loopback_unless_the_user_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str | None
) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    if typed is not None:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", typed)
        monkeypatch.setenv("NCCL_SOCKET_IFNAME", typed)
    keep = f"Path({str(tmp_path / 'found')!r}).write_text(json.dumps(dict(os.environ)))"
    assert supervise(python(keep), 1, logs=tmp_path) == 0
    found = json.loads((tmp_path / "found").read_text())
    assert "MASTER_PORT" not in found
    assert found["GLOO_SOCKET_IFNAME"] == (typed or loopback())
    assert found["NCCL_SOCKET_IFNAME"] == (typed or f"={loopback()}")


WAIT = "time.sleep(60)"
RAISE = "import atexit; atexit.register(print, 'leaked'); raise ValueError('boom')"
MISTAKE = "print('error: no such class', file=sys.stderr); sys.exit(2)"


@pytest.mark.parametrize(
    ("scripts", "code", "line"),
    [
        ((WAIT, RAISE), 1, "error: rank 1: ValueError: boom (LOGS/rank_1.log has more)"),
        ((WAIT, MISTAKE), 2, "error: rank 1: no such class (LOGS/rank_1.log has more)"),
        ((WAIT, "print('last'); sys.exit(3)"), 3, "error: rank 1: last (LOGS/rank_1.log has more)"),
        ((WAIT, "sys.exit(3)"), 3, "error: rank 1: ended with exit code 3"),
        ((WAIT, "os.kill(os.getpid(), 9)"), 137, "error: rank 1 was killed by signal 9 (out of memory?)"),
        ((WAIT, "os.kill(os.getpid(), 10)"), 138, "error: rank 1 was killed by signal 10 (User defined signal 1)"),
        (("os.kill(os.getpid(), 9)", WAIT), 137, "error: rank 0 was killed by signal 9 (out of memory?)"),
        (("sys.exit(1)", WAIT), 1, ""),  # rank 0 has told its own error
        (("sys.exit(75)", WAIT), 75, ""),
        ((f"sys.exit({PEER_GONE})", WAIT), 71, "error: rank 0 lost the other ranks, none of which has failed"),
    ],
)
def test_the_cause_is_reported_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], scripts: tuple[str, ...], code: int, line: str
) -> None:
    begun = time.monotonic()
    assert supervise(by_rank(*scripts), 2, logs=tmp_path, patience=HURRIED) == code
    assert capfd.readouterr().err == (line.replace("LOGS", str(tmp_path)) + "\n" if line else "")
    assert time.monotonic() - begun < 20, "nobody waits for the rank that sleeps"


def test_a_rank_that_lost_another_waits_for_the_cause(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    gone = f"sys.exit({PEER_GONE})"
    assert supervise(by_rank(gone, gone, "time.sleep(0.4); sys.exit('no space')"), 3, logs=tmp_path) == 1
    assert capfd.readouterr().err == f"error: rank 2: no space ({tmp_path}/rank_2.log has more)\n"


def test_a_mistake_that_all_see_is_reported_by_rank_0_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rank_1.log").write_text("an earlier run\n")
    assert supervise(by_rank("time.sleep(0.4)\n" + MISTAKE, MISTAKE, MISTAKE), 3, logs=tmp_path) == 2
    assert capfd.readouterr().err == "error: no such class\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rank_1.log"]
    assert (tmp_path / "rank_1.log").read_text() == "an earlier run\n"


def test_a_deaf_rank_is_killed_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen, started = subprocess.Popen, []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **how: started.append(popen(*args, **how)) or started[-1])
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HOLD.replace("FILE", str(tmp_path / "lock"))
    both = deaf + "if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_DFL)\n" + WAIT
    waits = f"while not Path({str(tmp_path / 'lock.0')!r}).exists(): time.sleep(0.02)\nsys.exit(1)"
    assert supervise(by_rank(both, waits), 2, logs=tmp_path, patience=HURRIED) == 1
    assert [process.returncode for process in started] == [-9, 1], "waited for: no zombie is left"
    eventually(lambda: is_free(tmp_path / "lock.0"))  # forked processes share it


def test_the_others_have_a_while_after_rank_0(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervise(by_rank("", "time.sleep(0.4)"), 2, logs=tmp_path) == 0
    assert capfd.readouterr().err == ""
    assert supervise(by_rank("", WAIT), 2, logs=tmp_path, patience=Patience(grace=0.3)) == 0
    assert capfd.readouterr().err == "warning: rank 1 did not end within 0.3 s after rank 0\n"


def test_rank_0_has_the_terminal_the_others_have_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    says = "print('out', rank); print('err', rank, file=sys.stderr)"
    logs = tmp_path / "a" / "b"
    for _ in range(2):
        assert supervise(by_rank(says, says, ""), 3, logs=logs) == 0
        assert capfd.readouterr() == ("out 0\n", "err 0\n")
    assert [path.name for path in logs.iterdir()] == ["rank_1.log"], "empty ones are removed"
    assert (logs / "rank_1.log").read_text() == "out 1\nerr 1\n" * 2
    supervise(by_rank("", ""), 2, logs=tmp_path / "c" / "d")
    assert not (tmp_path / "c").exists()


def test_everything_is_put_back_also_where_nothing_could_be_started(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(FileNotFoundError):
        supervise([str(tmp_path / "missing")], 2, logs=tmp_path / "logs")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: File exists; type another run_dir"):
        supervise(python(""), 2, logs=tmp_path / "file")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


HOLD = 'held = open(f"FILE.{rank}", "w"); fcntl.flock(held, fcntl.LOCK_EX)\n'


def is_free(lock: Path) -> bool:
    """Whether no process holds it any more; unlike a process id, it is not kept by one that nobody has waited for."""
    with lock.open("w") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


class Supervised:
    """Two ranks, begun and waiting, under a supervisor of their own."""

    def __init__(self, folder: Path, script: str, grace: float = 60.0, before: str = "") -> None:
        self.folder = folder
        hold = HOLD.replace("FILE", str(folder / "lock"))
        wait = f"os.chdir({str(folder)!r})\n{script}\nPath(f'ready.{{rank}}').touch()\nwhile True: time.sleep(0.02)\n"
        main = (
            "import os, sys\nfrom pathlib import Path\nfrom cl_lightning.distributed import launcher, verdict\n"
            f"{before}\n"
            f"patience = verdict.Patience(grace={grace})\n"
            f"sys.exit(launcher.supervise(sys.argv[1:], 2, logs=Path({str(folder / 'logs')!r}), patience=patience))"
        )
        command = [*python(main, ""), *python(hold + wait)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        eventually(lambda: all((folder / f"ready.{rank}").exists() for rank in range(2)))

    def asked(self, rank: int) -> bool:
        return (self.folder / f"asked.{rank}").exists()

    def end(self) -> tuple[int, str]:
        """Exit code and what was said on stderr, when all have gone."""
        _, said = self.process.communicate(timeout=PATIENCE)
        eventually(lambda: is_free(self.folder / "lock.0") and is_free(self.folder / "lock.1"))
        return self.process.returncode, said


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    begun: list[Any] = []
    yield lambda *what, **how: begun.append(Supervised(tmp_path, *what, **how)) or begun[-1]
    for supervised in begun:
        supervised.process.kill()
        supervised.process.communicate()


Begin = Callable[..., Supervised]
LISTEN = """
def asked(number, frame):
    Path(f"asked.{rank}").touch()
    ANSWER
signal.signal(signal.SIGTERM, asked)
"""
OBEDIENT = LISTEN.replace("ANSWER", "sys.exit(75)")
DEAF = LISTEN.replace("ANSWER", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_rank_0_alone_and_its_answer_is_the_end(begin: Begin, number: signal.Signals) -> None:
    supervised = begin(OBEDIENT)
    os.killpg(supervised.process.pid, number)  # as Ctrl-C does: to the whole foreground group
    assert supervised.end() == (75, "")
    assert supervised.asked(0)
    assert not supervised.asked(1)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_all_at_once(begin: Begin) -> None:
    supervised = begin(DEAF)
    supervised.process.send_signal(signal.SIGINT)
    eventually(lambda: supervised.asked(0))
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.end() == (130, "stopped: all ranks were killed\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "number", "end"),
    [
        (DEAF, signal.SIGINT, "rank 0 did not end within 0.4 s after SIGINT, and all ranks were killed"),
        (DEAF, signal.SIGTERM, "rank 0 did not end within 0.4 s after SIGTERM, and all ranks were killed"),
        ("", signal.SIGINT, "rank 0 could not be asked just then, and saved nothing more"),
    ],
)
def test_rank_0_has_so_long_to_stop(begin: Begin, script: str, number: signal.Signals, end: str) -> None:
    supervised = begin(script, grace=0.4)
    supervised.process.send_signal(number)
    assert supervised.end() == (128 + number, f"stopped: {end}\n")
    assert supervised.asked(0) == (script == DEAF)


@pytest.mark.slow
@LINUX
def test_ctrl_c_at_a_terminal_that_rank_0_goes_on_writing_to(begin: Begin) -> None:
    main, end = pty.openpty()
    with open(main, "r+b", buffering=0) as keyboard, open(end, "r+b", buffering=0):
        terminal = (  # the first one that a session opens becomes its own
            f"import termios\nfor fd in range(3): os.close(fd)\n"
            f"fd = os.open({os.ttyname(end)!r}, os.O_RDWR)\nos.dup2(fd, 1)\nos.dup2(fd, 2)\n"
            "mode = termios.tcgetattr(0); mode[3] |= termios.TOSTOP; termios.tcsetattr(0, termios.TCSANOW, mode)"
        )
        says = "if rank == 0: print('stopping', flush=True)\n    sys.exit(75)"
        supervised = begin(LISTEN.replace("ANSWER", says), before=terminal)
        keyboard.write(b"\x03")
        assert supervised.end()[0] == 75
        assert b"stopping" in keyboard.read(4096)


@pytest.mark.parametrize("way", ["", "sys.platform = 'another'\n"], ids=["as it comes", "thread"])
def test_no_rank_outlives_a_supervisor_that_was_killed(begin: Begin, way: str) -> None:
    supervised = begin("from cl_lightning.distributed import launcher\n" + way + "launcher.die_with_parent()\n" + DEAF)
    supervised.process.kill()
    assert supervised.end() == (-9, "")
    assert not supervised.asked(0)


@pytest.mark.parametrize("gone", [True, False])
def test_a_rank_notices_a_supervisor_that_died_before_it_had_begun(gone: bool) -> None:
    command = python("from cl_lightning.distributed.launcher import die_with_parent; die_with_parent()", "")
    supervisor = str(os.getppid() if gone else os.getpid())  # any process but the real parent
    env = {**os.environ, "CL_LIGHTNING_SUPERVISOR": supervisor}
    assert subprocess.run(command, env=env, timeout=PATIENCE, check=False).returncode == (-9 if gone else 0)
