"""Projectors that die or stand still, and rivals on one partition."""

from collections.abc import Callable
from pathlib import Path

from services.standalone.embedded import Server
from tests.faults.round import round_of
from tests.faults.scale import Scale

Tell = Callable[[list[str]], None]


async def test_projectors_killed_at_random_moments_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, scale, seed, own_redis.address, LEASE_SECONDS="1") as it:
        for _ in range(scale.kills):
            await it.load(it.random.uniform(0.1, 0.8))
            await it.kill_projector()
        await it.load(1)
        tell(await it.finish())


async def test_rivals_that_die_in_turn_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """Each takes every partition for its own; with four of them a user's view is in another one than its workflows."""
    rival = "tests.faults.unshared_projector"
    async with round_of(tmp_path, scale, seed, own_redis.address, projector=rival, STREAM_PARTITIONS="4") as it:
        await it.load(scale.seconds)
        await it.kill_projector()
        await it.load(scale.seconds)
        tell(await it.finish())


async def test_projectors_that_stand_still_longer_than_their_lease_come_back_as_rivals_and_do_no_harm(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """Trimming goes on meanwhile, so what they read next is no longer where they were."""
    trimming = {"STREAM_MAX_ENTRIES": "100", "LEASE_SECONDS": "0.5"}
    async with round_of(tmp_path, scale, seed, own_redis.address, **trimming) as it:
        for number in range(4):
            still = it.projectors[number % 2]
            async with it.fault("a projector stands still"):
                still.pause()
                await it.load(1.5)
                still.resume()
            await it.load(0.5)
        tell(await it.finish())
