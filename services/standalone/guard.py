"""Runs one command, and ends it when whoever started the guard is gone.

`python -I -S guard.py COMMAND ARG…` with a pipe as standard input: its other end is the lifeline. When that
end closes, also because its owner was killed with SIGKILL, the guard ends the command's whole process group.
Nothing is polled, and nothing but the standard library is imported, so that a guard costs a few milliseconds
once and nothing after that.

The guard leads a process group of its own, in which the command and the command's own children stay:
`os.killpg(guard.pid, …)` reaches them all, even after the guard is dead. SIGTERM, SIGINT and SIGHUP sent to
the guard are passed on to the command alone. The exit code is the command's; 128 + n when signal n ended it.
"""

import os
import select
import signal
import sys
from pathlib import Path

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL once the lifeline is cut; below the 5 s that a stop may take in all."""

LIFELINE = 0
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def guarded(command: list[str]) -> list[str]:
    """The command line that runs `command` under a guard. Start it with a pipe as stdin."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *command]


def main(command: list[str]) -> int:
    """Run `command` until it ends or the lifeline is cut, and return its exit code."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # without this a cut lifeline would end the caller's group as well
    wake = _wake_on_signals()
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigdef=[*PASSED_ON, signal.SIGCHLD],
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]} could not be started: {error.strerror}\n")
        return 127
    return _watch(child, wake)


def _wake_on_signals() -> int:
    """Turn the signals that matter into bytes on a pipe, and return the end to read them from."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in (*PASSED_ON, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    return read_end


def _watch(child: int, wake: int) -> int:
    sources = [wake, LIFELINE]
    timeout = None
    while True:
        readable, _, _ = select.select(sources, [], [], timeout)
        if not readable:
            os.killpg(0, signal.SIGKILL)
        if wake in readable:
            numbers = os.read(wake, 64)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                if timeout is not None:
                    os.killpg(0, signal.SIGKILL)  # what the command left behind; nobody reads our exit code
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if timeout is None:
                for number in set(numbers) & set(PASSED_ON):
                    os.kill(child, number)
        if LIFELINE in readable and not os.read(LIFELINE, 64):
            sources.remove(LIFELINE)
            timeout = GRACE
            os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
