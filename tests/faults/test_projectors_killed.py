"""Projectors that die, and rivals on one partition."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.standalone.embedded import Server
from tests.faults.round import round_of
from tests.faults.scale import Scale


async def test_projectors_killed_at_random_moments_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Callable[[list[str]], None]
) -> None:
    """Two projectors; whichever is killed, another is started at once."""
    async with round_of(tmp_path, scale, seed, own_redis.address, LEASE_SECONDS="1") as it:
        for _ in range(scale.kills):
            await it.load(it.random.uniform(0.2, 2 * scale.seconds / scale.kills))
            victim = it.random.choice(it.projectors)
            async with it.fault("kill -9 of a projector"):
                await victim.kill()
                it.projectors.remove(victim)
            await it.add_projector()
        await asyncio.gather(*(projector.ready() for projector in it.projectors))
        await it.load(1)
        tell(await it.finish())
