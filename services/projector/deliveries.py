"""What the consumer group delivers, on its way from FastStream to a follower."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, cast

from faststream.redis import StreamSub
from faststream.redis.message import FAKE_CONSUMER, RedisBatchStreamMessage

from core.log.entry import Entry
from pipai_contracts.record import StreamId


class Deliveries:
    """Batches of one source, given to ``take`` one after another. It is to raise nothing.

    FastStream is let go when a batch is begun with, so that it reads the next one meanwhile. Redis answers it before
    the commit of this one is sent; else each read would wait for a commit, and the next fold for that.
    """

    def __init__(self, take: Callable[[Sequence[Entry]], Awaitable[None]]) -> None:
        self._take = take
        self._taking: asyncio.Future[None] | None = None

    async def handle(self, entries: Sequence[Entry]) -> None:
        """What FastStream calls with each batch."""
        await self.end()
        self._taking = asyncio.ensure_future(self._take(entries))

    async def end(self) -> None:
        """Wait until what was begun with is done."""
        if self._taking is not None:
            await asyncio.wait([self._taking])


class BatchesOf(StreamSub):
    """A group's batches of one stream."""

    def add_prefix(self, prefix: str) -> Self:
        """Itself: there is no prefix, and FastStream would copy it deeply twice a batch to put none before its name."""
        _ = prefix
        return self


async def parse(message: Any) -> RedisBatchStreamMessage:
    """The batch as it was read. FastStream's parser would write all of it as JSON, to be read again."""
    return RedisBatchStreamMessage(message, b"", consumer=FAKE_CONSUMER, group=None)


async def decode(message: RedisBatchStreamMessage) -> list[Entry]:
    """The entries of the batch. Those without fields are gone from the stream."""
    raw = cast("dict[str, Any]", message.raw_message)
    pairs = zip(raw["message_ids"], raw["data"], strict=True)
    return [Entry(StreamId.parse(stream_id), fields) for stream_id, fields in pairs if fields]
