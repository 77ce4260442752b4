"""Keeping source streams at their length."""

from typing import Final

from redis.asyncio import Redis

from core.log.keys import Source
from core.runtime.lua import load_script
from pipai_contracts.record import StreamId

_SLACK: Final = 100
"""Offsets between two trims of a source: a trim for each event would cost more than the event."""


class Trimmer:
    """Trims source streams to ``max_entries``, below the checkpoint only."""

    def __init__(self, redis: Redis, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._script = load_script(redis, __file__, "trim.lua")
        self._trimmed_at: dict[Source, int] = {}

    async def trim(self, source: Source, offset: int, stream_id: StreamId) -> None:
        """Trim the source when it has grown since the last time; offset and id are of the checkpoint.

        That is the caller's own, so it may be older than the true one: then less is trimmed.
        """
        grown = offset - self._trimmed_at.get(source, -_SLACK)
        if 0 <= grown < _SLACK:  # offsets that went back, as after a flush, begin anew
            return
        await self._script(keys=[source.key], args=[self._max_entries, str(stream_id)])
        self._trimmed_at[source] = offset
