"""Asking for the checkpoints of all sources at once, for everybody who looks after one.

Every view partition has a copy of every source's checkpoint. Were each source to ask for its own, the questions of an
idle projector would grow with the square of the number of partitions.
"""

import asyncio
import time
from typing import Final, NamedTuple

from core.log.keys import Source
from core.views.checkpoints import Checkpoints, Copies

_FRESH: Final = 1.9
"""Seconds an answer is used for: less than lies between two looks, so that no source looks at one answer twice."""

_KEPT_ROUNDS: Final = 3


class Seen(NamedTuple):
    """A source's checkpoint as it stands in Redis, and when (s of the monotonic clock) that was asked."""

    copies: Copies
    asked_at: float


class Survey:
    """One projector's question for the checkpoints of the sources it looks after: those that asked of late."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._seen: dict[Source, Copies] = {}
        self._asked_at = -_FRESH
        self._rounds = 0
        self._wanted: dict[Source, int] = {}
        """In which round each source asked last."""
        self._asking = asyncio.Lock()

    async def of(self, source: Source) -> Seen:
        """The source's checkpoint, asked for now or a moment ago.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        async with self._asking:
            if time.monotonic() >= self._asked_at + _FRESH:
                await self._ask(source)
            self._wanted[source] = self._rounds
            if source in self._seen:
                return Seen(self._seen[source], self._asked_at)
            asked_at = time.monotonic()
            return Seen((await self._checkpoints.load_all([source]))[source], asked_at)

    async def _ask(self, source: Source) -> None:
        """Ask for all anew. Who did not ask in the last rounds is looked after by nobody here any more."""
        self._wanted = {one: asked for one, asked in self._wanted.items() if asked > self._rounds - _KEPT_ROUNDS}
        self._wanted[source] = self._rounds
        asked_at = time.monotonic()
        self._seen = await self._checkpoints.load_all(list(self._wanted))
        self._asked_at, self._rounds = asked_at, self._rounds + 1
