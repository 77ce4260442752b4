"""One partition's four sources, for as long as this projector holds its lease."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Final

from faststream import AckPolicy
from faststream.redis import RedisBroker
from faststream.redis.subscriber.usecases.basic import LogicSubscriber
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from core.log.entry import Entry
from core.log.keys import GROUP, Source
from core.runtime.logs import get_logger
from core.runtime.tasks import end, running
from pipai_contracts.record import StreamId
from services.projector import deliveries, metrics
from services.projector.deliveries import BatchesOf, Deliveries
from services.projector.follower import Follower
from services.projector.pending import consumer_name
from services.projector.retention import Retention
from services.projector.turns import Turns

_LOOK_EVERY: Final = 2.0
"""Seconds between two looks for events the group did not deliver."""

_LOOKS_PER_TIDYING: Final = 5
"""Entries that stay pending though the views have them do no harm: asking for them at every look would only cost."""

log = get_logger()


class Partition:
    """A FastStream subscriber for each source of a partition, and a watch over what the group does not deliver."""

    def __init__(  # noqa: PLR0913 - a partition is where reading, projecting and keeping meet
        self,
        redis: Redis,
        broker: RedisBroker,
        followers: Sequence[Follower],
        turns: Turns,
        *,
        retention: Retention,
        repair: Callable[[], Awaitable[None]],
        batch: int,
        block_ms: int,
    ) -> None:
        self._redis = redis
        self._broker = broker
        self._followers = followers
        self._retention = retention
        self._repair = repair
        self._begun: set[Follower] = set()
        self._troubles: dict[Follower, str] = {}
        self._turns = turns
        self._batch = batch
        self._block_ms = block_ms
        self._subscribers: dict[Follower, LogicSubscriber] = {}
        self._deliveries: dict[Follower, Deliveries] = {}
        self.caught_up = False
        """Whether what was there at the beginning is projected, and every source is subscribed to."""

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[None]:
        """Project what is there already, then follow; at the end the batches under way are finished first."""
        try:
            async with running(self._follow()):
                yield
        finally:
            await self._unsubscribe()
            for follower in self._followers:  # without this what was true last would be told for ever
                metrics.LAG_SECONDS.remove(follower.source.name)
                metrics.WAITING.remove(follower.source.name)

    async def _follow(self) -> None:
        """Begin with every source, then watch over them. What is wrong with one keeps no other from being followed."""
        waiting: dict[Follower, StreamId | None] = {}
        for look in count():
            for follower in self._followers:
                try:
                    waiting[follower] = await self._attend(follower, waiting.get(follower))
                    if look % _LOOKS_PER_TIDYING == _LOOKS_PER_TIDYING - 1 and waiting[follower] is None:
                        await self._tidy(follower)
                    self._troubles.pop(follower, None)
                except Exception as error:  # noqa: BLE001 - a watch that ended would leave every source unwatched
                    await self._note_trouble(follower, error)
            self.caught_up = len(self._begun) == len(self._followers)
            await asyncio.sleep(_LOOK_EVERY)

    async def _attend(self, follower: Follower, waited: StreamId | None) -> StreamId | None:
        if follower in self._begun:
            return await self._look(follower, waited)
        await create_group(self._redis, follower.source)
        await follower.catch_up()
        await self._subscribe(follower)
        self._begun.add(follower)
        return None

    async def _note_trouble(self, follower: Follower, error: Exception) -> None:
        """Say it once; and put right what may be why Redis refused, so that the next look succeeds."""
        told = str(error) or repr(error)
        if self._troubles.get(follower) != told:
            log.warning("stream cannot be followed", stream=follower.source.key, error=told)
            self._troubles[follower] = told
        if not isinstance(error, ResponseError | ValueError):
            return
        try:
            await self._repair()
        except (RedisError, ValueError) as failure:
            log.warning("keys cannot be repaired", error=str(failure))

    async def _subscribe(self, follower: Follower) -> None:
        """Have the group's batches brought to the follower.

        Groups are made by us, from the first event on: FastStream would make them from now on.
        """
        if follower not in self._subscribers:
            stream = BatchesOf(
                follower.source.key,
                group=GROUP,
                consumer=consumer_name(follower.source),
                batch=True,
                max_records=self._batch,
                polling_interval=self._block_ms,
            )
            # persistent=False: the broker would keep every subscriber there ever was.
            subscriber = self._broker.subscriber(
                stream=stream,
                parser=deliveries.parse,
                decoder=deliveries.decode,
                ack_policy=AckPolicy.MANUAL,
                no_reply=True,
                persistent=False,
            )
            self._deliveries[follower] = Deliveries(partial(_take, follower))
            subscriber(self._deliveries[follower].handle)
            self._subscribers[follower] = subscriber
        if not self._subscribers[follower].running:
            await self._subscribers[follower].start()

    async def _unsubscribe(self) -> None:
        subscribers = list(self._subscribers.values())
        reading = [task for subscriber in subscribers for task in subscriber.tasks]
        await asyncio.gather(*(subscriber.stop() for subscriber in subscribers))
        await end(reading)  # FastStream does not wait for them: they would open connections nobody closes
        await asyncio.gather(*(begun.end() for begun in self._deliveries.values()))
        async with self._turns.folding:  # who folds just now is to hear itself of what failed
            await self._turns.end()
        self._subscribers.clear()
        self._deliveries.clear()

    async def _revive(self, follower: Follower) -> None:
        """Make a destroyed group again and start the subscriber that stopped over it."""
        subscriber = self._subscribers[follower]
        if not subscriber.running:
            log.warning("stream subscriber starts again", stream=follower.source.key)
            await create_group(self._redis, follower.source)
            await subscriber.start()

    async def _look(self, follower: Follower, waited: StreamId | None) -> StreamId | None:
        """Help one source on; returns the event that waits there, ``waited`` is the one that did at the last look.

        An event counts as stranded when it waits for two looks. Its age would not do: ids may be ahead of the clock.
        """
        await self._revive(follower)
        oldest = await follower.oldest_waiting()
        await self._retention.look(follower.source)
        if follower.doubtful or (oldest is not None and oldest == waited):
            events = await follower.catch_up()
            log.info("stream caught up", stream=follower.source.key, events=events)
            return None
        return oldest

    async def _tidy(self, follower: Follower) -> None:
        """Acknowledge what was projected but stayed pending, as after a lost reply."""
        if (await self._redis.xpending(follower.source.key, GROUP))["pending"]:
            await follower.clear_pending()


async def create_group(redis: Redis, source: Source) -> None:
    """Make the projectors' group, from the stream's first event on, unless it is there."""
    try:
        await redis.xgroup_create(source.key, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def _take(follower: Follower, entries: Sequence[Entry]) -> None:
    try:
        await follower.begin(entries)
    except Exception as error:  # noqa: BLE001 - nobody else would hear of it
        # Not acknowledged: the watch reads these events from the log.
        log.warning("stream batch not projected", stream=follower.source.key, error=str(error))
