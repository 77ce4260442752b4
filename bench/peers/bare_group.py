"""The peer of `bench.projector`: what reading and acknowledging alone takes through redis-py."""

import asyncio
import os
from typing import Any, cast

from redis.asyncio import Redis

from core.log.keys import GROUP, Keys
from services.projector.partition import create_group


async def main() -> None:
    """Read and acknowledge the workflow stream until ended."""
    async with Redis.from_url(os.environ["REDIS_URL"], protocol=2, socket_timeout=10) as redis:
        source = Keys(os.environ["KEY_PREFIX"]).source("workflow:progress", 0)
        await create_group(redis, source)
        while True:
            reply = await redis.xreadgroup(GROUP, "bare", {source.key: ">"}, count=500, block=1000)
            for _, entries in cast("list[Any]", reply):
                await redis.xack(source.key, GROUP, *[stream_id for stream_id, _ in entries])


if __name__ == "__main__":
    asyncio.run(main())
