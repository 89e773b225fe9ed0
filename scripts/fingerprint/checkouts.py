"""Commits of ours as folders: the working tree, and older ones in a temporary worktree."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def commit_of(checkout: Path) -> str | None:
    """Return the commit of a checkout, with ``+`` if it was changed; None where there is no git."""
    if not (checkout / ".git").exists():
        return None
    try:
        changed = _git(checkout, "status", "--porcelain", "-uno")
        return _git(checkout, "rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def resolved(root: Path, commit: str) -> str:
    """Return the short id of what was typed (a hash, a branch, ``HEAD~3``). Raises ``ValueError`` if there is none."""
    try:
        return _git(root, "rev-parse", "--short=12", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"{commit} is no commit of this repository: type AGAINST=HEAD, or a hash or branch") from error


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """Yield a folder with the files of ``commit``, for the block. Raises ``ValueError`` if git cannot make it."""
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as parent:
        folder = Path(parent) / "checkout"
        try:
            _git(root, "worktree", "add", "--detach", "--quiet", str(folder), commit)
        except subprocess.CalledProcessError as error:
            raise ValueError(f"git makes no worktree of {commit}: {error.stderr.strip()}") from error
        try:
            yield folder
        finally:
            _git(root, "worktree", "remove", "--force", str(folder))


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
