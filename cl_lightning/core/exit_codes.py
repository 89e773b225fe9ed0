"""Exit codes of the commands and of the processes of a run, with the reason for each number."""

from __future__ import annotations

import signal

DONE = 0
FAILED = 1
"""A run diverged, or something outside of it ended it."""
PARTLY = 1
"""Something could not be used or made, and the rest was."""
WRONG_INPUT = 2
"""A mistake of the user's, as argparse and shells report one."""
PEER_GONE = 71
"""A rank failed only because it waited for another one (EX_OSERR): not the root cause if there is any other."""
STOPPED = 75
"""A run was stopped and saved where it can be resumed (EX_TEMPFAIL: a scheduler may try again)."""
INTERRUPTED = 128 + signal.SIGINT
"""Ctrl-C ended the command, as a shell reports it: 130."""
TERMINATED = 128 + signal.SIGTERM
"""SIGTERM ended the command, as a shell reports it: 143."""
