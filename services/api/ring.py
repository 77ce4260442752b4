"""The newest events of a watched topic, for who comes back: most of a reconnect storm never reaches Redis."""

from collections.abc import Sequence
from typing import Final

from services.api.messages import Message, total_bytes

MAX_EVENTS: Final = 256
"""Events a ring keeps."""

MAX_BYTES: Final = 256 * 1024
"""Bytes of frames a ring keeps, unless a single one has more."""

ALL_BYTES: Final = 128 * 1024 * 1024
"""Bytes the rings of a process keep together; above it those that get something new give up their oldest."""


class RingSpace:
    """What all rings of a process hold together."""

    def __init__(self, most: int = ALL_BYTES) -> None:
        self.most = most
        self.used = 0


class Ring:
    """Events with positions one after another, the newest last."""

    __slots__ = ("_bytes", "_messages", "_space")

    def __init__(self, space: RingSpace) -> None:
        self._space = space
        self._messages: list[Message] = []
        self._bytes = 0

    @property
    def first(self) -> int | None:
        """Position of the oldest event; None when there is none."""
        cursor = self._messages[0].cursor if self._messages else None
        return cursor.pos if cursor is not None else None

    @property
    def room(self) -> int:
        """How many earlier events it could keep, if they are as large as those it has."""
        count = len(self._messages)
        if not count:
            return MAX_EVENTS
        return max(0, min(MAX_EVENTS - count, (MAX_BYTES - self._bytes) * count // self._bytes))

    def add(self, messages: Sequence[Message]) -> None:
        """Keep these, which follow what is there."""
        self._messages += messages
        self._grow(total_bytes(messages))
        if len(self._messages) > MAX_EVENTS or self._bytes > MAX_BYTES or self._space.used > self._space.most:
            self._shrink()

    def put_before(self, messages: Sequence[Message]) -> None:
        """Keep these, after which what is there follows, as far as there is room."""
        room = MAX_EVENTS - len(self._messages)
        kept = list(messages[-room:]) if room > 0 else []
        while kept and self._bytes + total_bytes(kept) > MAX_BYTES:
            del kept[: len(kept) // 2 + 1]
        self._messages[:0] = kept
        self._grow(total_bytes(kept))

    def after(self, pos: int) -> list[Message] | None:
        """The events beyond ``pos``; None when the first of them is no longer here."""
        first = self.first
        if first is None or pos + 1 < first:
            return None
        return self._messages[pos + 1 - first :]

    def clear(self) -> None:
        """Forget everything: positions go on elsewhere."""
        self._messages = []
        self._grow(-self._bytes)

    def _grow(self, size: int) -> None:
        self._bytes += size
        self._space.used += size

    def _shrink(self) -> None:
        gone = 0
        over = max(self._bytes - MAX_BYTES, self._space.used - self._space.most)
        while gone < len(self._messages) - 1 and (len(self._messages) - gone > MAX_EVENTS or over > 0):
            over -= len(self._messages[gone].frame)
            gone += 1
        self._grow(-total_bytes(self._messages[:gone]))
        del self._messages[:gone]
