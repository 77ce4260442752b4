"""The hub: follows the change feed once per process and hands each change to the viewers of its topic."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, cast

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.log.keys import Keys, partition_of
from core.log.layout import check_layout
from core.runtime.logs import get_logger
from core.runtime.tasks import running
from core.views.store import ViewStore
from core.views.stored import Snapshot
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from services.api import metrics
from services.api.changes import change_of, is_rebuilt, topic_of
from services.api.subscription import Signal, Subscription

_READ: Final = 1_000
_RETRY_SECONDS: Final = 0.5
_SNAPSHOT_SECONDS: Final = 5.0
"""Seconds a viewer waits for a state; the client's own retries on a Redis that hangs take three times as long."""

_LAYOUT_SECONDS: Final = 2.0
"""Seconds the start waits for a Redis that does not answer."""

log = get_logger()


class Hub:
    """Topic → its viewers in this process, fed by one reader per change feed partition."""

    def __init__(self, redis: Redis, blocking: Redis, keys: Keys, store: ViewStore, *, block_ms: int) -> None:
        self._redis = redis
        self._blocking = blocking
        self._keys = keys
        self._store = store
        self._block_ms = block_ms
        self._topics: dict[Topic, set[Subscription]] = {}
        self._positions: dict[int, int] = {}
        self._away: set[int] = set()
        self.shutdown = anyio.Event()

    @property
    def active_streams(self) -> int:
        """Viewers of this process."""
        return sum(len(viewers) for viewers in self._topics.values())

    @property
    def following(self) -> bool:
        """Whether every partition of the change feed is being read."""
        return len(self._positions) == self._keys.partitions and not self._away

    async def snapshot(self, topic: Topic) -> Snapshot:
        """The topic's view and cursor, as the store has them.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        try:
            async with asyncio.timeout(_SNAPSHOT_SECONDS):
                return await self._store.snapshot(topic, partition_of(topic, self._keys.partitions))
        except TimeoutError as error:
            raise RedisTimeoutError(f"no answer within {_SNAPSHOT_SECONDS} s") from error

    @contextmanager
    def subscribe(self, topic: Topic) -> Generator[Subscription]:
        """A subscription that gets every change from now on.

        Whoever joins subscribes first and loads the snapshot then: what both contain is told apart by position.
        """
        subscription = Subscription()
        self._topics.setdefault(topic, set()).add(subscription)
        active = metrics.ACTIVE_STREAMS.labels(topic.kind)
        active.inc()
        if self._away:
            subscription.offer("degraded")
        if self.shutdown.is_set():
            subscription.offer("shutdown")
        try:
            yield subscription
        finally:
            active.dec()
            viewers = self._topics[topic]
            viewers.discard(subscription)
            if not viewers:
                del self._topics[topic]

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
        async with running(*readers, self._announce_shutdown()):
            yield

    async def _announce_shutdown(self) -> None:
        await self.shutdown.wait()
        self._signal_all("shutdown")

    async def _follow(self, partition: int) -> None:
        while True:
            try:
                if partition not in self._positions:
                    await check_layout(self._redis, self._keys)
                    self._positions[partition] = await self._end(partition)
                    # Who joined meanwhile may have missed what came before this end; the store has it.
                    self._signal_partition(partition, "began")
                await self._read(partition)
            except Exception as error:  # noqa: BLE001 - whatever it is: a reader that ends would end all delivery
                self._went_away(partition, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _end(self, partition: int) -> int:
        newest = await self._redis.xrevrange(self._keys.changes(partition), count=1)
        return StreamId.parse(cast("list[Any]", newest)[0][0]).milliseconds if newest else 0

    async def _read(self, partition: int) -> None:
        key = self._keys.changes(partition)
        position = self._positions[partition]
        reply = await self._blocking.xread({key: f"{position}-0"}, count=_READ, block=self._block_ms)
        self._came_back(partition)
        rows = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", reply)
        if not rows:
            end = await self._end(partition)
            if end < position:
                # The feed went back: what stands at our position now is something else.
                self._resync(partition, end)
            return
        for entry_id, fields in rows[0][1]:
            self._take(partition, StreamId.parse(entry_id).milliseconds, fields)
        metrics.CHANGES.inc(len(rows[0][1]))

    def _take(self, partition: int, number: int, fields: dict[bytes, bytes]) -> None:
        # From 0, which is an empty feed, whatever comes first follows: a feed begins at the clock, not at 1.
        follows = self._positions[partition] in {0, number - 1}
        self._positions[partition] = number
        try:
            topic = topic_of(fields)
            if topic is not None:
                self._hand_out(topic, fields)
                if follows:
                    return
        except (ValueError, LookupError, TypeError, AttributeError):
            log.exception("stream change cannot be read", partition=partition, number=number)
        self._resync(partition, number)

    def _hand_out(self, topic: Topic, fields: dict[bytes, bytes]) -> None:
        viewers = self._topics.get(topic)
        if not viewers:
            return
        if is_rebuilt(fields):
            for subscription in viewers:
                subscription.offer("lost")
            return
        change = change_of(fields)
        for subscription in viewers:
            subscription.offer(change)
        metrics.DELIVERED.labels(topic.kind).inc(len(viewers))
        appended = StreamId.parse(fields[b"stream_id"]).milliseconds
        metrics.DELIVERY_SECONDS.observe(max(time.time() - appended / 1000, 0))
        log.debug("stream event delivered", topic=topic.path, pos=change.pos, viewers=len(viewers))

    def _resync(self, partition: int, position: int) -> None:
        """Go on from ``position`` and have the partition's viewers start from the state again."""
        self._positions[partition] = position
        metrics.RESYNCS.inc()
        log.warning("stream viewers resync", partition=partition, position=position)
        self._signal_partition(partition, "lost")

    def _went_away(self, partition: int, error: Exception) -> None:
        metrics.REDIS_UP.set(0)
        if partition not in self._away:
            log.warning("stream reading stops", partition=partition, error=str(error) or repr(error))
            if not self._away:
                self._signal_all("degraded")
            self._away.add(partition)

    def _came_back(self, partition: int) -> None:
        metrics.REDIS_UP.set(1)
        if partition in self._away:
            log.info("stream reading goes on", partition=partition)
            self._away.discard(partition)
            if not self._away:
                self._signal_all("recovered")

    def _signal_all(self, signal: Signal) -> None:
        for viewers in self._topics.values():
            for subscription in viewers:
                subscription.offer(signal)

    def _signal_partition(self, partition: int, signal: Signal) -> None:
        for topic, viewers in self._topics.items():
            if partition_of(topic, self._keys.partitions) == partition:
                for subscription in viewers:
                    subscription.offer(signal)
