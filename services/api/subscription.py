"""What one viewer has still to be given, bounded."""

import asyncio
from collections import deque
from typing import Final, Literal

from services.api.changes import Change

Signal = Literal["began", "lost", "slow", "degraded", "recovered", "shutdown"]
"""What a viewer must be told beside events: the hub follows only from here (began); positions jump (lost, slow); Redis
went away or came back; the end."""

MAX_WAITING: Final = 1_000
"""Changes that wait for one viewer. One that does not read in time gets the state instead of the history."""


_KEPT_SIGNALS: Final = 10


class Subscription:
    """The changes and signals of one topic for one viewer, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Change | Signal | bytes] = deque()
        self._arrived = asyncio.Event()

    def offer(self, item: Change | Signal | bytes) -> None:
        """Pass on a change, a signal, or a ready frame without position; never waits.

        When too much waits, the changes among it are given up for one ``slow``; the latest signals stay.
        """
        if len(self._waiting) >= MAX_WAITING:
            kept: list[Change | Signal | bytes] = [
                old for old in self._waiting if not isinstance(old, Change) and old != "slow"
            ]
            self._waiting = deque(["slow", *kept[-_KEPT_SIGNALS:]])
        self._waiting.append(item)
        self._arrived.set()

    async def take(self, seconds: float | None = None) -> list[Change | Signal | bytes]:
        """Everything that waits, at least one item; empty when nothing came within ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        items = list(self._waiting)
        self._waiting.clear()
        return items
