"""What the store has of a topic, asked for by any number of viewers at once and answered once."""

import asyncio
from typing import Final

from redis.exceptions import TimeoutError as RedisTimeoutError

from core.log.keys import partition_of
from core.views.store import ViewStore
from core.views.stored import Snapshot
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from services.api.known import Known, known_of
from services.api.messages import Message, event_message

_SNAPSHOT_SECONDS: Final = 5.0
"""Seconds a viewer waits for a state; the client's own retries on a Redis that hangs take three times as long."""

_AT_ONCE: Final = 32
"""Questions that are with Redis at a time: after an outage ten thousand topics have one each."""


class TopicSource:
    """Reads views and feeds for channels."""

    def __init__(self, store: ViewStore, partitions: int) -> None:
        self._store = store
        self._partitions = partitions
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def snapshot(self, topic: Topic) -> Snapshot:
        """The topic's view and cursor, as the store has them.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
            UnreadableViewError: what is stored is no view this build can read.
        """
        try:
            async with asyncio.timeout(_SNAPSHOT_SECONDS), self._turns:
                return await self._store.snapshot(topic, partition_of(topic, self._partitions))
        except TimeoutError as error:
            raise RedisTimeoutError(f"no answer within {_SNAPSHOT_SECONDS} s") from error

    async def known(self, topic: Topic) -> Known:
        """The same, as viewers are sent it."""
        snapshot = await self.snapshot(topic)
        return known_of(topic, snapshot, asyncio.get_running_loop().time())

    async def events(self, topic: Topic, epoch: str, *, after: int, upto: int, count: int) -> list[Message]:
        """The first events of the feed beyond ``after`` up to ``upto``; empty when it has no longer the very next one.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        async with self._turns:
            page = await self._store.read_feed(topic, after=after, upto=upto, count=count)
        if not page or page[0].pos != after + 1:
            return []
        return [event_message(Cursor(epoch, item.pos), item.event, item.data) for item in page]

    async def tail(self, topic: Topic, epoch: str, *, upto: int, count: int) -> list[Message]:
        """The last events of the feed up to ``upto``, at most ``count``; empty when it does not have that one.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        async with self._turns:
            page = await self._store.read_feed(topic, after=max(0, upto - count), upto=upto, count=count)
        if not page or page[-1].pos != upto:
            return []
        return [event_message(Cursor(epoch, item.pos), item.event, item.data) for item in page]
