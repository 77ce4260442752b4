"""Whether a deployment stands still: nobody at work, and every event in its views."""

import asyncio
import time
from typing import Any, Final, cast

from redis.asyncio import Redis

from core.log.keys import Keys
from core.runtime.redis import ask_holder
from core.views.checkpoints import Checkpoints
from pipai_contracts.record import StreamId
from services.admin.command import RefusedError

_API_SILENT: Final = 10.0
"""Seconds after which an api that said nothing counts as gone; it speaks every two."""

LOOK_SECONDS: Final = 2.0
"""How long is watched whether something is appended."""


async def refuse_while_at_work(redis: Redis, keys: Keys) -> None:
    """Refuse while a projector, an archiver or an api runs.

    Raises:
        RefusedError: one does.
    """
    seconds, micros = await ask_holder(redis, keys.projectors, "TIME")
    members = await redis.zrangebyscore(keys.projectors, seconds * 1000 + micros // 1000, "+inf")
    projectors = cast("list[bytes]", members)
    if projectors:
        names = ", ".join(name.decode() for name in projectors)
        raise RefusedError(f"projectors are at work ({names}): stop every service, wait some seconds, run this again")
    told = cast("dict[bytes, bytes]", await redis.hgetall(keys.connections))
    apis = [entry for entry in told.values() if time.time() - float(entry.split(b" ")[1]) < _API_SILENT]
    if apis:
        raise RefusedError(f"api processes are at work ({len(apis)}): stop every service, wait 10 s, run this again")
    if await redis.exists(keys.archiver):
        raise RefusedError("an archiver is at work: stop every service, wait some seconds, run this again")


async def refuse_unprojected(redis: Redis, keys: Keys) -> None:
    """Refuse while an event is in no view yet, or events come in.

    Raises:
        RefusedError: one is, or they do.
    """
    checkpoints = Checkpoints(redis, keys)
    for source in keys.sources():
        newest = cast("list[Any]", await redis.xrevrange(source.key, count=1))
        reached = (await checkpoints.load(source)).stream_id
        if newest and StreamId.parse(newest[0][0]) > reached:
            raise RefusedError(
                f"{source.key} has events that are in no view yet: stop what publishes, let a projector finish, "
                f"then stop it and run this again"
            )
    before = await offsets(redis, keys)
    await asyncio.sleep(LOOK_SECONDS)
    if await offsets(redis, keys) != before:
        raise RefusedError("events come in: stop every ingest and worker, let a projector finish, then run this again")


async def offsets(redis: Redis, keys: Keys) -> list[bytes | None]:
    """The offset of the newest event of each source."""
    async with redis.pipeline(transaction=False) as pipe:
        for source in keys.sources():
            pipe.get(source.offset)
        return cast("list[bytes | None]", await pipe.execute())
