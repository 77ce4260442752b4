"""The hub: follows the change feed once per process and hands each change to the channel of its topic."""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.keys import Keys, partition_of
from core.log.layout import check_layout
from core.log.read import newest_id
from core.runtime.logs import get_logger
from core.runtime.tasks import end, report_failure, running
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from services.api import metrics
from services.api.channel import Channel, Doubt
from services.api.messages import (
    UNREADABLE,
    Message,
    degraded_message,
    error_message,
    is_rebuilt,
    message_of,
    path_of,
)
from services.api.ring import RingSpace
from services.api.sources import TopicSource
from services.api.viewers import Viewers

_READ: Final = 1_000
_RETRY_SECONDS: Final = 0.5

_LAYOUT_SECONDS: Final = 2.0
"""Seconds the start waits for a Redis that does not answer."""

_KEEP_SECONDS: Final = 60.0
"""How long a channel goes on when nobody watches: those who come back find their events in its ring."""

_MAX_UNWATCHED: Final = 10_000

_JOIN_SECONDS: Final = 10.0
"""Until who asked for a channel watches it, at most: a viewer that came to one that was closed would never be told."""

_SWEEP_SECONDS: Final = 5.0

log = get_logger()


class Hub:
    """Topic → its channel in this process, fed by one reader per change feed partition."""

    def __init__(
        self, redis: Redis, blocking: Redis, keys: Keys, source: TopicSource, viewers: Viewers, *, block_ms: int
    ) -> None:
        self._redis = redis
        self._blocking = blocking
        self._keys = keys
        self._source = source
        self._block_ms = block_ms
        self._channels: dict[Topic, Channel] = {}
        self._by_path: dict[bytes, Channel] = {}
        """The same, by what the change feed calls a topic: most entries are about topics nobody watches here."""
        self._space = RingSpace()
        self._positions: dict[int, int] = {}
        self._away: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.viewers = viewers
        self.delivery_seconds: float | None = None
        """From append to hand-over of the latest event."""

    @property
    def following(self) -> bool:
        """Whether every partition of the change feed is being read."""
        return len(self._positions) == self._keys.partitions and not self._away

    @property
    def away(self) -> bool:
        """Whether Redis does not answer."""
        return bool(self._away)

    async def channel(self, topic: Topic) -> Channel:
        """The topic's channel, which knows where the topic stands.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, and this process has not heard of the topic.
            UnreadableViewError: what is stored is no view this build can read.
        """
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = Channel(topic, self._source, self._space, self.spawn)
            self._by_path[topic.path.encode()] = channel
        channel.left = asyncio.get_running_loop().time()
        await channel.open()
        return channel

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it in the background, not longer than the hub runs."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(report_failure)
        return task

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Follow the change feed while the block lasts.

        Raises:
            LayoutError: the deployment has another number of partitions.
        """
        with suppress(RedisError, TimeoutError):  # one that is away is asked again before it is followed
            async with asyncio.timeout(_LAYOUT_SECONDS):
                await check_layout(self._redis, self._keys)
        readers = [self._follow(partition) for partition in range(self._keys.partitions)]
        try:
            async with running(*readers, self._sweep(), self.viewers.run()):
                yield
        finally:
            await end(self._tasks)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.close_unwatched(loop.time())

    def close_unwatched(self, now: float) -> None:
        """Close channels that nobody has watched for long, by the event loop's clock, or not so long if they are many.

        In a storm of reconnects thousands of topics are looked up before anybody watches them.
        """
        unwatched: list[Channel] = []
        for channel in self._channels.values():
            if channel.holders:
                channel.left = now
            else:
                unwatched.append(channel)
        unwatched.sort(key=lambda channel: channel.left)
        surplus = max(0, len(unwatched) - _MAX_UNWATCHED)
        for number, channel in enumerate(unwatched):
            if now - channel.left > (_JOIN_SECONDS if number < surplus else _KEEP_SECONDS):
                channel.close()
                del self._channels[channel.topic], self._by_path[channel.topic.path.encode()]

    async def _follow(self, partition: int) -> None:
        while True:
            try:
                if partition not in self._positions:
                    await check_layout(self._redis, self._keys)
                    self._positions[partition] = await self._end(partition)
                    # Who joined meanwhile may have missed what came before this end; the store has it.
                    self._doubt(partition, "began")
                await self._read(partition)
            except Exception as error:  # noqa: BLE001 - whatever it is: a reader that ends would end all delivery
                self._went_away(partition, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _end(self, partition: int) -> int:
        return (await newest_id(self._redis, self._keys.changes(partition))).milliseconds

    async def _read(self, partition: int) -> None:
        key = self._keys.changes(partition)
        position = self._positions[partition]
        reply = await self._blocking.xread({key: f"{position}-0"}, count=_READ, block=self._block_ms)
        self._came_back(partition)
        rows = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", reply)
        if not rows:
            newest = await self._end(partition)
            if newest < position:
                # The feed went back: what stands at our position now is something else.
                self._resync(partition, newest)
            return
        self._take(partition, rows[0][1])

    def _take(self, partition: int, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Hand out what was read: all of a topic's events together, as far as nothing comes between."""
        waiting: dict[Channel, list[Message]] = {}
        for entry_id, fields in entries:
            number = int(entry_id.partition(b"-")[0])
            # From 0, which is an empty feed, whatever comes first follows: a feed begins at the clock, not at 1.
            follows = self._positions[partition] in {0, number - 1}
            self._positions[partition] = number
            if not self._sort_in(fields, waiting) or not follows:
                self._hand_out(waiting)
                self._resync(partition, number)
        self._hand_out(waiting)
        self._observe(entries)

    def _sort_in(self, fields: dict[bytes, bytes], waiting: dict[Channel, list[Message]]) -> bool:
        """Put an entry with its topic's others; whether it could be read and is about a topic."""
        path = path_of(fields)
        if path is None:
            return False
        channel = self._by_path.get(path)
        if channel is None:
            return True
        try:
            if is_rebuilt(fields):
                self._hand_out(waiting)
                channel.doubt("lost")
            else:
                waiting.setdefault(channel, []).append(message_of(fields))
        except UNREADABLE:
            log.exception("stream change cannot be read", topic=channel.topic.path)
            return False
        return True

    def _hand_out(self, waiting: dict[Channel, list[Message]]) -> None:
        for channel, messages in waiting.items():
            channel.take(messages)
        waiting.clear()

    def _observe(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        metrics.CHANGES.inc(len(entries))
        appended = entries[-1][1].get(b"stream_id")
        if appended is not None:
            self.delivery_seconds = max(time.time() - StreamId.parse(appended).milliseconds / 1000, 0)
            metrics.DELIVERY_SECONDS.observe(self.delivery_seconds)

    def _resync(self, partition: int, position: int) -> None:
        """Go on from ``position`` and have the partition's channels look at the store."""
        self._positions[partition] = position
        metrics.RESYNCS.inc()
        log.warning("stream viewers resync", partition=partition, position=position)
        self._doubt(partition, "lost")

    def _doubt(self, partition: int, doubt: Doubt) -> None:
        for channel in self._channels_of(partition):
            channel.doubt(doubt)

    def _channels_of(self, partition: int) -> Iterator[Channel]:
        for topic, channel in list(self._channels.items()):
            if partition_of(topic, self._keys.partitions) == partition:
                yield channel

    def _went_away(self, partition: int, error: Exception) -> None:
        metrics.REDIS_UP.set(0)
        if partition not in self._away:
            log.warning("stream reading stops", partition=partition, error=str(error) or repr(error))
            if not self._away:
                self._notify(degraded_message())
            self._away.add(partition)

    def _came_back(self, partition: int) -> None:
        metrics.REDIS_UP.set(1)
        if partition in self._away:
            log.info("stream reading goes on", partition=partition)
            self._away.discard(partition)
            if not self._away:
                self._notify(error_message("recovered", "The event store is back."))
                for channel in list(self._channels.values()):
                    channel.doubt("recovered")

    def _notify(self, message: Message) -> None:
        for viewer in self.viewers:
            if viewer.greeted:
                viewer.write(message.frame)
