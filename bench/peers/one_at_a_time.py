"""The peer of `bench.projector`: FastStream as its tutorial has it, one message at a time, doing the same writes."""

import asyncio
import logging
import os
from typing import Any, cast

from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.annotations import RedisStreamMessage
from redis.asyncio import Redis

from core.log.checkpoint import Checkpoint
from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.history import History
from core.log.keys import GROUP, Keys
from core.log.reader import LogReader
from core.views.checkpoints import Checkpoints
from core.views.refold import Refolder
from core.views.repair import Repair
from core.views.store import ViewStore
from pipai_contracts.record import StreamId
from services.projector.partition import create_group
from services.projector.projection import Projection

URL, PREFIX = os.environ["REDIS_URL"], os.environ["KEY_PREFIX"]


async def main() -> None:
    """Follow the workflow stream until told to stop."""
    redis, keys = Redis.from_url(URL, protocol=2), Keys(PREFIX)
    source = keys.source("workflow:progress", 0)
    store = ViewStore(redis, keys, feed_length=1000, ttl=3600)
    history = History(LogReader(redis, keys), keys, None)
    refolder = Refolder(redis, keys, history, feed_length=store.feed_length, ttl=store.ttl)
    projection = Projection(keys, store, DeadLetters(redis, keys), Repair(redis, keys, store, refolder))
    checkpoints = Checkpoints(redis, keys)
    since = await checkpoints.load(source)
    logging.getLogger("quiet").setLevel(logging.ERROR)
    broker = RedisBroker(URL, socket_timeout=10, logger=logging.getLogger("quiet"))
    await create_group(redis, source)

    @broker.subscriber(
        stream=StreamSub(source.key, group=GROUP, consumer="one", max_records=500, polling_interval=1000),
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
    )
    async def take(message: RedisStreamMessage) -> None:
        nonlocal since
        raw = cast("dict[str, Any]", message.raw_message)
        entry = Entry(StreamId.parse(raw["message_ids"][0]), raw["data"])
        await projection.commit(await projection.fold(source, [entry]), since.stream_id)
        following = Checkpoint(entry.offset, entry.stream_id)
        await checkpoints.advance(source, following, since=since)
        since = following
        await redis.xack(source.key, GROUP, raw["message_ids"][0])

    _ = take
    await FastStream(broker, logger=logging.getLogger("quiet")).run()
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main())
