"""What is wrong though Redis answers: events that cannot be appended, views that do not follow."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final, cast

from redis.asyncio import Redis

from core.log.damage import faults_of
from core.log.keys import Keys, Source
from core.runtime.memory import memory_fault
from core.views.checkpoints import Checkpoints
from pipai_contracts.record import StreamId
from services.api.presence import Presence

_ASK_EVERY: Final = 1.0
"""Seconds an answer is used for: health may be asked for by many."""

_LATE_SECONDS: Final = 30.0
"""Age from which an event that is in no view yet means that nobody projects."""


@dataclass(frozen=True, slots=True)
class Faults:
    """In words, each with its place and remedy; none when all is well.

    ``damaged``: a key of the log is none. ``refusing``: Redis takes no writes, or may throw events away. ``late``:
    events wait though nothing moves.
    """

    damaged: list[str] = field(default_factory=list[str])
    refusing: list[str] = field(default_factory=list[str])
    late: list[str] = field(default_factory=list[str])


class FaultFinder:
    """Looks for faults at most once a second."""

    def __init__(self, redis: Redis, keys: Keys, presence: Presence) -> None:
        self._redis = redis
        self._sources = keys.sources()
        self._checkpoints = Checkpoints(redis, keys)
        self._presence = presence
        self._oldest: dict[Source, StreamId | None] = {}
        self._found = Faults()
        self._looked_at = -_ASK_EVERY
        self._looking = asyncio.Lock()

    async def find(self) -> Faults:
        """What is wrong now, or was a second ago.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        async with self._looking:
            if time.monotonic() >= self._looked_at + _ASK_EVERY:
                self._found = await self._look()
                self._looked_at = time.monotonic()
            return self._found

    async def _look(self) -> Faults:
        full = await memory_fault(self._redis)
        refusal = self._presence.refusal
        refusing = [full] if full else [f"Redis refuses writes: {refusal}"] if refusal else []
        damaged = await faults_of(self._redis, self._sources)
        return Faults(damaged, refusing, [] if damaged else await self._late())

    async def _late(self) -> list[str]:
        """Sources whose oldest waiting event is old, and is the one that waited at the last look.

        At the first look age alone tells: who asks once must not be told that all is well.
        """
        checkpoints = await self._checkpoints.load_own(self._sources)
        async with self._redis.pipeline(transaction=False) as pipe:
            for source, checkpoint in checkpoints.items():
                pipe.xrange(source.key, min=f"({checkpoint.stream_id}", count=1)
            replies = cast("list[list[Any]]", await pipe.execute())
        late: list[str] = []
        for source, reply in zip(checkpoints, replies, strict=True):
            oldest = StreamId.parse(reply[0][0]) if reply else None
            stands = source not in self._oldest or self._oldest[source] == oldest
            self._oldest[source] = oldest
            if oldest is None or not stands:
                continue
            age = time.time() - oldest.milliseconds / 1000
            if age > _LATE_SECONDS:
                late.append(f"{source.key} has events {age:.0f} s old that are in no view: no projector works on it")
        return late
