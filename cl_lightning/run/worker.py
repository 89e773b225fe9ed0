"""``python -m cl_lightning.run.worker FILE``: one of the processes that ``launcher.supervise`` starts for a run."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

from cl_lightning.config.registry import register
from cl_lightning.core.exit_codes import PEER_GONE
from cl_lightning.distributed.launcher import die_with_parent
from cl_lightning.run.job import WANTS_TRACEBACK, run_as_rank


def main() -> int:
    """Run the job in the file; the exit code tells the supervisor whether this process was the cause of an end."""
    die_with_parent()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM may tell all processes of a job; the first one will stop us
    register()
    try:
        return run_as_rank(Path(sys.argv[1]))
    except Exception as error:
        from cl_lightning.distributed.process_group import peer_is_gone  # heavy

        if WANTS_TRACEBACK or not peer_is_gone(error):
            traceback.print_exc()
        return PEER_GONE if peer_is_gone(error) else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what is left of a group of processes must not wait for the others on its way out
