"""Dead letters: events that could not be read or folded, kept whole."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.typing import EncodableT, FieldT

from core.log.entry import Entry
from core.log.keys import Keys, Source

MAX_DEAD: Final = 10_000
"""Dead letters kept per source stream partition; the oldest go first."""


class DeadLetters:
    """Where events go that no view can take."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def park(self, source: Source, entry: Entry, error: Exception) -> None:
        """Keep the entry with all its fields; parking it again changes nothing.

        Dead letters have the stream ids of their originals while these rise, so Redis itself refuses repeats.
        """
        key = self._keys.dead(source)
        stream_id = str(entry.stream_id)
        fields: dict[FieldT, EncodableT] = {
            "stream_id": stream_id,
            "error": f"{type(error).__name__}: {error}"[:2000],
            **{b"original:" + name: value for name, value in entry.fields.items()},
        }
        try:
            await self._redis.xadd(key, fields, id=stream_id, maxlen=MAX_DEAD, approximate=True)
        except ResponseError:
            if not await self._redis.xrange(key, min=stream_id, max=stream_id):
                await self._redis.xadd(key, fields, maxlen=MAX_DEAD, approximate=True)
