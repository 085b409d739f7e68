# SPDX-License-Identifier: Apache-2.0
"""Threads of torch that wait for work sleep, even where torch was imported before neurfield.

By default they spin for milliseconds, on the cores that the native kernels take their turns on with torch's operators:
training op by op is a third slower on an idle machine, and ten times on one that others use. GNU's OpenMP, which torch
brings on Linux, reads OMP_WAIT_POLICY when it is loaded and never again. But it also lets threads sleep after a few
microseconds while it has more of them than there are processors, and every thread of a program that runs an operator
gets a team of its own.
"""

import os
import sys
import threading
from pathlib import Path

_MOST_TEAMS = 4  # where more would be needed, torch has few threads for the processors, and they may spin


def let_threads_sleep() -> None:
    """Call before torch is imported, or after; environment variables that say how to wait are left alone."""
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"  # also of programs that this one starts
    if "torch" in sys.modules and _is_gnu():
        _outnumber_processors()


def _is_gnu() -> bool:
    try:
        return "libgomp" in Path("/proc/self/maps").read_text(errors="replace")
    except OSError:  # not Linux
        return False


def _outnumber_processors() -> None:
    """Starts teams that do nothing, beside that of the main thread."""
    import torch

    n_threads, n_processors = torch.get_num_threads(), len(os.sched_getaffinity(0))
    if n_threads < 2 or (n_teams := (n_processors - 1) // (n_threads - 1)) > _MOST_TEAMS:
        return
    ready = threading.Semaphore(0)

    def keep_team() -> None:
        torch.empty(n_threads << 15).zero_()  # large enough for all threads
        ready.release()
        threading.Event().wait()  # a team ends with its thread

    for _ in range(n_teams):
        threading.Thread(target=keep_team, name="neurfield-waiting", daemon=True).start()
        ready.acquire()
