"""What a confined process may use."""

import contextlib
import resource
import signal
from dataclasses import dataclass

_MARGIN = 5
"""Seconds a confined process gets beyond its time, for the case that nobody is left to end it."""

_LARGEST_FILE = 512 * 1024 * 1024
"""Bytes; py3langid unpacks its model into a temporary file."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory in bytes of address space, time in seconds: of the clock, and at most as much of the processor."""

    memory_bytes: int = 1024 * 1024 * 1024
    seconds: int = 300


def confine(limits: Limits) -> None:
    """Take this process's freedom: from here on it can neither grow, nor run on, nor fill the disk.

    Where the system does not know a limit (macOS ignores the one on memory) the others still hold.
    """
    for what, most, at_last in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        # The same number twice would have it killed at once, which looks like any other crash.
        (resource.RLIMIT_CPU, limits.seconds, limits.seconds + _MARGIN),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, at_last))
    signal.alarm(limits.seconds + _MARGIN)
