"""Redis that dies, and connections to it that break."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.standalone.embedded import Server
from tests.faults.rough_proxy import RoughProxy
from tests.faults.round import SERVICES, round_of
from tests.faults.scale import Scale

Tell = Callable[[list[str]], None]


async def test_a_redis_killed_and_started_again_has_lost_nothing_of_ours(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        for _ in range(2):
            await it.load(scale.seconds)
            async with it.fault("kill -9 of Redis"):
                own_redis.kill()
                await it.load(0.5)
                await asyncio.to_thread(own_redis.start)
        await it.load(scale.seconds)
        tell(await it.finish())


async def test_lost_replies_cut_connections_and_delays_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with (
        RoughProxy.before(own_redis.address) as proxy,
        round_of(tmp_path, scale, seed, own_redis.address, dict.fromkeys(SERVICES, proxy.url)) as it,
    ):
        proxy.random = it.random
        async with it.fault("replies of Redis are lost"):
            proxy.dropping = 5
            await it.load(scale.seconds)
            proxy.dropping = 0
        for _ in range(3):
            async with it.fault("connections are cut"):
                await proxy.cut()
                await it.load(0.3)
                proxy.release()
            await it.load(0.7)
        async with it.fault("replies of Redis are slow"):
            proxy.delay = 0.05
            await it.load(scale.seconds)
            proxy.delay = 0
        await it.load(0.5)
        tell(await it.finish())
