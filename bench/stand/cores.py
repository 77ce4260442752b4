"""Which processor core a process runs on."""

import os
from pathlib import Path


def pin(pid: int, core: int) -> None:
    """Keep a process, and its threads, on one core, where the machine has several and the system can do it."""
    if (os.cpu_count() or 1) > core and hasattr(os, "sched_setaffinity"):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
