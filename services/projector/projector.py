"""A projector: a FastStream subscriber per source, and a watch over what the group does not deliver."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.annotations import RedisStreamMessage
from faststream.redis.subscriber.usecases.basic import LogicSubscriber
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.keys import GROUP, Keys, Source
from core.log.trim import Trimmer
from core.runtime.logs import get_logger
from core.runtime.redis import refuse_eviction
from core.runtime.tasks import end, running
from core.views.checkpoints import Checkpoints
from core.views.errors import CommitError
from core.views.store import ViewStore
from pipai_contracts.record import StreamId
from services.projector.follower import Follower, consumer_name
from services.projector.projection import Projection
from services.projector.settings import ProjectorSettings
from services.projector.turns import Turns

_LOOK_EVERY: Final = 2.0
"""Seconds between two looks for events the group did not deliver."""

log = get_logger()


class Projector:
    """Projects all sources of a deployment, for as long as its `running` block lasts."""

    def __init__(self, settings: ProjectorSettings, redis: Redis, broker: RedisBroker) -> None:
        self._settings = settings
        self._redis = redis
        self._broker = broker
        self._keys = Keys(settings.key_prefix, settings.stream_partitions)
        self._followers = self._make_followers()
        self._subscribers: dict[Follower, LogicSubscriber] = {}
        self.ready = False

    def _make_followers(self) -> list[Follower]:
        settings, keys, redis = self._settings, self._keys, self._redis
        store = ViewStore(redis, keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
        projection = Projection(keys, store, DeadLetters(redis, keys))
        checkpoints = Checkpoints(redis, keys)
        trimmer = Trimmer(redis, max_entries=settings.stream_max_entries)
        turns = self._turns = Turns()
        return [
            Follower(
                redis,
                keys,
                source,
                projection=projection,
                checkpoints=checkpoints,
                trimmer=trimmer,
                batch=settings.projector_batch,
                turns=turns,
            )
            for source in keys.sources()
        ]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Create the groups, project what is there already, then follow.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached at the start.
        """
        await refuse_eviction(self._redis)
        for follower in self._followers:
            await create_group(self._redis, follower.source)
            await follower.catch_up()
            self._subscribe(follower)
        await self._broker.start()
        try:
            async with running(self._watch()):
                self.ready = True
                yield
        finally:
            self.ready = False
            subscribers = list(self._subscribers.values())
            reading = [task for subscriber in subscribers for task in subscriber.tasks]
            await asyncio.gather(*(subscriber.stop() for subscriber in subscribers))
            await self._turns.end()
            await end(reading)  # FastStream does not wait for them: they would open connections nobody closes
            await self._broker.stop()

    def _subscribe(self, follower: Follower) -> None:
        """Have the group's batches brought to the follower.

        Groups are made by us, from the first event on: FastStream would make them from now on.
        """
        stream = StreamSub(
            follower.source.key,
            group=GROUP,
            consumer=consumer_name(follower.source),
            batch=True,
            max_records=self._settings.projector_batch,
            polling_interval=self._settings.stream_block_time,
        )
        subscriber = self._broker.subscriber(stream=stream, ack_policy=AckPolicy.MANUAL, no_reply=True)

        async def take(message: RedisStreamMessage) -> None:
            try:
                await follower.begin(_entries(message))
            except (RedisError, CommitError) as error:
                # Not acknowledged: the watch reads these events from the log.
                log.warning("stream batch not projected", stream=follower.source.key, error=str(error))

        subscriber(take)
        self._subscribers[follower] = subscriber

    async def _revive(self, follower: Follower) -> None:
        """Make a destroyed group again and start the subscriber that stopped over it."""
        subscriber = self._subscribers[follower]
        if not subscriber.running:
            log.warning("stream subscriber starts again", stream=follower.source.key)
            await subscriber.start()

    async def _watch(self) -> None:
        """Catch up on sources whose events wait though nobody delivers them: the last event before a silence."""
        waiting: dict[Follower, StreamId | None] = {}
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            for follower in self._followers:
                try:
                    waiting[follower] = await self._look(follower, waiting.get(follower))
                except Exception as error:  # noqa: BLE001 - a watch that ended would leave every source unwatched
                    log.warning("stream cannot be looked at", stream=follower.source.key, error=str(error))

    async def _look(self, follower: Follower, waited: StreamId | None) -> StreamId | None:
        """Help one source on; returns the event that waits there, ``waited`` is the one that did at the last look.

        An event counts as stranded when it waits for two looks. Its age would not do: ids may be ahead of the clock.
        """
        pending = await count_pending(self._redis, follower.source)
        await self._revive(follower)
        oldest = await follower.oldest_waiting()
        if oldest is not None and oldest == waited:
            count = await follower.catch_up()
            log.info("stream caught up", stream=follower.source.key, events=count)
            return None
        if oldest is None and pending:
            await follower.clear_pending()
        return oldest


async def create_group(redis: Redis, source: Source) -> None:
    """Make the projectors' group, from the stream's first event on, unless it is there."""
    try:
        await redis.xgroup_create(source.key, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def count_pending(redis: Redis, source: Source) -> int:
    """How many entries the group gave out that nobody acknowledged; a group that is gone is made again."""
    try:
        return int((await redis.xpending(source.key, GROUP))["pending"])
    except ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
    await create_group(redis, source)
    return 0


def _entries(message: RedisStreamMessage) -> list[Entry]:
    raw = cast("dict[str, Any]", message.raw_message)
    pairs = zip(raw["message_ids"], raw["data"], strict=True)
    return [Entry(StreamId.parse(stream_id), fields) for stream_id, fields in pairs if fields]
