"""The memory that a process can have: the machine's, or the least limit that is set on it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from cl_lightning.resources.machine import machine_memory


def _system(root: Path, kilobytes: int, swap: int = 0, **files: str) -> Path:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal:  {kilobytes} kB\nSwapTotal:  {swap} kB\n")
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_of_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_memory_is_the_machine_s_with_its_swap_space(tmp_path: Path) -> None:
    assert machine_memory(_system(tmp_path, 1000, 500)) == 1500 * 1024


@pytest.mark.parametrize(
    "files",
    [
        {"sys__fs__cgroup__memory_of_max": "1048576\n"},
        {"sys__fs__cgroup__a__memory_of_max": "1048576\n", "proc__self__cgroup": "0::/a/b\n"},
        {"sys__fs__cgroup__memory__a__memory_of_limit_in_bytes": "1048576", "proc__self__cgroup": "4:memory:/a\n"},
    ],
)
def test_a_control_group_limits_it(files: dict[str, str], tmp_path: Path) -> None:
    assert machine_memory(_system(tmp_path, 10_000, 0, **files)) == 1048576


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_a_group_without_a_limit_limits_nothing(text: str, tmp_path: Path) -> None:
    root = _system(tmp_path, 10_000, 0, sys__fs__cgroup__memory_of_max=text)
    assert machine_memory(root) == 10_000 * 1024


def test_nothing_is_reported_where_nothing_is_known(tmp_path: Path) -> None:
    assert machine_memory(tmp_path) is None


def test_the_least_limit_of_all_groups_counts_and_others_are_not_ours(tmp_path: Path) -> None:
    files = {
        "proc__self__cgroup": "3:cpu:/other\n0::/a/b\n",
        "sys__fs__cgroup__a__memory_of_max": "3145728\n",
        "sys__fs__cgroup__a__b__memory_of_max": "2097152\n",
        "sys__fs__cgroup__other__memory_of_max": "1048576\n",
    }
    assert machine_memory(_system(tmp_path, 10_000, 0, **files)) == 2097152


def test_swap_space_comes_on_top_of_a_limit(tmp_path: Path) -> None:
    root = _system(tmp_path, 10_000, 1000, sys__fs__cgroup__memory_of_max="1048576")
    assert machine_memory(root) == 1048576 + 1000 * 1024


@pytest.mark.parametrize(("limit", "expected"), [(4096, 4096), (10**12, 10_000 * 1024)])
def test_ulimit_limits_it_too(limit: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert machine_memory(_system(tmp_path, 10_000)) == expected


def test_an_odd_system_is_an_unknown_one(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemFree: 10 kB\n")
    assert machine_memory(tmp_path) is None
