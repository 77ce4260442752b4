"""What a process knows of a watched topic, its state and newest events; what it does not, the store is asked for."""

import asyncio
from collections.abc import Sequence
from typing import Final

from pipai_contracts.cursor import START, Cursor
from pipai_contracts.ids import Topic
from services.api.known import Known
from services.api.messages import Message
from services.api.ring import MAX_EVENTS, Ring, RingSpace
from services.api.sources import TopicSource

_FRESH_SECONDS: Final = 0.05
"""How long a state serves those who join while nothing happens: of a storm all but a few are answered from memory."""

PAGE: Final = 100
"""Events of a feed that are read at once."""


class Memory:
    """One topic up to ``cursor``. Of many who ask for the same at a time one has Redis asked.

    ``known`` is the latest state that was heard of, which may be older than the cursor, or newer.
    """

    __slots__ = ("_filling", "_looking", "_ring", "_source", "_topic", "cursor", "known")

    def __init__(self, topic: Topic, source: TopicSource, space: RingSpace) -> None:
        self.cursor: Cursor = START
        self.known: Known | None = None
        self._topic = topic
        self._source = source
        self._ring = Ring(space)
        self._looking: asyncio.Future[Known] | None = None
        self._filling: asyncio.Future[None] | None = None

    # Its state

    async def look(self, *, fresh: bool = False) -> Known:
        """The topic's state, some milliseconds old at most; ``fresh``: asked for after this call.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
            UnreadableViewError: what is stored is no view this build can read.
        """
        known = self.known
        if not fresh and known is not None and known.cursor == self.cursor:
            age = asyncio.get_running_loop().time() - known.loaded
            if age < _FRESH_SECONDS:
                return known
        looking = self._look() if self._looking is None or fresh else self._looking
        return await asyncio.shield(looking)

    def keep_up(self) -> None:
        """Have the state asked for again before the ring no longer goes on from it.

        While Redis is away the two are all there is for who joins.
        """
        if self.known is not None and self._looking is None and not self._is_near(self.known.cursor):
            self._look()

    def _look(self) -> "asyncio.Future[Known]":
        self._looking = asyncio.ensure_future(self._source.known(self._topic))
        self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, looking: "asyncio.Future[Known]") -> None:
        if self._looking is looking:
            self._looking = None
        if not looking.cancelled() and looking.exception() is None:
            self.known = looking.result()

    def _is_near(self, cursor: Cursor) -> bool:
        return cursor.epoch == self.cursor.epoch and self.cursor.pos - cursor.pos <= MAX_EVENTS // 2

    # Its events

    def add(self, messages: Sequence[Message]) -> None:
        """Keep these, the newest; the cursor is the last one's by now."""
        self._ring.add(messages)

    def forget(self) -> None:
        """Give up the events: positions go on elsewhere, or nobody asks any more."""
        self._ring.clear()

    def after(self, pos: int) -> list[Message] | None:
        """What memory itself has from beyond ``pos`` to the cursor; None when it does not reach back so far."""
        return [] if pos == self.cursor.pos else self._ring.after(pos)

    async def reach_back(self, after: int) -> bool:
        """Have memory begin earlier, so that it has what lies beyond ``after``; returns whether it has.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        if self._before_ring() - after > self._ring.room:
            return False
        if self._filling is None:
            self._filling = asyncio.ensure_future(self._fill())
            self._filling.add_done_callback(self._filled)
        await asyncio.shield(self._filling)
        return self.after(after) is not None

    async def _fill(self) -> None:
        epoch, end = self.cursor.epoch, self._before_ring()
        tail = await self._source.tail(self._topic, epoch, upto=end, count=self._ring.room)
        if self.cursor.epoch == epoch and self._before_ring() == end:
            self._ring.put_before(tail)

    def _filled(self, filling: "asyncio.Future[None]") -> None:
        self._filling = None
        if not filling.cancelled():
            filling.exception()  # whoever waited has it

    def _before_ring(self) -> int:
        """The position before the ring's first event; where the ring is empty, the cursor's."""
        first = self._ring.first
        return self.cursor.pos if first is None else first - 1

    async def page(self, after: int, count: int = PAGE, *, upto: Cursor | None = None) -> list[Message]:
        """The feed's next ``count`` events beyond ``after``, up to the cursor or ``upto``.

        Empty when the feed no longer has the very next one.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        epoch, last = upto or self.cursor
        return await self._source.events(self._topic, epoch, after=after, upto=last, count=count)

    async def first_since(self, milliseconds: int, *, upto: int) -> int | None:
        """Position of the first event up to ``upto`` that was appended at this time or later; None: there is none.

        1 also when it may be an event that the feed no longer has.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        return await self._source.first_since(self._topic, milliseconds, upto=upto)
