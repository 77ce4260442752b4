"""The log damaged by hand, and trimmed all the while."""

from collections.abc import Callable
from pathlib import Path

from core.log.keys import GROUP
from services.standalone.embedded import Server
from tests.faults.checker import lost_by_redis
from tests.faults.round import round_of
from tests.faults.scale import Scale

Tell = Callable[[list[str]], None]


async def test_destroyed_groups_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        await it.load(scale.seconds)
        for source in it.keys.sources():
            async with it.fault("a consumer group is destroyed"):
                await it.redis.xgroup_destroy(source.key, GROUP)
            await it.load(0.3)
        await it.load(scale.seconds)
        tell(await it.finish())


async def test_a_log_trimmed_by_hand_while_nobody_projects_is_counted_and_told(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        await it.load(scale.seconds)
        async with it.fault("XTRIM by hand", loses=True):
            for projector in it.projectors:
                projector.pause()
            await it.load(0.7)
            for source in it.keys.sources():
                await it.redis.xtrim(source.key, maxlen=10, approximate=False)
            for projector in it.projectors:
                projector.resume()
        await it.load(scale.seconds)
        figures = await it.finish()
        counted = sum([await projector.counted("pipai_lost_events_total") for projector in it.projectors])
        lost = lost_by_redis(it.history.happenings, it.keys)
        assert counted >= len(lost) > 0
        tell(figures)


async def test_trimming_all_the_while_takes_nothing_that_is_not_in_its_views(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """Also when projectors die, and feeds are so short that a viewer who comes back late is told to begin anew."""
    async with round_of(
        tmp_path, scale, seed, own_redis.address, STREAM_MAX_ENTRIES="150", LEASE_SECONDS="1", IDEMPOTENCY_WINDOW="60"
    ) as it:
        for _ in range(3):
            await it.load(1)
            await it.kill_projector()
        await it.load(scale.seconds)
        tell(await it.finish())
        lengths = [await it.redis.xlen(source.key) for source in it.keys.sources()]
        assert max(lengths) < it.workload.published / 4
