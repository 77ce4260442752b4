"""What the store has of topics. Questions that come while one is under way leave together in the next.

So ten thousand viewers who come at once need some hundred calls on one connection, not a connection each.
"""

import asyncio
from typing import Final

from redis.exceptions import TimeoutError as RedisTimeoutError

from core.log.keys import partition_of
from core.runtime.logs import get_logger
from core.views.errors import UnreadableViewError
from core.views.store import FeedItem, ViewStore
from core.views.stored import Snapshot
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from services.api.known import Known, known_of
from services.api.messages import UNREADABLE, Message, event_message

_SNAPSHOT_SECONDS: Final = 5.0
"""Seconds a viewer waits for a state; the client's own retries on a Redis that hangs take three times as long."""

_TOGETHER: Final = 100
"""Views one call reads: while it runs Redis does nothing else."""

_PAGES_AT_ONCE: Final = 4
"""Feeds that are read at a time, each on a connection of its own."""

_SEARCHED_TOGETHER: Final = 500
"""Events one call reads for a time to be found in them."""

log = get_logger()


class TopicSource:
    """Reads views and feeds for channels."""

    def __init__(self, store: ViewStore, partitions: int) -> None:
        self._store = store
        self._partitions = partitions
        self._turns = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._waiting: dict[int, dict[Topic, asyncio.Future[Snapshot]]] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}

    async def snapshot(self, topic: Topic) -> Snapshot:
        """The topic's view and cursor, as the store has them after this call.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
            UnreadableViewError: what is stored is no view this build can read.
        """
        partition = partition_of(topic, self._partitions)
        waiting = self._waiting.setdefault(partition, {})
        answer = waiting.get(topic)
        if answer is None:
            answer = waiting[topic] = asyncio.get_running_loop().create_future()
        if partition not in self._asking:
            self._asking[partition] = asyncio.create_task(self._ask(partition))
        try:
            async with asyncio.timeout(_SNAPSHOT_SECONDS):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            raise RedisTimeoutError(f"no answer within {_SNAPSHOT_SECONDS} s") from error

    async def _ask(self, partition: int) -> None:
        """Ask until nobody waits."""
        try:
            while waiting := self._waiting.get(partition):
                asked = {topic: waiting.pop(topic) for topic in list(waiting)[:_TOGETHER]}
                await self._answer(partition, asked)
        finally:
            del self._asking[partition]

    async def _answer(self, partition: int, asked: "dict[Topic, asyncio.Future[Snapshot]]") -> None:
        try:
            found = await self._store.snapshots(list(asked), partition)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the askers' to know
            for answer in asked.values():
                answer.set_exception(error)
                answer.exception()  # it may be that nobody waits any more
            return
        for answer, snapshot in zip(asked.values(), found, strict=True):
            if isinstance(snapshot, UnreadableViewError):
                answer.set_exception(snapshot)
                answer.exception()
            else:
                answer.set_result(snapshot)

    async def known(self, topic: Topic) -> Known:
        """The same, as viewers are sent it."""
        snapshot = await self.snapshot(topic)
        return known_of(topic, snapshot, asyncio.get_running_loop().time())

    async def events(self, topic: Topic, epoch: str, *, after: int, upto: int, count: int) -> list[Message]:
        """The first events of the feed beyond ``after`` up to ``upto``.

        Empty when it no longer has the very next one, or another hand wrote what nobody can read.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        page = await self._page(topic, after, upto, count)
        return _messages(topic, epoch, page) if page and page[0].pos == after + 1 else []

    async def tail(self, topic: Topic, epoch: str, *, upto: int, count: int) -> list[Message]:
        """The last events of the feed up to ``upto``, at most ``count``; empty when it does not have that one.

        Empty too when another hand wrote what nobody can read.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        page = await self._page(topic, max(0, upto - count), upto, count)
        return _messages(topic, epoch, page) if page and page[-1].pos == upto else []

    async def first_since(self, topic: Topic, milliseconds: int, *, upto: int) -> int | None:
        """Position of the first event up to ``upto`` that was appended at this time or later; None: there is none.

        1 also when it may be an event that the feed no longer has. All of them are looked at: events of several source
        streams meet in a feed, so that times need not rise with positions.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        pos = 0
        while pos < upto:
            page = await self._page(topic, pos, upto, _SEARCHED_TOGETHER)
            if not page:
                return None if pos else 1
            for item in page:
                if item.stream_id.milliseconds >= milliseconds:
                    return 1 if item.pos == page[0].pos and not pos else item.pos
            pos = page[-1].pos
        return None

    async def _page(self, topic: Topic, after: int, upto: int, count: int) -> list[FeedItem]:
        try:
            async with self._turns:
                return await self._store.read_feed(topic, after=after, upto=upto, count=count)
        except UNREADABLE:
            log.exception("stream feed cannot be read", topic=topic.path)
            return []


def _messages(topic: Topic, epoch: str, page: list[FeedItem]) -> list[Message]:
    try:
        return [event_message(Cursor(epoch, item.pos), item.event, item.data) for item in page]
    except UNREADABLE:
        log.exception("stream feed cannot be read", topic=topic.path)
        return []
