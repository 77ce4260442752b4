"""How many files, connections among them, the process may have open."""

import resource
from contextlib import suppress
from typing import Final

_GIVEN: Final = (65_536, 10_240)
"""What systems give that name a higher limit, or none, and refuse it: macOS does."""


def allow_many_files() -> None:
    """Raise the process's own limit to what the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, *_GIVEN):
        if soft == resource.RLIM_INFINITY or soft >= most != resource.RLIM_INFINITY:
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return


def max_open_files() -> int:
    """How many the process may have open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**31
