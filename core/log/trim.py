"""Keeping source streams at their length."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis

from core.log.groups import NOBODY, ForeignGroups
from core.log.keys import Source
from core.runtime.lua import load_script
from pipai_contracts.record import BEGINNING, StreamId


class Trimmed(NamedTuple):
    """What a trim came to.

    ``gone``: entries removed; ``left``: entries over the length that stayed; ``held``: those of them that stayed for a
    group of others; ``taken``: entries removed though such a group needed them; ``left_behind``: silent groups
    that needed some of what went.
    """

    gone: int = 0
    left: int = 0
    held: int = 0
    taken: int = 0
    left_behind: frozenset[bytes] = frozenset()


UNTOUCHED: Final = Trimmed()


class Trimmer:
    """Trims source streams to ``max_entries``, below every required position only.

    Groups of others hold back at most ``held_limit`` entries more: Redis' memory is not theirs to fill.
    """

    def __init__(self, redis: Redis, groups: ForeignGroups, *, max_entries: int, held_limit: int) -> None:
        self._redis = redis
        self._groups = groups
        self._max_entries = max_entries
        self._held_limit = held_limit
        self._script = load_script(redis, __file__, "trim.lua")

    async def trim(self, source: Source, required: Sequence[StreamId]) -> Trimmed:
        """Remove at most a thousand entries that everybody has taken in.

        ``required``: the positions of all who must have an entry before it may go. One who has none yet is at
        `BEGINNING`, and nothing goes. A position may be older than the true one: then less is trimmed.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, or the key is no stream.
        """
        position = min(required, default=BEGINNING)
        if position == BEGINNING:
            return UNTOUCHED
        held_back = await self._groups.held_back(source)
        free = position.next
        held = held_back.first_needed is not None and held_back.first_needed < free
        first = min(free, held_back.first_needed or free)
        gone, length, below = await self._cut(source, self._max_entries, first, position)
        taken, bound = 0, self._max_entries + self._held_limit
        if held and length > bound:
            taken, length, below = await self._cut(source, bound, free, position)
        over = max(length - self._max_entries, 0)
        left_behind = frozenset(group for group, needed in held_back.silent.items() if needed < below)
        return Trimmed(gone + taken, over, over if held else 0, taken, left_behind)

    async def trim_below(self, source: Source, stream_id: StreamId) -> bool:
        """Remove everything before an entry that everybody has taken in; False, and nothing, where others have groups.

        This needs an id to be known. `trim` has to find one in Redis, which copies every entry that goes.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, or the key is no stream.
        """
        if await self._groups.held_back(source) != NOBODY:
            return False
        await self._redis.xtrim(source.key, minid=str(stream_id), approximate=False)
        return True

    async def _cut(self, source: Source, keep: int, first: StreamId, position: StreamId) -> tuple[int, int, StreamId]:
        gone, length, below = await self._script(keys=[source.key], args=[keep, str(first), str(position)])
        return gone, length, StreamId.parse(below)
