"""Telling about keys under the deployment's prefix that are none of ours."""

import sys
from typing import Final

from services.admin.words import plain

_MOST_NAMED: Final = 20
"""Keys named by one command: another program with the same prefix may have a million."""


class ForeignKeys:
    """Names such keys on stderr, once each, with what cannot be shown escaped. They are left alone."""

    def __init__(self) -> None:
        self._named: set[bytes] = set()

    def note(self, key: bytes) -> None:
        """One was met."""
        if key in self._named or len(self._named) > _MOST_NAMED:
            return
        self._named.add(key)
        if len(self._named) > _MOST_NAMED:
            sys.stderr.write("more keys are none of ours, and are left alone\n")
        else:
            sys.stderr.write(f"{plain(key.decode(errors='backslashreplace'))} is no key of ours and is left alone\n")
