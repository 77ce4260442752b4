"""Telling whoever waits how far a long command is."""

import sys
import time
from typing import Final

_EVERY: Final = 2.0


class Progress:
    """A line on stderr every few seconds; none for a command that is quick."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = time.monotonic()
        self._count = 0

    def step(self, count: int = 1) -> None:
        """So much more is done."""
        self._count += count
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            sys.stderr.write(f"{self._what}: {self._count}\n")
