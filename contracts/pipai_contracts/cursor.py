"""A place in a topic's feed."""

import re
from typing import Final, NamedTuple


class InvalidCursorError(ValueError):
    """Not a cursor: ``<epoch>.<pos>``, or ``0`` for a topic nobody published to."""


_FORM: Final = re.compile(r"^(?P<epoch>[0-9a-f]{8})\.(?P<pos>[1-9][0-9]{0,15})$", re.ASCII)


class Cursor(NamedTuple):
    """``pos`` events of the feed that ``epoch`` names have been seen.

    A pos means nothing in another epoch: after lost data the same number stands for another event.
    """

    epoch: str
    pos: int

    def __str__(self) -> str:
        """The form on the wire."""
        return f"{self.epoch}.{self.pos}" if self.pos else "0"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read the wire form.

        Raises:
            InvalidCursorError: it is none.
        """
        if text == "0":
            return START
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidCursorError(f"{text[:80]!r} is not a cursor; it looks like 3f2a91bc.17, or 0")
        return cls(found["epoch"], int(found["pos"]))


START: Final = Cursor("", 0)
"""Nothing seen yet; resumes at pos 1 of any epoch."""
