"""Consumer groups of others on our source streams: what they still need is not trimmed, while they live."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.keys import OUR_GROUPS, Source
from pipai_contracts.record import StreamId

_LOOK_EVERY: Final = 5.0
"""Seconds an answer is used for. An old one is safe: a group's needs only move on."""

_MOST_GROUPS: Final = 100
"""Groups looked at per stream, those that are furthest behind first."""


class HeldBack(NamedTuple):
    """What the groups of others ask for: the oldest entry a living one needs, and what each silent one would."""

    first_needed: StreamId | None
    silent: Mapping[bytes, StreamId]


NOBODY: Final = HeldBack(None, {})


@dataclass(frozen=True, slots=True)
class _Group:
    name: bytes
    delivered: StreamId


class ForeignGroups:
    """What consumer groups that are not ours hold back, per source stream.

    A group lives while one of its consumers has read within ``idle_limit`` seconds, or while its last delivered entry
    moved within them. When it last moved is kept in Redis beside the stream, so that a projector's restart does not
    make a dead group look alive; a group without consumers counts from when it was first seen.
    """

    def __init__(self, redis: Redis, *, idle_limit: int) -> None:
        self._redis = redis
        self._idle_limit = idle_limit
        self._known: dict[Source, tuple[float, HeldBack]] = {}

    async def held_back(self, source: Source) -> HeldBack:
        """What is held back now, as it was at most five seconds ago.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, or the key is no stream.
        """
        looked, held_back = self._known.get(source, (None, NOBODY))
        if looked is None or time.monotonic() - looked >= _LOOK_EVERY:
            held_back = await self._look(source)
            self._known[source] = (time.monotonic(), held_back)
        return held_back

    async def _look(self, source: Source) -> HeldBack:
        groups = await self._foreign(source)
        if not groups:
            return NOBODY
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(source.groups)
            for group in groups:
                pipe.xpending(source.key, cast("str", group.name))
                pipe.xinfo_consumers(source.key, cast("str", group.name))
            replies = await pipe.execute(raise_on_error=False)
        known = replies[0]
        if isinstance(known, ResponseError):  # of the wrong type: nothing in it is ours
            await self._redis.unlink(source.groups)
            known = {}
        idle = await self._idle_seconds(source, groups, cast("dict[bytes, bytes]", known))
        alive: list[StreamId] = []
        silent: dict[bytes, StreamId] = {}
        for index, group in enumerate(groups):
            pending, consumers = replies[1 + 2 * index : 3 + 2 * index]
            if isinstance(pending, ResponseError) or isinstance(consumers, ResponseError):
                continue  # destroyed meanwhile
            oldest = pending["min"]
            needed = StreamId.parse(oldest) if oldest else group.delivered.next
            if min([idle[group.name], *(consumer["idle"] / 1000 for consumer in consumers)]) < self._idle_limit:
                alive.append(needed)
            else:
                silent[group.name] = needed
        return HeldBack(min(alive, default=None), silent)

    async def _foreign(self, source: Source) -> list[_Group]:
        try:
            rows = await self._redis.xinfo_groups(source.key)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return []
        others = [row for row in rows if row["name"] not in OUR_GROUPS]
        groups = [_Group(row["name"], StreamId.parse(row["last-delivered-id"])) for row in others]
        return sorted(groups, key=lambda group: group.delivered)[:_MOST_GROUPS]

    async def _idle_seconds(self, source: Source, groups: list[_Group], known: dict[bytes, bytes]) -> dict[bytes, int]:
        """Seconds since each group's last delivered entry moved, or since the group was first seen."""
        seconds = int(time.time())
        idle: dict[bytes, int] = {}
        moved: dict[bytes, str] = {}
        for group in groups:
            delivered, _, since = known.get(group.name, b"").partition(b" ")
            if delivered.decode() == str(group.delivered) and since.isdigit():
                idle[group.name] = seconds - int(since)
            else:
                idle[group.name] = 0
                moved[group.name] = f"{group.delivered} {seconds}"
        gone = known.keys() - {group.name for group in groups}
        async with self._redis.pipeline(transaction=False) as pipe:
            if moved:
                pipe.hset(source.groups, mapping=cast("dict[Any, Any]", moved))
            if gone:
                pipe.hdel(source.groups, *cast("set[str]", gone))
            pipe.expire(source.groups, max(2 * self._idle_limit, 60))  # looks are seconds apart
            await pipe.execute()
        return idle
