"""Moving events to the end of the log, above ids that were given out before the log went back."""

from typing import Final, cast

from redis.asyncio import Redis

from core.log.keys import Source
from core.runtime.lua import load_script
from pipai_contracts.record import StreamId

_PER_CALL: Final = 2_000
"""Events one call moves: while it runs Redis does nothing else."""


class Lifter:
    """Moves events of a source stream. Each keeps all it says, but for its place; ``lifted`` says where it stood."""

    def __init__(self, redis: Redis) -> None:
        self._lift = load_script(redis, __file__, "lift.lua")

    async def lift(self, source: Source, *, oldest: StreamId | None, floor: StreamId, offset: int) -> int:
        """Move the event ``oldest`` and all after it to the end; returns how many events were moved.

        They and whatever is appended later get ids above ``floor`` and count on from ``offset``, whatever the clock.

        Raises:
            redis.exceptions.RedisError: Redis did not answer; some may be moved, and moving the rest is safe.
        """
        args = [str(oldest) if oldest is not None else "", *floor, offset, _PER_CALL]
        total = 0
        while True:
            moved, left = cast("list[int]", await self._lift(keys=[source.key, source.offset], args=args))
            total += moved
            if not left:
                return total
